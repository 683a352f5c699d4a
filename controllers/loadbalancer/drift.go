package loadbalancer

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	lag := p.Capabilities().ReadLag
	for _, e := range r.ledger.all(name) {
		if e := r.ledger.resume(e); e != nil {
			if e.touched.Add(lag).Before(started) && e.drifted(p, seen.owners[e.owner.ID()]) {
				e.note(p, seen.owners[e.owner.ID()], started)
				e.drift = true
				r.wake(e.name, priorityLow)
			}
			r.end(e)
		}
	}
}

// drifted reports whether there is something else in the cloud than the last pass left. Under Plan it always is: what
// is planned has to be told anew. What is not settled comes again by itself.
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
	differences := cloud.Differences(had, observed)
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
	if res.drift != nil && (last == nil || last.FoundAt.Before(&res.drift.FoundAt)) {
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

// eventDrift tells of drift that the record did not know.
func (r *Reconciler) eventDrift(svc *corev1.Service, last *v1alpha1.Drift, res result, policy v1alpha1.Policy) {
	if res.drift == nil || last != nil && !last.FoundAt.Before(&res.drift.FoundAt) {
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
