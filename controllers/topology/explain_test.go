package topology

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/topology"
)

func TestJudge(t *testing.T) {
	report := &topology.Report{Reason: topology.BoundMet, Hinted: true, Message: "figures"}
	local := topology.Policy{Mode: topology.ModeSameZone}
	cases := map[string]struct {
		reason            string
		coexist, labelled bool
		mode              string
		selectorless      bool
		policy            topology.Policy
		wrong             error
		report            *topology.Report
		resting           bool
		want              string
		unknown           bool
	}{
		"Met":              {reason: "the report counts", mode: "Auto", policy: auto, report: report, want: "BoundMet"},
		"NotYet":           {reason: "what was said stays until there is a report", mode: "Auto", policy: auto, unknown: true},
		"Wrong":            {reason: "a mistake is named", mode: "x", wrong: errors.New("x is not known"), want: "UnknownMode"},
		"Local":            {reason: "who asks for no mode is told nothing", policy: local},
		"BesideUnlabelled": {reason: "Auto is upstream's", coexist: true, mode: "Auto", policy: auto, report: report},
		"BesideOurs":       {reason: "a value of ours nobody else serves", coexist: true, mode: "fairlead.dev/auto", policy: auto, want: "NotLabelled"},
		"BesideUnknown":    {reason: "another's value is another's", coexist: true, mode: "example.com/x", wrong: errors.New("x")},
		"BesideLabelled":   {reason: "it is ours", coexist: true, labelled: true, mode: "Auto", policy: auto, report: report, want: "BoundMet"},
		"BesideResting":    {reason: "somebody takes hints off", coexist: true, labelled: true, mode: "Auto", policy: auto, report: report, resting: true, want: "HintsRemoved"},
		"BesideSelectorless": {reason: "slices of EndpointSelectors are ours in any mode", coexist: true, selectorless: true, mode: "Auto", policy: auto,
			report: report, want: "BoundMet"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.AnnotationTopologyMode: tc.mode}},
				Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
			if tc.labelled {
				service.Labels = map[string]string{v1alpha1.LabelTopologyHints: "true"}
			}
			if tc.selectorless {
				service.Spec.Selector = nil
			}
			is, known := New(tc.coexist).judge(service, tc.policy, tc.wrong, tc.report, tc.resting)
			got := ""
			if is != nil {
				got = is.reason
			}
			if got != tc.want || known == tc.unknown || is != nil && is.hinted != (tc.want == "BoundMet") {
				t.Errorf("%s: got %+v, known %t, want %q", tc.reason, is, known, tc.want)
			}
		})
	}
}

// TestExplainWakes for a reason that is news, and not for figures.
func TestExplainWakes(t *testing.T) {
	r := New(false)
	service := types.NamespacedName{Namespace: "ns", Name: "s"}
	r.Explain(service, topology.Report{Reason: topology.NoEndpoints}) // Nobody listens yet.
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer queue.ShutDown()
	if err := (listening{r}).Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		report topology.Report
		wakes  bool
	}{
		{topology.Report{Reason: topology.NoEndpoints}, false},
		{topology.Report{Reason: topology.BoundMet, Hinted: true}, true},
		{topology.Report{Reason: topology.BoundMet, Hinted: true, CrossZone: 0.1, Message: "other figures"}, false},
		{topology.Report{Reason: topology.BoundRaised, Hinted: true}, true},
	}
	for i, step := range steps {
		r.Explain(service, step.report)
		if woke := queue.Len() > 0; woke != step.wakes {
			t.Errorf("step %d: woke %t", i, woke)
		}
		if queue.Len() > 0 {
			item, _ := queue.Get()
			queue.Done(item)
		}
		if got := r.lastReport(service); got == nil || got.Message != step.report.Message {
			t.Errorf("step %d: the report kept is %+v", i, got)
		}
	}
	r.forget(service)
	if r.lastReport(service) != nil {
		t.Error("the report of a Service that is gone is kept")
	}
}
