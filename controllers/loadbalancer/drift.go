package loadbalancer

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// EventDrifted has no like upstream, which does not look for drift.
const EventDrifted = "DriftedLoadBalancer"

// findDrift wakes the Services whose balancers differ from what the last pass left, and notes what differs. What was
// touched since the list began, or so shortly before that the list may not show it, or is worked on, is not comparable
// with it.
func (r *Reconciler) findDrift(name string, p cloud.Provider, seen *snapshot, started time.Time) {
	before := started.Add(-p.Capabilities().ReadLag)
	for _, e := range r.ledger.all(name) {
		if e := r.ledger.resume(e, owesPass); e != nil {
			r.findDriftOf(e, p, seen, before, started)
		}
	}
}

// findDriftOf is findDrift for one Service, whose entry it gives back whatever the provider does.
func (r *Reconciler) findDriftOf(e *entry, p cloud.Provider, seen *snapshot, before, started time.Time) {
	defer r.end(e)
	observed := seen.owners[e.owner.ID()]
	if e.touched.Before(before) && e.drifted(p, observed) {
		e.note(p, observed, started)
		e.drift = true
		r.wake(e.name, priorityLow)
	}
}

// drifted reports whether there is something else in the cloud than the last pass left. Under Plan it always is: what
// is planned has to be told anew. What is not settled has a pass to come that looks by itself, or waits for a change of the Service
// or of what it sends to.
func (e *entry) drifted(p cloud.Provider, observed []cloud.Resource) bool {
	if e.options.Policy == v1alpha1.PolicyPlan {
		return true
	}
	if !e.settled || e.sent == nil {
		return false
	}
	desired, err := e.desired(p, e.sent)
	if err != nil {
		return false // a later sweep asks again
	}
	out, err := cloud.Compare(e.owner, desired, observed, e.options)
	return err == nil && len(out.Left.Operations) > 0
}

// note keeps what a sweep found different, for the pass to tell.
func (e *entry) note(p cloud.Provider, observed []cloud.Resource, at time.Time) {
	if !e.looked {
		return // what it had is not known
	}
	had, err := e.asObserved(p)
	if err != nil {
		return // the pass tells what it finds
	}
	e.tell(cloud.Differences(had, observed), at)
}

// noteSince keeps what became of a Service's resources while no manager ran, as far as the record tells: by their ids. Only
// where that was the end of a pass with nothing left to do, for the Service as it is now, and was written so long before the
// sweep that this shows it.
func (e *entry) noteSince(v *view, observed []cloud.Resource, seenAt time.Time, lag time.Duration) {
	last := v.record.Status
	ready := meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue || last.ServiceFingerprint != cloud.Fingerprint(v.service) {
		return
	}
	if lag > 0 && !writtenAt(v.record).Add(lag+time.Second).Before(seenAt) { // the API server's times are of whole seconds
		return
	}
	var left, now []cloud.Resource
	for _, r := range last.Resources {
		left = append(left, cloud.Resource{Kind: r.Kind, Key: r.Key, ID: r.ID})
	}
	for _, r := range observed {
		now = append(now, cloud.Resource{Kind: r.Kind, Key: r.Key, ID: r.ID, State: r.State})
	}
	e.tell(cloud.Differences(left, now), seenAt)
}

// writtenAt is when our part of a record was last changed.
func writtenAt(record *v1alpha1.LoadBalancerRecord) time.Time {
	var at time.Time
	for _, f := range record.ManagedFields {
		if f.Manager == FieldManager && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// tell keeps differences for the pass to tell; none leaves what was told before.
func (e *entry) tell(differences []cloud.Difference, at time.Time) {
	if len(differences) == 0 {
		return
	}
	drift := &v1alpha1.Drift{State: v1alpha1.DriftFound, FoundAt: metav1.NewTime(at).Rfc3339Copy()}
	for i, d := range differences {
		countDrift(e.provider, d.Kind)
		if i < v1alpha1.MaxDriftedResources {
			drift.Resources = append(drift.Resources, v1alpha1.DriftedResource{Kind: d.Kind, Key: d.Key, Difference: d.What})
		} else {
			drift.More++
		}
	}
	e.found = drift
}

// driftAfter is what the record says of drift after a pass: what was found last, and whether it is still so.
func driftAfter(last *v1alpha1.Drift, res result) *v1alpha1.Drift {
	drift := last
	if res.drift != nil && !told(last, res.drift) {
		drift = res.drift
	}
	if drift == nil || drift.State != v1alpha1.DriftFound || !res.observed || res.status != metav1.ConditionTrue {
		return drift
	}
	drift = drift.DeepCopy()
	now := metav1.Now().Rfc3339Copy()
	drift.State, drift.RepairedAt = v1alpha1.DriftRepaired, &now
	return drift
}

// told reports whether drift is what the record has last. Times are compared for equality alone: the clock of a manager before
// this one may have been ahead.
func told(last, found *v1alpha1.Drift) bool { return last != nil && last.FoundAt.Equal(&found.FoundAt) }

// eventDrift tells of drift that the record did not know.
func (r *Reconciler) eventDrift(svc *corev1.Service, last *v1alpha1.Drift, res result, policy v1alpha1.Policy) {
	if res.drift == nil || told(last, res.drift) {
		return
	}
	parts := make([]string, len(res.drift.Resources))
	for i, d := range res.drift.Resources {
		parts[i] = d.Kind + "/" + d.Key + ": " + d.Difference
	}
	if res.drift.More > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", res.drift.More))
	}
	then := "it is put right"
	if policy == v1alpha1.PolicyPlan {
		then = "it is left so, because the policy is Plan"
	}
	r.event(svc, corev1.EventTypeWarning, EventDrifted, actionEnsure,
		fmt.Sprintf("Somebody else changed the load balancer, %s: %s", then, strings.Join(parts, "; ")))
}
