package nodeport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead/fairlead/portalloc"
)

// WebhookPath is where Services are numbered.
const WebhookPath = "/node-ports"

// Webhook numbers Services before the API server's allocator does, which takes what it finds if it is free. It is asked
// with failurePolicy Ignore: while nobody answers, the API server numbers as it always did, and under Enforce the policy
// refuses what it would have numbered.
//
// Every replica answers. What one of them promised and the API server has not stored yet is unknown to the others: two
// Services that are created within milliseconds of each other by way of two replicas can be given the same port, once in
// as many times as there are free ones. The API server refuses the second, and whoever asks again gets another.
type Webhook struct {
	// Client reads Namespaces from the cache; Reader those that are too new for it.
	Client, Reader client.Reader
	Book           *Book
	// Intn returns a random number from 0 to n-1.
	Intn func(n int) int
}

var _ admission.Handler = (*Webhook)(nil)

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get

// Handle answers one request.
func (w *Webhook) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Kind.Kind != "Service" || request.SubResource != "" || !w.Book.ready() {
		return admission.Allowed("")
	}
	svc, old, err := services(request)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not read a Service that is to be admitted")
		return admission.Allowed("") // The API server knows better what may pass.
	}
	if svc.DeletionTimestamp != nil || !portalloc.NeedsNodePorts(svc) && !portalloc.NeedsHealthCheck(svc) && !named(svc) {
		return admission.Allowed("")
	}
	namespace, err := w.namespace(ctx, request.Namespace)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not read the Namespace of a Service", "namespace", request.Namespace)
		return admission.Allowed("").WithWarnings("the node ports of this Service are not from a NodePortPool: its namespace could not be read")
	}
	dryRun := request.DryRun != nil && *request.DryRun
	given, warning, err := w.Book.number(svc, old, namespace, string(request.UID), dryRun, w.Intn)
	switch {
	case err != nil:
		return admission.Denied(err.Error())
	case given.Empty():
		return admission.Allowed("").WithWarnings(warnings(warning)...)
	}
	return patched(given).WithWarnings(warnings(warning)...)
}

// services reads what is to be stored, and what it replaces; nil: nothing.
func services(request admission.Request) (svc, old *corev1.Service, err error) {
	svc = &corev1.Service{}
	if err := json.Unmarshal(request.Object.Raw, svc); err != nil {
		return nil, nil, fmt.Errorf("reading the Service: %w", err)
	}
	svc.Namespace = request.Namespace
	if request.Operation == admissionv1.Update {
		old = &corev1.Service{}
		if err := json.Unmarshal(request.OldObject.Raw, old); err != nil {
			return nil, nil, fmt.Errorf("reading the Service before the update: %w", err)
		}
	}
	return svc, old, nil
}

// named reports whether a Service that is served on node ports names one.
func named(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && len(portalloc.PortsOf(svc)) > 0
}

func (w *Webhook) namespace(ctx context.Context, name string) (labels.Set, error) {
	namespace := &corev1.Namespace{}
	err := w.Client.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) { // it is often created just before its Services
		err = w.Reader.Get(ctx, client.ObjectKey{Name: name}, namespace)
	}
	return namespace.Labels, err
}

// number chooses what a Service lacks. svc gets what the update of old left out and the API server would put back. The error
// refuses it; a warning says what it gets from elsewhere.
func (b *Book) number(svc, old *corev1.Service, namespace labels.Set, request string, dryRun bool, intn func(int) int) (portalloc.Assignment, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pools, enforced := b.selecting(namespace), b.enforced()
	if len(pools) == 0 && !enforced {
		return portalloc.Assignment{}, "", nil
	}
	restored := portalloc.Assignment{}
	if old != nil {
		restored = portalloc.Restore(svc, old)
		restored.Apply(svc)
	}
	r := portalloc.Request{Service: svc, Old: old, Name: portalloc.KeyOf(svc), Pools: pools, Recall: old == nil, Strict: enforced, DryRun: dryRun,
		NodePorts: portalloc.NeedsNodePorts(svc), HealthCheck: portalloc.NeedsHealthCheck(svc)}
	if svc.Name == "" { // the API server has still to make it
		r.Name.Name = svc.GenerateName + "#" + request
	}
	given, err := b.ledger.Assign(r, b.now(), intn)
	if err != nil {
		pool := ""
		if len(pools) > 0 {
			pool = pools[0]
		}
		scope := scopeStatic
		if _, full := errors.AsType[*portalloc.ExhaustedError](err); full {
			scope = scopeDynamic
		}
		failures.WithLabelValues(pool, scope).Inc()
		if enforced {
			return portalloc.Assignment{}, "", fmt.Errorf("node ports of Service %s: %w", r.Name, err)
		}
		return portalloc.Assignment{}, fmt.Sprintf("the node ports of this Service are not from its NodePortPool: %s", err), nil
	}
	if !dryRun {
		b.count(given, svc, old)
	}
	for i, port := range restored.Ports {
		given.Ports[i] = port
	}
	given.HealthCheck = max(given.HealthCheck, restored.HealthCheck)
	return given, "", nil
}

// count counts what a Service gets and what it names itself and did not have.
func (b *Book) count(given portalloc.Assignment, svc, old *corev1.Service) {
	chosen, had := &corev1.Service{Spec: corev1.ServiceSpec{HealthCheckNodePort: given.HealthCheck}}, map[int]bool{}
	for _, port := range given.Ports {
		chosen.Spec.Ports = append(chosen.Spec.Ports, corev1.ServicePort{NodePort: port})
	}
	for _, port := range portalloc.PortsOf(chosen) {
		allocations.WithLabelValues(b.ledger.PoolOf(port), scopeDynamic).Inc()
	}
	if old != nil {
		for _, port := range portalloc.PortsOf(old) {
			had[port] = true
		}
	}
	for _, port := range portalloc.PortsOf(svc) {
		if !had[port] {
			allocations.WithLabelValues(b.ledger.PoolOf(port), scopeStatic).Inc()
		}
	}
}

// patched sets the numbers, and leaves the rest as it came. The ports are there, or they could not have been numbered.
func patched(given portalloc.Assignment) admission.Response {
	patches := make([]jsonpatch.Operation, 0, len(given.Ports)+1)
	for _, i := range slices.Sorted(maps.Keys(given.Ports)) {
		// "add" replaces what is there.
		patches = append(patches, jsonpatch.NewOperation("add", fmt.Sprintf("/spec/ports/%d/nodePort", i), given.Ports[i]))
	}
	if given.HealthCheck != 0 {
		patches = append(patches, jsonpatch.NewOperation("add", "/spec/healthCheckNodePort", given.HealthCheck))
	}
	return admission.Patched("", patches...)
}

func warnings(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}
