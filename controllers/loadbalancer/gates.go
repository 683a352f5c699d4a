package loadbalancer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// GateFieldManager of the conditions of readiness gates on Pods.
const GateFieldManager = "fairlead-readiness-gate"

// +kubebuilder:rbac:groups="",resources=pods/status,verbs=patch

// How soon a balancer is asked again while a Pod waits: at first, and in the end, see pollAfter.
const (
	minPoll = time.Second
	maxPoll = 30 * time.Second
)

// gateReconciler lets Pods pass their readiness gates: those whose gate names a Service, once the Service's balancer finds
// them healthy. It asks the balancer while a Pod waits and at no other time, so that a gate is passed once: what becomes
// of a Pod's health later is between the balancer's checks and the kubelet's. A Pod that passed stays so whatever becomes
// of the manager, of the balancer or of the cloud.
type gateReconciler struct {
	*Reconciler

	mu      sync.Mutex
	waiting map[types.NamespacedName]int
}

// Reconcile looks at the Pods that wait for one Service.
func (r *gateReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pods, err := r.waitingPods(ctx, req.NamespacedName)
	r.count(req.NamespacedName, len(pods))
	if err != nil || len(pods) == 0 {
		return ctrl.Result{}, err
	}
	b, err := r.balancer(ctx, req.NamespacedName)
	if err == nil && b.busy {
		return ctrl.Result{RequeueAfter: minPoll}, nil
	}
	if err == nil {
		err = b.ask(ctx, pods)
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Info("Could not learn how a balancer finds the Pods that wait for it", "error", err.Error())
		return ctrl.Result{RequeueAfter: max(minPoll, cmp.Or(cloud.Classify(err).After, maxPoll))}, nil
	}
	next, left := time.Duration(0), len(pods)
	for i := range pods {
		v := b.verdict(&pods[i])
		if err := r.writeGate(ctx, &pods[i], req.Name, v); err != nil {
			return ctrl.Result{}, err
		}
		switch {
		case v.status == corev1.ConditionTrue:
			left--
		case v.reason != v1alpha1.ReasonContainersNotReady: // of those we hear
			if after := pollAfter(&pods[i]); next == 0 || after < next {
				next = after
			}
		}
	}
	r.count(req.NamespacedName, left)
	return ctrl.Result{RequeueAfter: next}, nil
}

// waitingPods returns the Pods of a namespace that wait for a Service's balancer, as the cache has them: not to be changed.
func (r *gateReconciler) waitingPods(ctx context.Context, service types.NamespacedName) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := r.Client.List(ctx, &list, client.InNamespace(service.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	gate := gateOf(service.Name)
	var pods []corev1.Pod
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp == nil && hasGate(pod, gate) && !passed(pod, gate) {
			pods = append(pods, *pod)
		}
	}
	return pods, nil
}

// pollAfter is after how long a balancer is asked again about a Pod: a quarter of the time that it has waited.
func pollAfter(pod *corev1.Pod) time.Duration {
	c := podCondition(pod, corev1.ContainersReady)
	if c == nil {
		return maxPoll
	}
	return min(max(time.Since(c.LastTransitionTime.Time)/4, minPoll), maxPoll)
}

// balancer is what is known of a Service's balancer, by which Pods are judged.
type balancer struct {
	// none: the Service has none that sends to Pods.
	none bool
	// busy: somebody works on it, and what is known of it changes.
	busy     bool
	provider cloud.Provider
	owner    cloud.Owner
	spec     cloud.Spec
	// sets are its resources with targets; sent is what was last registered in them; nil: not known.
	sets []cloud.Resource
	sent *backends
	// health of the targets, by resource and target; nil: the provider does not tell.
	health map[[2]string]cloud.Health
}

// balancer returns what the last pass knew of a Service's balancer.
func (r *Reconciler) balancer(ctx context.Context, name types.NamespacedName) (*balancer, error) {
	none := &balancer{none: true}
	svc := &corev1.Service{}
	if err := r.Client.Get(ctx, name, svc); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return none, nil
		}
		return nil, fmt.Errorf("reading the Service: %w", err)
	}
	provider, err := r.podBalancer(ctx, svc)
	if err != nil {
		return nil, err
	}
	if provider == nil {
		return none, nil
	}
	b := &balancer{provider: provider}
	e := r.ledger.of(svc.UID)
	if e == nil {
		return b, nil
	}
	if e = r.ledger.resume(e, owesNothing); e == nil {
		b.busy = true
		return b, nil
	}
	defer r.end(e)
	if !e.spec.PodTargets || e.sent == nil {
		return b, nil
	}
	b.owner, b.spec, b.sent = e.owner, e.spec, e.sent
	for _, o := range e.observed {
		if o.HasTargets {
			b.sets = append(b.sets, o)
		}
	}
	return b, nil
}

// podBalancer returns the provider of a Service whose balancer sends to Pods; nil: it has no such balancer of ours.
func (r *Reconciler) podBalancer(ctx context.Context, svc *corev1.Service) (cloud.Provider, error) {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil {
		return nil, nil
	}
	record, classes := &v1alpha1.LoadBalancerRecord{}, v1alpha1.LoadBalancerClassList{}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(svc), record); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the LoadBalancerRecord: %w", err)
	}
	if record.Status.ServiceUID != svc.UID {
		record = nil // none, or an earlier Service's
	}
	if err := r.Client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	b := bind(svc, record, classes.Items, r.Coexist, r.DefaultProvider)
	if b == nil || b.releaseOnly {
		return nil, nil
	}
	if !r.sendsToPods(svc, b) {
		return nil, nil
	}
	provider, err := r.Providers.Get(b.provider)
	switch {
	case errors.Is(err, cloud.ErrNoProvider), err == nil && !provider.Capabilities().PodTargets:
		return nil, nil // The Service says so.
	case err != nil:
		return nil, fmt.Errorf("finding the provider: %w", err)
	}
	return provider, nil
}

// ask reads the health of the targets, if one of the Pods can have one.
func (b *balancer) ask(ctx context.Context, pods []corev1.Pod) error {
	if b.none || b.sent == nil {
		return nil
	}
	reader := cloud.HealthReaderOf(b.provider)
	offered := false
	for i := range pods {
		offered = offered || len(b.endpoints(&pods[i])) > 0
	}
	if reader == nil || !offered {
		return nil
	}
	answers, err := reader.TargetHealth(ctx, b.owner, b.sets)
	if err != nil {
		return b.provider.Classify(err)
	}
	b.health = make(map[[2]string]cloud.Health, len(answers))
	for _, a := range answers {
		b.health[[2]string{a.Resource, a.Target}] = a.Health
	}
	return nil
}

// endpoints returns those of a Pod that were registered.
func (b *balancer) endpoints(pod *corev1.Pod) []cloud.Endpoint {
	var own []cloud.Endpoint
	if b.sent == nil {
		return nil
	}
	for _, e := range b.sent.endpoints {
		if e.Pod == pod.Name && e.PodUID == string(pod.UID) {
			own = append(own, e)
		}
	}
	return own
}

// verdict on a Pod.
type verdict struct {
	status          corev1.ConditionStatus
	reason, message string
}

// verdict is what a Pod's condition is to say: True once every target that it is has the balancer's trust, in every family
// and on every port that it serves.
func (b *balancer) verdict(pod *corev1.Pod) verdict {
	own := b.endpoints(pod)
	switch {
	case b.none:
		return verdict{corev1.ConditionTrue, v1alpha1.ReasonNotAwaited, "No load balancer of this Service sends to Pods"}
	case !containersReady(pod):
		return verdict{corev1.ConditionFalse, v1alpha1.ReasonContainersNotReady, "The Pod is offered to the load balancer once its containers are ready"}
	case len(own) == 0:
		return verdict{corev1.ConditionFalse, v1alpha1.ReasonNotRegistered, "The load balancer does not have the Pod yet"}
	case b.health == nil:
		return verdict{corev1.ConditionTrue, v1alpha1.ReasonRegistered, "The load balancer has the Pod"}
	}
	worst := verdict{corev1.ConditionTrue, v1alpha1.ReasonHealthy, "The load balancer sends to the Pod"}
	for _, health := range b.healths(own) {
		switch health {
		case cloud.HealthHealthy:
		case cloud.HealthUnhealthy:
			return verdict{corev1.ConditionFalse, v1alpha1.ReasonUnhealthy, "The Pod fails the health check of the load balancer"}
		case cloud.HealthUnknown:
			worst = verdict{corev1.ConditionFalse, v1alpha1.ReasonHealthUnknown, "The load balancer has not checked the Pod yet"}
		default:
			return verdict{corev1.ConditionFalse, v1alpha1.ReasonNotRegistered, "The load balancer does not have the Pod yet"}
		}
	}
	return worst
}

// healths are those of the targets that endpoints make; empty: one that the balancer does not have. Which targets those
// are, the provider itself says: what it wants where there is nothing else.
func (b *balancer) healths(own []cloud.Endpoint) []cloud.Health {
	ids := map[cloud.Ref]string{}
	for _, set := range b.sets {
		ids[cloud.Ref{Kind: set.Kind, Key: set.Key}] = set.ID
	}
	var healths []cloud.Health
	resources, _ := b.provider.Desired((&backends{endpoints: own}).in(b.spec))
	for _, resource := range resources {
		for _, target := range resource.Targets {
			healths = append(healths, b.health[[2]string{ids[cloud.Ref{Kind: resource.Kind, Key: resource.Key}], target.ID}])
		}
	}
	if len(healths) == 0 {
		return []cloud.Health{""}
	}
	return healths
}

// writeGate writes a Pod's condition, where it differs. The merge is by the condition's type, so that the kubelet and
// others keep theirs.
func (r *gateReconciler) writeGate(ctx context.Context, pod *corev1.Pod, service string, v verdict) error {
	gate := gateOf(service)
	have := podCondition(pod, gate)
	if have != nil && have.Status == v.status && have.Reason == v.reason && have.Message == v.message {
		return nil
	}
	condition := map[string]any{"type": gate, "status": v.status, "reason": v.reason, "message": v.message}
	if have == nil || have.Status != v.status {
		condition["lastTransitionTime"] = metav1.Now().Rfc3339Copy()
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []any{condition}},
	})
	if err != nil {
		return fmt.Errorf("writing the condition of Pod %q: %w", pod.Name, err)
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch), client.FieldOwner(GateFieldManager))
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching the condition of Pod %q: %w", pod.Name, err)
	}
	r.told(pod, v)
	return nil
}

// told counts, and tells people, what became of a Pod.
func (r *gateReconciler) told(pod *corev1.Pod, v verdict) {
	switch {
	case v.status == corev1.ConditionTrue && v.reason != v1alpha1.ReasonNotAwaited:
		if c := podCondition(pod, corev1.ContainersReady); c != nil {
			gateWait.Observe(time.Since(c.LastTransitionTime.Time).Seconds())
		}
	case v.reason == v1alpha1.ReasonUnhealthy:
		r.Recorder.Eventf(pod, nil, corev1.EventTypeWarning, EventTargetUnhealthy, actionEnsure, "%s", v.message)
	}
}
