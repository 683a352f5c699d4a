package endpointslice

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	fairleadac "github.com/fairlead/fairlead/applyconfiguration/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// reportPause is how long numbers in a status may be behind, so that Pods that come and go do not cost a write each.
const reportPause = time.Second

const actionSelect = "SelectPods"

// reports remembers what was last written of each EndpointSelector, for the cache may be behind.
type reports struct {
	mu    sync.Mutex
	byUID map[types.UID]report
}

type report struct {
	status *v1alpha1.EndpointSelectorStatus
	at     time.Time
	// version is the resourceVersion that the status came with.
	version string
}

func newReports() *reports { return &reports{byUID: map[types.UID]report{}} }

// last returns what the status of an EndpointSelector is, and when it was written; the zero time where that is long
// ago.
func (r *reports) last(es *v1alpha1.EndpointSelector) (*v1alpha1.EndpointSelectorStatus, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.byUID[es.UID]; ok {
		return last.status, last.at
	}
	return &es.Status, time.Time{}
}

// edited takes over a status from the cache and says whether that is news: someone else wrote it, or perhaps we did and
// do not know it yet.
func (r *reports) edited(es *v1alpha1.EndpointSelector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.byUID[es.UID]
	switch {
	case !ok:
		return true
	case !endpoints.Newer(es.ResourceVersion, last.version) || equality.Semantic.DeepEqual(last.status, &es.Status):
		return false
	}
	r.byUID[es.UID] = report{status: &es.Status, at: last.at, version: es.ResourceVersion}
	return true
}

func (r *reports) wrote(uid types.UID, is report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byUID[uid] = is
}

func (r *reports) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byUID, uid)
}

// reportAll writes the status of the EndpointSelectors that name a Service, which is nil where there is none: the
// outcome of the oldest, and of the others that it has the Service. It returns when to look again; zero: not of itself.
func (r *Reconciler) reportAll(ctx context.Context, service *corev1.Service, st *state, naming []*v1alpha1.EndpointSelector, problem *refusal) (time.Duration, error) {
	var again time.Duration
	for i, es := range naming {
		o := outcome{refused: judgeService(service, es.Spec.Fairlead.ServiceName)}
		switch {
		case o.refused != nil:
		case st.chosen == nil:
			continue // The pass did not come to it.
		case i > 0:
			o.refused = &refusal{v1alpha1.ReasonServiceTaken, fmt.Sprintf("EndpointSelector %q is older and has Service %q: delete one of them, or name another Service in spec.fairlead.serviceName",
				naming[0].Name, service.Name)}
		default:
			o = st.outcome(problem)
		}
		wait, err := r.report(ctx, es, o)
		if err != nil {
			return 0, err
		}
		again = sooner(again, wait)
	}
	return again, nil
}

// problemOf says why the slices were not written: they were left to someone else, or err.
func problemOf(rest time.Duration, err error) *refusal {
	switch {
	case err != nil:
		return &refusal{v1alpha1.ReasonWriteFailed, "it is tried again: " + oneLine(err)}
	case rest > 0:
		return &refusal{v1alpha1.ReasonSliceOwnershipConflict, "someone else writes the slices, too: see the condition " + v1alpha1.ConditionSliceOwnershipConflict + " of the Service"}
	}
	return nil
}

// outcome is that of the EndpointSelector which has the Service.
func (s *state) outcome(problem *refusal) outcome {
	o := outcome{refused: s.chosen.refused(), problem: problem, choice: s.chosen.choice, census: s.chosen.census}
	if s.set != nil {
		o.serving, o.waiting = new(s.set.Serving()), len(s.set.Waiting())
	}
	return o
}

// sooner returns the shorter of two times to wait, of which zero is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// there says whether the cache has an EndpointSelector, and no other of its name.
func (r *Reconciler) there(ctx context.Context, es *v1alpha1.EndpointSelector) bool {
	var now v1alpha1.EndpointSelector
	return r.Client.Get(ctx, client.ObjectKeyFromObject(es), &now, client.UnsafeDisableDeepCopy) == nil && now.UID == es.UID
}

// report writes the status of one EndpointSelector, if it differs, and makes events of what changed. It returns when to
// look again.
func (r *Reconciler) report(ctx context.Context, es *v1alpha1.EndpointSelector, o outcome) (time.Duration, error) {
	now := r.Clock.Now()
	last, at := r.reports.last(es)
	next := statusOf(es, last, o, metav1.NewTime(now).Rfc3339Copy())
	if equality.Semantic.DeepEqual(last, next) {
		return 0, nil
	}
	if wait := at.Add(reportPause).Sub(now); wait > 0 && !urgent(last, next) {
		return wait, nil
	}
	object := fairleadac.EndpointSelector(es.Name, es.Namespace).WithUID(es.UID).WithStatus(applyStatus(next))
	err := r.Client.Status().Apply(ctx, object, client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil // It is gone, or another of its name is there, whose own event comes.
	}
	if err != nil {
		return 0, fmt.Errorf("applying the status of EndpointSelector %s: %w", es.Name, err)
	}
	r.reports.wrote(es.UID, report{status: next, at: now, version: ptr.Deref(object.ResourceVersion, "")})
	if !r.there(ctx, es) {
		r.reports.forget(es.UID) // The event of its deletion came before we had something to forget.
	}
	for _, c := range changes(last, next) {
		kind := corev1.EventTypeNormal
		if c.warning {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(es, nil, kind, c.reason, actionSelect, "%s", c.message)
	}
	return 0, nil
}

func applyStatus(status *v1alpha1.EndpointSelectorStatus) *fairleadac.EndpointSelectorStatusApplyConfiguration {
	apply := fairleadac.EndpointSelectorStatus().WithActiveGroup(status.ActiveGroup) // Ours even where it is empty.
	apply.Pods, apply.Endpoints, apply.ReadyEndpoints = status.Pods, status.Endpoints, status.ReadyEndpoints
	apply.ExcludedAddresses = status.ExcludedAddresses
	for _, c := range status.Conditions {
		apply.WithConditions(applymetav1.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).
			WithMessage(c.Message).WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime))
	}
	return apply
}
