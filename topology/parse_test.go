package topology

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const oldKey = corev1.DeprecatedAnnotationTopologyAwareHints

func TestParse(t *testing.T) {
	cases := map[string]struct {
		reason       string
		mode         *string
		annotations  map[string]string
		distribution *string
		want         Policy
	}{
		"Nothing":        {reason: "Topology is asked for, never assumed."},
		"Auto":           {mode: new("Auto"), want: auto, reason: "The bound is upstream's."},
		"AutoLower":      {mode: new("auto"), want: auto, reason: "Upstream takes both."},
		"Disabled":       {mode: new("Disabled"), reason: "Off is off."},
		"Empty":          {mode: new(""), reason: "An empty value turns nothing on."},
		"PreferClose":    {distribution: new("PreferClose"), want: Policy{Mode: ModeSameZone}, reason: "It is the old name."},
		"PreferSameZone": {distribution: new("PreferSameZone"), want: Policy{Mode: ModeSameZone}},
		"PreferSameNode": {distribution: new("PreferSameNode"), want: Policy{Mode: ModeSameNode}},
		"Both": {
			mode: new("Auto"), distribution: new("PreferSameNode"), want: auto,
			reason: "The annotation overrides the field.",
		},
		"DisabledBesideField": {
			mode: new("Disabled"), distribution: new("PreferSameZone"), want: Policy{Mode: ModeSameZone},
			reason: "Upstream heeds the field where the annotation turns nothing on.",
		},
		"OldKey": {annotations: map[string]string{oldKey: "Auto"}, want: auto},
		"OldKeyWins": {
			mode: new("Auto"), annotations: map[string]string{oldKey: "Disabled"},
			reason: "The older key counts where both are set, as upstream.",
		},
		"OldKeyEmptyWins": {
			mode: new("Auto"), annotations: map[string]string{oldKey: ""},
			reason: "It is set, if to nothing.",
		},
		"Own": {mode: new("fairlead.dev/auto"), want: auto, reason: "Without options it is Auto."},
		"Full": {
			mode: new("fairlead.dev/auto.bound-0.strict.by-nodes.keep-5.several"),
			want: Policy{Mode: ModeAuto, Strict: true, By: ByNodes, Keep: 5, Several: true},
		},
		"AnyOrder": {
			mode: new("fairlead.dev/auto.keep-1000.by-cpu.bound-1000"),
			want: Policy{Mode: ModeAuto, Bound: 1000, By: ByCPU, Keep: 1000},
		},
		"Weights": {
			mode: new("fairlead.dev/auto.by-weights"), annotations: map[string]string{AnnotationWeights: "zone-b=1,zone-a=3,zone-c=0"},
			want:   Policy{Mode: ModeAuto, Bound: 20, By: ByWeights, Weights: "zone-a=3,zone-b=1,zone-c=0"},
			reason: "Equal weights in another order are an equal policy.",
		},
		"WeightsUnasked": {
			mode: new("Auto"), annotations: map[string]string{AnnotationWeights: "nonsense"}, want: auto,
			reason: "Weights that nothing asks for are not read.",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(serviceOf(tc.mode, tc.annotations, tc.distribution))
			if err != nil || got != tc.want {
				t.Errorf("%s\nwant %+v, got %+v, %v", tc.reason, tc.want, got, err)
			}
			if got.Whole() != (tc.want.Mode == ModeAuto) || got.Whole() && Local(got) != nil {
				t.Errorf("%+v is for the whole: %t", got, got.Whole())
			}
		})
	}
}

func serviceOf(mode *string, annotations map[string]string, distribution *string) *corev1.Service {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}, Spec: corev1.ServiceSpec{TrafficDistribution: distribution}}
	for key, value := range annotations {
		service.Annotations[key] = value
	}
	if mode != nil {
		service.Annotations[corev1.AnnotationTopologyMode] = *mode
	}
	return service
}

// TestParseErrors: a message names the annotation, the value, and everything that is wrong with it, in one line.
func TestParseErrors(t *testing.T) {
	cases := map[string]struct {
		mode, weights string
		old           bool
		distribution  *string
		says          []string
	}{
		"Unknown":      {mode: "Always", says: []string{corev1.AnnotationTopologyMode, `"Always"`, "Auto, Disabled"}},
		"Case":         {mode: "AUTO", says: []string{`"AUTO"`}},
		"Foreign":      {mode: "example.com/lowest-rtt", says: []string{`"example.com/lowest-rtt"`}},
		"OldKey":       {mode: "Always", old: true, says: []string{oldKey, `"Always"`}},
		"NoPolicy":     {mode: "fairlead.dev/fast", says: []string{`"fast" is no policy`}},
		"Option":       {mode: "fairlead.dev/auto.fast", says: []string{`"fast" is no option`, "bound-N"}},
		"EmptyOption":  {mode: "fairlead.dev/auto.", says: []string{`"" is no option`}},
		"Number":       {mode: "fairlead.dev/auto.bound-x", says: []string{`"x" is no whole number from 0 to 1000`}},
		"LeadingZero":  {mode: "fairlead.dev/auto.bound-020", says: []string{`"020"`}},
		"Negative":     {mode: "fairlead.dev/auto.keep--1", says: []string{`"-1"`}},
		"TooMuch":      {mode: "fairlead.dev/auto.keep-1001", says: []string{`"1001" is no whole number from 0 to 1000`}},
		"Twice":        {mode: "fairlead.dev/auto.bound-1.bound-2", says: []string{"bound-1 and bound-2 exclude each other"}},
		"Measures":     {mode: "fairlead.dev/auto.by-cpu.by-nodes", says: []string{"by-cpu and by-nodes exclude each other"}},
		"All":          {mode: "fairlead.dev/auto.fast.keep-x.by-weights", says: []string{`"fast"`, `"x"`, AnnotationWeights}},
		"Weights":      {mode: "fairlead.dev/auto.by-weights", weights: "zone-a=x,=3,zone-b", says: []string{`"zone-a=x"`, `"=3": "" is no zone`, `"zone-b"`}},
		"WeightsTwice": {mode: "fairlead.dev/auto.by-weights", weights: "zone-a=1,zone-b=1,zone-a=2", says: []string{"zone zone-a has two weights"}},
		"WeightsZero":  {mode: "fairlead.dev/auto.by-weights", weights: "zone-a=0", says: []string{"no weight is above 0"}},
		"WeightsLarge": {mode: "fairlead.dev/auto.by-weights", weights: "zone-a=1000001", says: []string{"from 0 to 1000000"}},
		"Distribution": {distribution: new("PreferSameRack"), says: []string{"spec.trafficDistribution", `"PreferSameRack"`}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			service := serviceOf(&tc.mode, map[string]string{AnnotationWeights: tc.weights}, tc.distribution)
			if tc.old {
				service = serviceOf(nil, map[string]string{oldKey: tc.mode}, nil)
			}
			policy, err := Parse(service)
			if err == nil || policy != None {
				t.Fatalf("got %+v and no error", policy)
			}
			for _, text := range tc.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the message does not say %s: %v", text, err)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("the message has more than one line: %q", err.Error())
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("fairlead.dev/auto.bound-10.by-weights.keep-5", "zone-a=3,zone-b=1")
	f.Add("fairlead.dev/auto.by-weights", "=,=,a=1")
	f.Fuzz(func(t *testing.T, mode, weights string) {
		policy, err := Parse(serviceOf(&mode, map[string]string{AnnotationWeights: weights}, nil))
		if err != nil && policy != None {
			t.Errorf("%v beside %+v", err, policy)
		}
		if policy.By == ByWeights && len(policy.weights()) == 0 {
			t.Errorf("no zone has a weight in %q", policy.Weights)
		}
	})
}
