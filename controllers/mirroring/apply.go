package mirroring

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/endpoints"
)

// apply does the writes of a plan in their order. A write that fails does not keep the others from being done, but for
// those that take away what the failed one was to put elsewhere. Outdated: the API server knew more than the plan,
// which has to be made again.
func (r *Reconciler) apply(ctx context.Context, seen *observation, st *state, plan endpoints.MirrorPlan) (outdated bool, err error) {
	observeChanges(plan)
	var errs []error
	counts := map[endpoints.Verb]int{}
	for _, write := range plan.Writes {
		if write.Moves && (outdated || len(errs) > 0) {
			continue
		}
		err := r.write(ctx, write)
		switch {
		case err == nil:
			counts[write.Verb]++
			changesByVerb[write.Verb].Inc()
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			// Nothing can be created any more, and nothing has to be.
		case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
			outdated = true
		default:
			errs = append(errs, err)
		}
	}
	if len(counts) > 0 {
		st.pace.Wrote(r.Clock.Now(), 1)
		log.FromContext(ctx).Info("Wrote mirrored EndpointSlices", "created", counts[endpoints.Create], "updated", counts[endpoints.Update],
			"deleted", counts[endpoints.Delete], "slices", plan.Slices, "endpoints", plan.Endpoints)
	}
	err = joinErrors(errs)
	if seen.source != nil {
		r.recordLeftOut(seen.source, st, plan)
		r.recordFailure(seen.source, st, err)
	}
	return outdated, err
}

// joinErrors returns nil for none, and an error that is not retried where every one of them says that the Endpoints
// cannot be slices: trying again changes nothing before somebody changes them.
func joinErrors(errs []error) error {
	err := errors.Join(errs...)
	for _, e := range errs {
		if !apierrors.IsInvalid(e) {
			return err
		}
	}
	if err != nil {
		return reconcile.TerminalError(err)
	}
	return nil
}

// write does one write and notes what came of it for the next pass.
func (r *Reconciler) write(ctx context.Context, write endpoints.Write) error {
	slice := write.Slice
	switch write.Verb {
	case endpoints.Create:
		if err := r.writer.Create(ctx, slice); err != nil {
			return fmt.Errorf("creating EndpointSlice %s: %w", slice.Name, err)
		}
	case endpoints.Update:
		if err := r.writer.Update(ctx, slice); err != nil {
			return fmt.Errorf("updating EndpointSlice %s: %w", slice.Name, err)
		}
	case endpoints.Delete:
		return r.delete(ctx, slice)
	}
	slice.ManagedFields = nil // Nobody reads them, and they can be as long as the rest.
	r.held.wrote(slice)
	return nil
}

// delete deletes the slice that the plan saw and not one of its name that came since. One that is gone is deleted.
func (r *Reconciler) delete(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	err := r.Client.Delete(ctx, slice, client.Preconditions{UID: ptr.To(slice.UID)})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting EndpointSlice %s: %w", slice.Name, err)
	}
	r.held.deleted(slice)
	return nil
}
