package loadbalancer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// WebhookPath is where new Pods are given their readiness gates.
const WebhookPath = "/readiness-gates"

// injector gives new Pods a readiness gate for each Service that picks them and whose balancer sends to Pods. Which Pods
// it is asked about is up to the API server: those that are labelled, or whose namespace is. It is asked with failurePolicy
// Ignore: while nobody answers Pods come without, and are ready without the balancer. It refuses nothing, has no side
// effects, and answers the same when it is asked again. Every replica answers, from its cache.
type injector struct{ *Reconciler }

var _ admission.Handler = injector{}

// Handle answers one request.
func (i injector) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Kind.Kind != "Pod" || request.SubResource != "" || request.Operation != admissionv1.Create {
		return admission.Allowed("")
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(request.Object.Raw, pod); err != nil {
		log.FromContext(ctx).Error(err, "Could not read a Pod that is to be admitted")
		return admission.Allowed("") // The API server knows better what may pass.
	}
	if pod.Labels[v1alpha1.LabelReadinessGates] == "disabled" {
		return admission.Allowed("")
	}
	gates, err := i.gatesFor(ctx, request.Namespace, pod)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not find the Services of a Pod", "namespace", request.Namespace)
		return admission.Allowed("").WithWarnings("this Pod has no readiness gate for its load balancers: the Services could not be read")
	}
	if len(gates) == 0 {
		return admission.Allowed("")
	}
	if request.DryRun == nil || !*request.DryRun {
		gatesInjected.Add(float64(len(gates)))
	}
	all := append(slices.Clone(pod.Spec.ReadinessGates), gates...)
	// "add" replaces what is there.
	return admission.Patched("", jsonpatch.NewOperation("add", "/spec/readinessGates", all))
}

// gatesFor returns the gates that a Pod lacks, in the order of the Services' names.
func (i injector) gatesFor(ctx context.Context, namespace string, pod *corev1.Pod) ([]corev1.PodReadinessGate, error) {
	var services corev1.ServiceList
	if err := i.Client.List(ctx, &services, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	var gates []corev1.PodReadinessGate
	for n := range services.Items {
		svc := &services.Items[n]
		if len(svc.Spec.Selector) == 0 || !labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) ||
			hasGate(pod, gateOf(svc.Name)) {
			continue
		}
		provider, err := i.podBalancer(ctx, svc)
		if err != nil {
			return nil, err
		}
		if provider != nil {
			gates = append(gates, corev1.PodReadinessGate{ConditionType: gateOf(svc.Name)})
		}
	}
	slices.SortFunc(gates, func(a, b corev1.PodReadinessGate) int {
		return slices.Compare([]byte(a.ConditionType), []byte(b.ConditionType))
	})
	return gates, nil
}
