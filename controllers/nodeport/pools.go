package nodeport

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// statusEvery is how long the status of pools waits for more Services to come and go.
const statusEvery = 250 * time.Millisecond

// allPools is the request of the controller nodeportpool.
var allPools = ctrl.Request{NamespacedName: types.NamespacedName{Name: "all"}}

// poolReconciler writes what pools are and keep, the policy that refuses what does not keep to them, and mends
// duplicates. It has one request for all pools: whose a port is depends on all of them.
type poolReconciler struct {
	client   client.Client
	reader   client.Reader
	recorder events.EventRecorder
	book     *Book
	intn     func(int) int
	// serves says that the manager serves the webhook, and so has the rights to write the policy.
	serves bool
	// published are the pools that have metrics.
	published map[string]bool
	// enforced is what was written of the policy.
	enforced written
}

// +kubebuilder:rbac:groups=fairlead.dev,resources=nodeportpools,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=nodeportpools/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=list;watch

// Reconcile brings the status of all pools in step with the book.
func (r *poolReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	if !r.book.ready() {
		return ctrl.Result{RequeueAfter: statusEvery}, nil
	}
	var pools v1alpha1.NodePortPoolList
	if err := r.client.List(ctx, &pools); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing NodePortPools: %w", err)
	}
	namespaces, err := r.namespaces(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	// The policy first: until it stands, what the pools say is only a wish.
	if err := r.enforce(ctx); err != nil {
		return quietly(err)
	}
	census := r.book.take(namespaces)
	r.publish(census)
	for i := range pools.Items {
		if err := r.write(ctx, census, &pools.Items[i]); err != nil {
			return quietly(err)
		}
	}
	again, err := r.repair(ctx, census, namespaces)
	if err != nil {
		return quietly(err)
	}
	return ctrl.Result{RequeueAfter: next(census.holds, r.book.now(), again)}, nil
}

// next is how long until there is something to do although nobody tells: a hold ends.
func next(holds []portalloc.Hold, now time.Time, after time.Duration) time.Duration {
	for _, h := range holds {
		if wait := max(h.Until.Sub(now), statusEvery); after == 0 || wait < after {
			after = wait
		}
	}
	return after
}

func (r *poolReconciler) namespaces(ctx context.Context) (map[string]labels.Set, error) {
	var list corev1.NamespaceList
	if err := r.client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing Namespaces: %w", err)
	}
	all := map[string]labels.Set{}
	for i := range list.Items {
		all[list.Items[i].Name] = list.Items[i].Labels
	}
	return all, nil
}

// write puts the status where it differs. The status is patched whole: a reservation that is over must go, whoever wrote
// it, and a stale pass must not put it back, which the resourceVersion prevents.
func (r *poolReconciler) write(ctx context.Context, census *census, pool *v1alpha1.NodePortPool) error {
	for _, share := range census.shares {
		if share.Pool.Name != pool.Name {
			continue
		}
		want := census.statusOf(share, pool.Generation, &pool.Status, metav1.NewTime(r.book.now()).Rfc3339Copy())
		if equality.Semantic.DeepEqual(want, &pool.Status) {
			return nil
		}
		changed := pool.DeepCopy()
		changed.Status = *want
		patch := client.MergeFromWithOptions(pool, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("writing the status of NodePortPool %q: %w", pool.Name, err)
		}
		r.record(pool, changed)
	}
	return nil
}

// record makes events of conditions that became False, or True again.
func (r *poolReconciler) record(before, after *v1alpha1.NodePortPool) {
	was := map[string]metav1.Condition{}
	for _, c := range before.Status.Conditions {
		was[c.Type] = c
	}
	for _, c := range after.Status.Conditions {
		old, known := was[c.Type]
		switch {
		case c.Status == metav1.ConditionFalse && (!known || old.Status != c.Status || old.Reason != c.Reason):
			r.recorder.Eventf(after, nil, corev1.EventTypeWarning, c.Reason, "CheckPool", "%s", c.Message)
		case known && old.Status == metav1.ConditionFalse && c.Status == metav1.ConditionTrue:
			r.recorder.Eventf(after, nil, corev1.EventTypeNormal, c.Reason, "CheckPool", "%s", c.Message)
		}
	}
}
