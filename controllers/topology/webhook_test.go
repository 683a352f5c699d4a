package topology

import (
	"context"
	"encoding/json"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// at returns an endpoint of a Pod: its zone and, unless empty, the zone that it is hinted to. A Pod whose name begins
// with ! is not ready.
func at(pod, zone, hint string) discoveryv1.Endpoint {
	is := pod[0] != '!'
	if !is {
		pod = pod[1:]
	}
	e := discoveryv1.Endpoint{Addresses: []string{"10.0.0." + pod[1:]}, Conditions: discoveryv1.EndpointConditions{Ready: &is},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod}}
	if zone != "" {
		e.Zone = &zone
	}
	if hint != "" {
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: hint}}}
	}
	return e
}

// slice returns one that the webhook is to guard.
func slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{
			v1alpha1.LabelTopologyHints: "true", discoveryv1.LabelManagedBy: upstream, discoveryv1.LabelServiceName: "s",
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
}

// admit asks the webhook and returns what the API server would store. Old is nil at a creation.
func admit(t *testing.T, old, next *discoveryv1.EndpointSlice, manager string, siblings ...*discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	t.Helper()
	encode := func(object any) runtime.RawExtension {
		raw, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: raw}
	}
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u", Kind: metav1.GroupVersionKind{Kind: "EndpointSlice"}, Namespace: "ns", Operation: admissionv1.Create, Object: encode(next),
		Options: encode(metav1.UpdateOptions{FieldManager: manager}),
	}}
	if old != nil {
		request.Operation, request.OldObject = admissionv1.Update, encode(old)
	}
	h := &hook{siblings: func(context.Context, string, string) ([]*discoveryv1.EndpointSlice, error) { return siblings, nil }}
	response := h.Handle(t.Context(), request)
	if err := response.Complete(request); err != nil {
		t.Fatal(err)
	}
	if !response.Allowed {
		t.Fatalf("refused: %v", response.Result)
	}
	stored := request.Object.Raw
	if len(response.Patch) > 0 {
		patch, err := jsonpatch.DecodePatch(response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if stored, err = patch.Apply(stored); err != nil {
			t.Fatalf("applying %s: %v", response.Patch, err)
		}
	}
	result := &discoveryv1.EndpointSlice{}
	if err := json.Unmarshal(stored, result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestWebhook(t *testing.T) {
	hinted := slice("a", at("p1", "x", "x"), at("p2", "x", "y"), at("!p3", "y", ""))
	unlabelled := slice("a", at("p1", "x", ""), at("p2", "x", ""))
	delete(unlabelled.Labels, v1alpha1.LabelTopologyHints)
	foreign := slice("a", at("p1", "x", ""), at("p2", "x", ""))
	foreign.Labels[discoveryv1.LabelManagedBy] = "someone.example"
	with := func(e discoveryv1.Endpoint, change func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
		change(&e)
		return e
	}
	noName := with(at("p5", "", ""), func(e *discoveryv1.Endpoint) { e.Zone = new("") })
	unsaid := func(hint string) discoveryv1.Endpoint {
		return with(at("p1", "x", hint), func(e *discoveryv1.Endpoint) { e.Conditions.Ready = nil })
	}
	six := slice("b", at("p4", "x", "x"))
	six.AddressType = discoveryv1.AddressTypeIPv6
	empty := with(at("p1", "x", ""), func(e *discoveryv1.Endpoint) { e.Hints = &discoveryv1.EndpointHints{} })
	cases := map[string]struct {
		reason   string
		old      *discoveryv1.EndpointSlice
		next     *discoveryv1.EndpointSlice
		siblings []*discoveryv1.EndpointSlice
		manager  string
		want     []discoveryv1.Endpoint
	}{
		"Stripped": {
			reason: "what is taken off is put back", old: hinted,
			next: slice("a", at("p1", "x", ""), at("p2", "x", ""), at("!p3", "y", "")),
			want: hinted.Endpoints,
		},
		"Replaced": {
			reason: "hints of kube-controller-manager's own are not wanted", old: hinted,
			next: slice("a", at("p1", "x", "y"), at("p2", "x", "x"), at("!p3", "y", "y")),
			want: hinted.Endpoints,
		},
		"New": {
			reason: "one without hints would have proxies ignore those of all", old: hinted,
			next: slice("a", at("p4", "y", ""), at("p1", "x", ""), at("p2", "x", "")),
			want: []discoveryv1.Endpoint{at("p4", "y", "y"), at("p1", "x", "x"), at("p2", "x", "y")},
		},
		"BecameReady": {
			reason: "so is one that was not ready", old: hinted,
			next: slice("a", at("p1", "x", ""), at("p2", "x", ""), at("p3", "y", "")),
			want: []discoveryv1.Endpoint{at("p1", "x", "x"), at("p2", "x", "y"), at("p3", "y", "y")},
		},
		"BecameUnready": {
			reason: "hints of an endpoint that is not ready are nobody's", old: hinted,
			next: slice("a", at("!p1", "x", "x"), at("p2", "x", "")),
			want: []discoveryv1.Endpoint{at("!p1", "x", ""), at("p2", "x", "y")},
		},
		"Off": {
			reason: "where the leader took hints off, nobody puts them on", old: slice("a", at("p1", "x", "")),
			next: slice("a", at("p1", "x", "x"), at("p4", "y", "y")),
			want: []discoveryv1.Endpoint{at("p1", "x", ""), at("p4", "y", "")},
		},
		"Moved": {
			reason: "an endpoint keeps its hints when it moves to another slice", siblings: []*discoveryv1.EndpointSlice{hinted},
			next: slice("b", at("p2", "x", ""), at("p4", "y", "")),
			want: []discoveryv1.Endpoint{at("p2", "x", "y"), at("p4", "y", "y")},
		},
		"First": {
			reason: "where nothing is known, what comes is left until the leader has seen it",
			next:   slice("a", at("p1", "x", "y"), at("p2", "x", "")),
			want:   []discoveryv1.Endpoint{at("p1", "x", "y"), at("p2", "x", "")},
		},
		"Leader": {
			reason: "the leader's hints pass as they are", old: hinted, manager: FieldManager,
			next: slice("a", at("p1", "x", "y"), at("p2", "x", "")),
			want: []discoveryv1.Endpoint{at("p1", "x", "y"), at("p2", "x", "")},
		},
		"Unlabelled": {
			reason: "who takes the label off wants no hints of ours", old: hinted, next: unlabelled, want: unlabelled.Endpoints,
		},
		"Foreign": {
			reason: "slices of others are theirs", old: hinted, next: foreign, want: foreign.Endpoints,
		},
		"OtherFamily": {
			reason: "each family has hints of its own", old: hinted, siblings: []*discoveryv1.EndpointSlice{six},
			next: slice("a", at("p1", "x", ""), at("p4", "y", "")), want: []discoveryv1.Endpoint{at("p1", "x", "x"), at("p4", "y", "y")},
		},
		"Late": {
			reason: "what the cache has of this slice may be old", old: hinted, siblings: []*discoveryv1.EndpointSlice{slice("a", at("p4", "y", "x"))},
			next: slice("a", at("p1", "x", ""), at("p4", "y", "")), want: []discoveryv1.Endpoint{at("p1", "x", "x"), at("p4", "y", "y")},
		},
		"NoName": {
			reason: "a zone without a name is none", old: hinted,
			next: slice("a", at("p1", "x", ""), noName), want: []discoveryv1.Endpoint{at("p1", "x", "x"), noName},
		},
		"Unsaid": {
			reason: "an endpoint is ready where nothing is said", old: slice("a", unsaid("y")),
			next: slice("a", unsaid("")), want: []discoveryv1.Endpoint{unsaid("y")},
		},
		"Empty": {
			reason: "hints that say nothing are none, and there is nothing to be taken off", old: slice("a", empty),
			next: slice("a", at("p1", "x", "")), want: []discoveryv1.Endpoint{at("p1", "x", "")},
		},
		"NoZone": {
			reason: "an endpoint whose zone is not known serves none", old: hinted,
			next: slice("a", at("p1", "x", ""), at("p5", "", "")),
			want: []discoveryv1.Endpoint{at("p1", "x", "x"), at("p5", "", "")},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := admit(t, tc.old, tc.next, tc.manager, tc.siblings...)
			if diff := cmp.Diff(tc.want, got.Endpoints); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			again := admit(t, tc.old, got, tc.manager, tc.siblings...)
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("asked again it answers otherwise (-first +second):\n%s", diff)
			}
		})
	}
}

// TestWebhookLetsPass what it cannot read: the API server knows better.
func TestWebhookLetsPass(t *testing.T) {
	for _, raw := range []string{"", "{", `{"endpoints": 1}`} {
		request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Kind: metav1.GroupVersionKind{Kind: "EndpointSlice"},
			Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(raw)}}}
		if response := (&hook{}).Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
			t.Errorf("%q: allowed %t, %d patches", raw, response.Allowed, len(response.Patches))
		}
	}
}
