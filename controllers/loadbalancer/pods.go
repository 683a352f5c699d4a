package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/controllers/work"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch

// fillWithin is how long a pass waits for the caches of EndpointSlices and Pods.
const fillWithin = 30 * time.Second

// podTargets knows the Services that send to Pods, and of which of them the endpoints may have changed since they were
// last read. Its zero value is ready. For several goroutines.
type podTargets struct {
	mu      sync.Mutex
	changed map[types.NamespacedName]bool
}

// follow begins to follow a Service. Its endpoints count as unchanged: the caller reads them next.
func (p *podTargets) follow(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = map[types.NamespacedName]bool{}
	}
	p.changed[name] = false
}

// follows reports whether a Service is followed.
func (p *podTargets) follows(name types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, followed := p.changed[name]
	return followed
}

// forget ends that, and reports whether the Service was followed.
func (p *podTargets) forget(name types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, followed := p.changed[name]
	delete(p.changed, name)
	return followed
}

// mark notes that the endpoints of a Service may have changed, and reports whether it is followed.
func (p *podTargets) mark(name types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, followed := p.changed[name]
	if followed {
		p.changed[name] = true
	}
	return followed
}

// take reports whether the endpoints of a Service may have changed. The caller reads them next.
func (p *podTargets) take(name types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.changed[name]
	if changed {
		p.changed[name] = false
	}
	return changed
}

// followPods has the endpoints of a Service followed that sends to Pods. The first such Service of all has EndpointSlices and
// Pods followed: a cache of all Pods is too much to hold for nothing.
func (r *Reconciler) followPods(ctx context.Context, v *view) error {
	if v.service == nil || v.binding == nil || !v.wanted() {
		r.leavePods(v.name)
		return nil
	}
	if !r.sendsToPods(v.service, v.binding) {
		r.leavePods(v.name)
		return nil
	}
	if err := r.follower.fill(ctx, r); err != nil {
		return err
	}
	r.pods.follow(v.name)
	v.toPods = true
	return nil
}

// readBackends reads what a Service sends to.
func (r *Reconciler) readBackends(ctx context.Context, v *view) (err error) {
	if v.nodes, err = r.listNodes(ctx); err != nil || !v.toPods {
		return err
	}
	v.slices, err = r.listSlices(ctx, v.service)
	return err
}

// sendsToPods reports whether a Service is to be sent to by its Pods, or was where its annotation, or its class, cannot be read.
func (r *Reconciler) sendsToPods(svc *corev1.Service, b *binding) bool {
	options, _ := cloud.ParseOptions(svc, b.targeted())
	if options.PodsUnknown { // The cache may not show the record yet.
		return r.pods.follows(client.ObjectKeyFromObject(svc)) || b.madeFrom != nil && b.madeFrom.Targets == v1alpha1.TargetsPods
	}
	return options.Pods
}

// leavePods ends what a Service needs that sends to Pods.
func (r *Reconciler) leavePods(name types.NamespacedName) {
	if r.pods.forget(name) {
		r.wakeGates(name) // whoever waits need not any more
	}
}

func (r *Reconciler) listSlices(ctx context.Context, svc *corev1.Service) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.Client.List(ctx, &list, client.InNamespace(svc.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: svc.Name},
		client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	published := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		published[i] = &list.Items[i]
	}
	return published, nil
}

// waiting reports of a Pod whether it lacks nothing but a balancer to be ready for a Service: it has the gate, and its
// containers are ready. A Pod that the cache does not know is not offered; its event has it looked at again.
func (r *Reconciler) waiting(ctx context.Context, svc *corev1.Service) func(*corev1.ObjectReference) bool {
	return func(ref *corev1.ObjectReference) bool {
		pod := &corev1.Pod{}
		if err := r.Client.Get(ctx, client.ObjectKey{Namespace: svc.Namespace, Name: ref.Name}, pod); err != nil {
			return false
		}
		return (ref.UID == "" || ref.UID == pod.UID) && hasGate(pod, gateOf(svc.Name)) && containersReady(pod)
	}
}

// gateOf is the type of the condition that Pods wait for.
func gateOf(service string) corev1.PodConditionType {
	return corev1.PodConditionType(v1alpha1.ReadinessGatePrefix + service)
}

func hasGate(pod *corev1.Pod, gate corev1.PodConditionType) bool {
	for _, g := range pod.Spec.ReadinessGates {
		if g.ConditionType == gate {
			return true
		}
	}
	return false
}

func containersReady(pod *corev1.Pod) bool {
	c := podCondition(pod, corev1.ContainersReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// follower has the caches of EndpointSlices and Pods filled, and their events heard, once they are needed. Nil informers:
// the client reads past every cache.
type follower struct {
	informers cache.Informers

	mu     sync.Mutex
	synced []toolscache.InformerSynced
}

var errNotFilled = errors.New("the caches of EndpointSlices and Pods did not fill: may the manager list and watch both?")

// fill returns once the caches are filled.
func (f *follower) fill(ctx context.Context, r *Reconciler) error {
	if f.informers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	synced, err := f.begin(ctx, r)
	if err != nil {
		return err
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return errNotFilled
	}
	return nil
}

// begin registers the handlers of events, once.
func (f *follower) begin(ctx context.Context, r *Reconciler) ([]toolscache.InformerSynced, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kinds := []work.Followed{
		{Object: &discoveryv1.EndpointSlice{}, Handler: r.sliceHandler()},
		{Object: &corev1.Pod{}, Handler: r.podHandler()},
	}
	for len(f.synced) < len(kinds) {
		kind := kinds[len(f.synced)]
		informer, err := f.informers.GetInformer(ctx, kind.Object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("getting the informer of %T: %w", kind.Object, err)
		}
		registration, err := informer.AddEventHandler(kind.Handler)
		if err != nil {
			return nil, fmt.Errorf("adding a handler for %T: %w", kind.Object, err)
		}
		f.synced = append(f.synced, registration.HasSynced)
	}
	return f.synced, nil
}

// endpointsChanged has the targets of a Service sent, if it sends to Pods.
func (r *Reconciler) endpointsChanged(name types.NamespacedName) {
	if r.pods.mark(name) {
		r.wakeNodes()
	}
}

func (r *Reconciler) sliceHandler() toolscache.ResourceEventHandler {
	tell := func(slice *discoveryv1.EndpointSlice) {
		r.endpointsChanged(types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]})
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { tell(obj.(*discoveryv1.EndpointSlice)) },
		UpdateFunc: func(before, obj any) {
			old, slice := before.(*discoveryv1.EndpointSlice), obj.(*discoveryv1.EndpointSlice)
			if old.Labels[discoveryv1.LabelServiceName] != slice.Labels[discoveryv1.LabelServiceName] {
				tell(old)
				tell(slice)
				return
			}
			if !equality.Semantic.DeepEqual(old.Endpoints, slice.Endpoints) || !equality.Semantic.DeepEqual(old.Ports, slice.Ports) {
				tell(slice)
			}
		},
		DeleteFunc: func(obj any) {
			if slice, ok := work.Deleted[*discoveryv1.EndpointSlice](obj); ok {
				tell(slice)
			}
		},
	}
}

// podHandler hears of Pods with a gate of ours alone. That one goes is heard of by its EndpointSlice.
func (r *Reconciler) podHandler() toolscache.ResourceEventHandler {
	tell := func(pod *corev1.Pod) {
		for _, g := range pod.Spec.ReadinessGates {
			if service, ok := strings.CutPrefix(string(g.ConditionType), v1alpha1.ReadinessGatePrefix); ok {
				name := types.NamespacedName{Namespace: pod.Namespace, Name: service}
				r.endpointsChanged(name)
				r.wakeGates(name)
			}
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { tell(obj.(*corev1.Pod)) },
		UpdateFunc: func(before, obj any) {
			old, pod := before.(*corev1.Pod), obj.(*corev1.Pod)
			if old.UID != pod.UID || containersReady(old) != containersReady(pod) || lostGate(old, pod) {
				tell(pod)
			}
		},
	}
}

// lostGate reports whether somebody else took from a Pod what it waited for, and had.
func lostGate(old, pod *corev1.Pod) bool {
	for _, g := range pod.Spec.ReadinessGates {
		if strings.HasPrefix(string(g.ConditionType), v1alpha1.ReadinessGatePrefix) && passed(old, g.ConditionType) && !passed(pod, g.ConditionType) {
			return true
		}
	}
	return false
}

// passed reports whether a Pod need not wait for a gate any more.
func passed(pod *corev1.Pod, gate corev1.PodConditionType) bool {
	c := podCondition(pod, gate)
	return c != nil && c.Status == corev1.ConditionTrue
}
