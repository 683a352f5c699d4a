package topology

import (
	"context"
	"encoding/json"
	"fmt"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// WebhookPath is where the webhook is served.
const WebhookPath = "/topology-hints"

// hook keeps hints in place that kube-controller-manager would take off, or replace, whenever it writes a slice. What is
// kept are the hints that stand on the slices themselves, so that every replica of the manager answers alike, whether or
// not it leads, and an answer costs a look at what the request holds and into the cache. Hints change by the leader's
// writes alone, which it lets pass.
//
// It refuses nothing, has no side effects, and answers the same when it is asked again.
type hook struct {
	// siblings returns the slices of a Service as the cache has them.
	siblings func(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error)
}

var _ admission.Handler = (*hook)(nil)

// Handle answers one request.
func (h *hook) Handle(ctx context.Context, request admission.Request) admission.Response {
	logger := log.FromContext(ctx)
	if request.Kind.Kind != "EndpointSlice" || ours(request.Options.Raw) {
		return admission.Allowed("")
	}
	var old, next discoveryv1.EndpointSlice
	err := json.Unmarshal(request.Object.Raw, &next)
	if err == nil && request.Operation == admissionv1.Update {
		err = json.Unmarshal(request.OldObject.Raw, &old)
	}
	if err != nil {
		logger.Error(err, "Could not read an EndpointSlice that is to be admitted")
		return admission.Allowed("") // The API server knows better what may pass.
	}
	if !guarded(&next) {
		return admission.Allowed("") // The old one was, or we would not be asked.
	}
	known := []*discoveryv1.EndpointSlice{&old}
	// A moved endpoint has its hints on the slice that it comes from. Without the cache it gets those of a new one.
	siblings, err := h.siblings(ctx, request.Namespace, next.Labels[discoveryv1.LabelServiceName])
	if err != nil {
		logger.V(1).Info("Could not look at the other EndpointSlices", "error", err.Error())
	}
	for _, s := range siblings {
		if s.Name != next.Name && s.AddressType == next.AddressType {
			known = append(known, s)
		}
	}
	hints, ok := keep(known, &next)
	if !ok {
		return admission.Allowed("")
	}
	return admission.Patched("", patches(&next, hints)...)
}

// ours says whether the options of a request are those of the leader's writes.
func ours(options []byte) bool {
	var given metav1.UpdateOptions
	return json.Unmarshal(options, &given) == nil && given.FieldManager == FieldManager
}

// guarded says whether the hints of a slice are the topology controller's in coexist mode.
func guarded(slice *discoveryv1.EndpointSlice) bool {
	return slice.Labels[v1alpha1.LabelTopologyHints] == "true" && slice.Labels[discoveryv1.LabelManagedBy] == upstream
}

// keep returns the hints that the endpoints of a slice should have, given the slices of its Service as they were. Those
// that were ready keep what they had. New ones serve their own zone where the others have hints, since one ready
// endpoint without would have proxies ignore the hints of all, until the leader has seen them. It is not ok where nothing
// was known.
func keep(known []*discoveryv1.EndpointSlice, slice *discoveryv1.EndpointSlice) (hints []*discoveryv1.EndpointHints, ok bool) {
	before := map[string]*discoveryv1.EndpointHints{}
	hinted := false
	for _, s := range known {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if key := keyOf(e); ready(e) {
				if _, twice := before[key]; !twice {
					before[key] = e.Hints
				}
				hinted = hinted || !none(e.Hints)
			}
		}
	}
	if len(before) == 0 {
		return nil, false
	}
	hints = make([]*discoveryv1.EndpointHints, len(slice.Endpoints))
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if !ready(e) {
			continue
		}
		had, was := before[keyOf(e)]
		switch {
		case was:
			hints[i] = had
		case hinted && e.Zone != nil && *e.Zone != "":
			hints[i] = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *e.Zone}}}
		}
	}
	return hints, true
}

// patches are the operations that give a slice's endpoints hints.
func patches(slice *discoveryv1.EndpointSlice, hints []*discoveryv1.EndpointHints) []jsonpatch.Operation {
	var all []jsonpatch.Operation
	for i := range slice.Endpoints {
		have, want := slice.Endpoints[i].Hints, hints[i]
		path := fmt.Sprintf("/endpoints/%d/hints", i)
		switch {
		case same(have, want):
		case none(want):
			all = append(all, jsonpatch.NewOperation("remove", path, nil))
		default:
			all = append(all, jsonpatch.NewOperation("add", path, want)) // It replaces what is there.
		}
	}
	return all
}

func ready(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Ready == nil || *e.Conditions.Ready
}

// none says whether hints say nothing. The API server keeps empty ones as they are.
func none(h *discoveryv1.EndpointHints) bool {
	return h == nil || len(h.ForZones) == 0 && len(h.ForNodes) == 0
}

func same(a, b *discoveryv1.EndpointHints) bool {
	return none(a) && none(b) || apiequality.Semantic.DeepEqual(a, b)
}

// keyOf tells the endpoints of a Service in one family apart: by their Pod.
func keyOf(e *discoveryv1.Endpoint) string {
	if e.TargetRef != nil {
		return e.TargetRef.Name
	}
	return e.Addresses[0]
}
