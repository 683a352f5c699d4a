package endpointslice

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

	"github.com/fairlead/fairlead/endpoints"
)

// apply does the writes of a plan in their order. A write that fails does not keep the others from being done, but for
// those that take away what the failed one was to put elsewhere. Outdated: the API server knew more than the plan,
// which has to be made again. Nothing else in this package writes slices.
func (r *Reconciler) apply(ctx context.Context, service *corev1.Service, st *state, plan endpoints.Plan) (outdated bool, err error) {
	var errs []error
	counts := map[endpoints.Verb]int{}
	for _, write := range plan.Writes {
		if write.Moves && (outdated || len(errs) > 0) {
			continue
		}
		err := r.write(ctx, st, write)
		switch {
		case err == nil:
			counts[write.Verb]++
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			// Nothing can be created any more, and nothing has to be.
		case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
			outdated = true
		default:
			errs = append(errs, err)
		}
	}
	if len(counts) > 0 {
		st.pace.Wrote(r.Clock.Now(), len(plan.Writes))
		// Updates alone are too many to be news.
		level := 1
		if counts[endpoints.Create]+counts[endpoints.Delete] > 0 {
			level = 0
		}
		log.FromContext(ctx).V(level).Info("Wrote EndpointSlices", "created", counts[endpoints.Create], "updated", counts[endpoints.Update],
			"deleted", counts[endpoints.Delete], "slices", plan.Slices, "endpoints", plan.Endpoints)
	}
	if err = errors.Join(errs...); err == nil && !outdated {
		st.wrote()
	}
	r.recordFailure(service, st, err)
	countPass(service, st, plan, counts, outdated, err)
	return outdated, err
}

// write does one write and notes what came of it.
func (r *Reconciler) write(ctx context.Context, st *state, write endpoints.Write) error {
	if write.Verb == endpoints.Delete {
		return r.delete(ctx, st, write)
	}
	slice := *write.Slice // It shares its endpoints with the plan and the set, and gets metadata of its own.
	var err error
	if write.Verb == endpoints.Create {
		err = r.writer.Create(ctx, &slice)
	} else {
		err = r.writer.Update(ctx, &slice)
	}
	if err != nil {
		return fmt.Errorf("writing EndpointSlice %s: %w", write.Slice.Name, err)
	}
	trimManagers(&slice)
	st.inbox.written(slice.UID, slice.ResourceVersion)
	if st.layout != nil {
		st.layout.Wrote(write, &slice)
		st.known.put(&slice)
	}
	return nil
}

// delete deletes the slice that the plan saw and not one of its name that came since. One that is gone is deleted.
func (r *Reconciler) delete(ctx context.Context, st *state, write endpoints.Write) error {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: write.Slice.ObjectMeta}
	st.inbox.written(slice.UID, "")
	err := r.Client.Delete(ctx, slice, client.Preconditions{UID: ptr.To(slice.UID)})
	if client.IgnoreNotFound(err) != nil {
		st.inbox.unwritten(slice.UID)
		return fmt.Errorf("deleting EndpointSlice %s: %w", slice.Name, err)
	}
	if st.layout != nil {
		st.layout.Wrote(write, nil)
		st.known.forget(slice.UID)
	}
	return nil
}
