package topology

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
	"github.com/fairlead/fairlead/topology"
)

// TestBeside: what the controller writes beside kube-controller-manager, as the Service's policy, endpoints and nodes
// change, and what it says.
func TestBeside(t *testing.T) {
	w := newWorld(t, "Auto")
	foreign := slice("foreign", at("p8", "x", "x"), at("p9", "x", ""))
	foreign.Labels[discoveryv1.LabelManagedBy] = "someone.example"
	foreign = w.write(foreign)
	w.write(slice("a", at("p1", "x", ""), at("p2", "x", ""), at("!p5", "x", "y")))
	w.write(slice("b", at("p3", "y", "x")))
	six := slice("six", at("p1", "x", ""), at("p2", "y", ""))
	six.AddressType = discoveryv1.AddressTypeIPv6
	for i := range six.Endpoints {
		six.Endpoints[i].Addresses[0] = fmt.Sprintf("fd00::%d", i+1)
	}
	w.write(six)
	before := map[string]float64{} // Other tests leave Services behind.
	counted := func(reason string) float64 {
		return apiserver.Metric(t, "fairlead_topology_services", reason) - before[reason]
	}
	for _, reason := range []string{"BoundRaised", "BoundMet"} {
		before[reason] = counted(reason)
	}
	_, stop := w.start(true)

	// Two in x and one in y: y needs two for the bound. Each family has hints of its own.
	w.expect("b", "p3>y")
	w.expect("six", "p1>x p2>y")
	written := w.expect("a", "p1>x p2>x")
	if !slices.ContainsFunc(written.ManagedFields, func(f metav1.ManagedFieldsEntry) bool { return f.Manager == FieldManager }) {
		t.Errorf("it was written by %v", written.ManagedFields)
	}
	first := w.expectCondition(metav1.ConditionTrue, "BoundRaised")
	if !strings.Contains(first.Message, "3 endpoints") {
		t.Errorf("the condition is not about the primary family: %s", first.Message)
	}
	if got := w.events(); len(got) > 0 {
		t.Errorf("there are events about hints that just came: %v", got)
	}
	w.Eventually(func() error {
		if counted("BoundRaised") != 1 || apiserver.Metric(t, "fairlead_topology_overload_ratio", w.Namespace) != 0.5 {
			return errors.New("the metrics do not tell")
		}
		return nil
	})

	// A reason that changes is told, and the time only where the status does.
	w.ahead.Store(int64(time.Hour))
	w.mode("fairlead.dev/auto.bound-50")
	if c := w.expectCondition(metav1.ConditionTrue, "BoundMet"); !c.LastTransitionTime.Equal(&first.LastTransitionTime) {
		t.Errorf("hints stand since %s, not %s", first.LastTransitionTime, c.LastTransitionTime)
	}
	w.mode("fairlead.dev/auto.strict")
	w.expect("a", "p1>- p2>-")
	if c := w.expectCondition(metav1.ConditionFalse, "BoundNotMet"); !first.LastTransitionTime.Before(&c.LastTransitionTime) {
		t.Errorf("hints are off since %s", c.LastTransitionTime)
	}
	w.Eventually(func() error {
		if n := apiserver.Metric(t, "fairlead_topology_overload_ratio", w.Namespace); n != 0 || counted("BoundRaised")+counted("BoundMet") != 0 {
			return fmt.Errorf("figures of hints that are off: %f", n)
		}
		return nil
	})
	w.mode("Auto")
	w.expect("a", "p1>x p2>x")
	w.expectCondition(metav1.ConditionTrue, "BoundRaised")

	// No endpoints is nobody's fault.
	w.write(slice("a", at("!p1", "x", "")))
	w.write(slice("b", at("!p3", "y", "")))
	w.expectCondition(metav1.ConditionFalse, "NoEndpoints")
	w.write(slice("a", at("p1", "x", ""), at("p2", "x", "")))
	w.expect("a", "p1>x p2>y")
	w.expectCondition(metav1.ConditionTrue, "BoundMet")
	w.Eventually(func() error {
		if got, want := strings.Join(w.events(), ", "), "TopologyHintsOff BoundNotMet, TopologyHintsSet BoundRaised"; got != want {
			return fmt.Errorf("events are %s, want %s", got, want)
		}
		return nil
	})

	// A node that goes is followed.
	n := &corev1.Node{}
	w.Must(w.Get(t.Context(), client.ObjectKey{Name: w.Namespace + "-y"}, n))
	n.Spec.Unschedulable = true
	w.Must(w.Update(t.Context(), n))
	w.expect("a", "p1>x p2>x")

	now := &discoveryv1.EndpointSlice{}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(foreign), now))
	if now.ResourceVersion != foreign.ResourceVersion {
		t.Error("a stranger's slice was written")
	}
	w.Remove(w.service)
	w.Eventually(func() error {
		if counted("BoundMet") != 0 || apiserver.Metric(t, "fairlead_topology_overload_ratio", w.Namespace) != 0 {
			return errors.New("a Service that is gone is counted")
		}
		return nil
	})
	stop()
}

// TestBesideOthers: a labelled Service without a topology mode gets what upstream gives it, and no condition; without the
// label nothing is written.
func TestBesideOthers(t *testing.T) {
	w := newWorld(t, "Auto")
	w.write(slice("a", at("p1", "x", ""), at("p2", "x", "")))
	w.start(true)
	w.expect("a", "p1>x p2>y")
	w.expectCondition(metav1.ConditionTrue, "BoundMet")
	crossing := func() float64 { return apiserver.Metric(t, "fairlead_topology_cross_zone_ratio", w.Namespace) }
	if got := crossing(); got != 0.5 {
		t.Errorf("the share of traffic across zones is %f", got)
	}
	w.change(func(s *corev1.Service) {
		delete(s.Annotations, corev1.AnnotationTopologyMode)
		s.Spec.TrafficDistribution = new("PreferSameZone")
	})
	w.expect("a", "p1>x p2>x")
	w.expectCondition("", "")
	if got := crossing(); got != 0 {
		t.Errorf("a Service without a topology mode has the figure %f", got)
	}
	w.change(func(s *corev1.Service) { s.Spec.TrafficDistribution = nil })
	w.expect("a", "p1>- p2>-")
	w.change(func(s *corev1.Service) {
		delete(s.Labels, v1alpha1.LabelTopologyHints)
		s.Annotations = map[string]string{corev1.DeprecatedAnnotationTopologyAwareHints: "fairlead.dev/auto"}
	})
	w.expectCondition(metav1.ConditionFalse, "NotLabelled")
	w.expect("a", "p1>- p2>-")
	w.change(func(s *corev1.Service) { s.Labels = map[string]string{v1alpha1.LabelTopologyHints: "true"} })
	w.expect("a", "p1>x p2>y")
}

// TestBesideRefused: a slice that somebody else has written, or deleted, meanwhile is looked at again, and so is one
// that the API server could not write.
func TestBesideRefused(t *testing.T) {
	for _, status := range []int{http.StatusConflict, http.StatusNotFound, http.StatusInternalServerError} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			w := newWorld(t, "Auto")
			var refused atomic.Int64
			w.Intercept(func(request *http.Request, next http.RoundTripper) (*http.Response, error) {
				if request.Method != http.MethodPut || apiserver.Resource(request) != "endpointslices" || refused.Add(1) > 1 {
					return next.RoundTrip(request)
				}
				reason := map[int]metav1.StatusReason{http.StatusConflict: metav1.StatusReasonConflict, http.StatusNotFound: metav1.StatusReasonNotFound}[status]
				body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, status)
				return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: request,
					Body: io.NopCloser(strings.NewReader(body))}, nil
			})
			before := apiserver.Passes(t, "error")
			w.write(slice("a", at("p1", "x", ""), at("p2", "y", "")))
			w.write(slice("b", at("p3", "x", ""), at("p4", "y", "")))
			w.start(true)
			w.expect("a", "p1>x p2>y")
			w.expect("b", "p3>x p4>y")
			if errs := apiserver.Passes(t, "error") - before; errs > 0 != (status == http.StatusInternalServerError) {
				t.Errorf("%v passes ended in errors", errs)
			}
		})
	}
}

// TestBesideTogether: endpoints that come in a row are written together, and not one by one.
func TestBesideTogether(t *testing.T) {
	w := newWorld(t, "Auto")
	a := w.write(slice("a", at("p1", "x", ""), at("p2", "y", "")))
	w.start(true)
	w.expect("a", "p1>x p2>y")
	writes := func() float64 { return apiserver.Metric(t, "fairlead_topology_slice_writes_total", "") }
	before := writes()
	const more = 30
	want := []string{"p1>x", "p2>y"}
	for i := 10; i < 10+more; i++ {
		pod, zone := fmt.Sprint("p", i), []string{"x", "y"}[i%2]
		apiserver.Change(w.World, a, func(a *discoveryv1.EndpointSlice) { a.Endpoints = append(a.Endpoints, at(pod, zone, "")) })
		want = append(want, pod+">"+zone)
	}
	slices.Sort(want)
	w.expect("a", strings.Join(want, " "))
	if n := writes() - before; n > more/2 {
		t.Errorf("the slice was written %v times for %d endpoints", n, more)
	}
}

// TestExplained: in replace mode the controller says what others tell it, keeps to it, and writes no slices.
func TestExplained(t *testing.T) {
	w := newWorld(t, "Auto")
	w.write(slice("a", at("p1", "x", ""), at("p2", "x", "")))
	r, _ := w.start(false)
	key := client.ObjectKeyFromObject(w.service)
	r.Explain(key, topology.Report{Reason: topology.BoundMet, Hinted: true, Message: "fine", CrossZone: 0.25})
	if c := w.expectCondition(metav1.ConditionTrue, "BoundMet"); c.Message != "fine" {
		t.Errorf("the message is %q", c.Message)
	}
	// A stranger's changes are undone, other conditions stay.
	for _, conditions := range [][]metav1.Condition{
		{{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Is", LastTransitionTime: metav1.Now()}},
		{{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Is", LastTransitionTime: metav1.Now()},
			{Type: v1alpha1.ConditionTopologyHints, Status: metav1.ConditionFalse, Reason: "Nonsense", LastTransitionTime: metav1.Now()}},
	} {
		w.service.Status.Conditions = conditions
		w.Must(w.Status().Update(t.Context(), w.service))
		w.expectCondition(metav1.ConditionTrue, "BoundMet")
		if len(w.service.Status.Conditions) != 2 {
			t.Errorf("conditions are %+v", w.service.Status.Conditions)
		}
	}
	version := w.service.ResourceVersion
	r.Explain(key, topology.Report{Reason: topology.BoundMet, Hinted: true, Message: "other figures", CrossZone: 0.5})
	w.Eventually(func() error {
		if got := apiserver.Metric(t, "fairlead_topology_cross_zone_ratio", w.Namespace); got != 0.5 {
			return fmt.Errorf("the figure is %f", got)
		}
		return nil
	})
	w.Must(w.Get(t.Context(), key, w.service))
	if w.service.ResourceVersion != version {
		t.Error("the Service was written for other figures")
	}
	// A Service of the same name is another, and what was said of the one before is not said of it.
	w.Remove(w.service)
	w.Eventually(func() error {
		if r.lastReport(key) != nil {
			return errors.New("the report is kept")
		}
		return nil
	})
	w.service.ResourceVersion, w.service.UID, w.service.Status = "", "", corev1.ServiceStatus{}
	w.service.Spec.ClusterIP, w.service.Spec.ClusterIPs = "", nil
	w.Make(w.service)
	w.Eventually(func() error { return r.Client.Get(t.Context(), key, &corev1.Service{}) }) // Whoever explains it has seen it.
	r.Explain(key, topology.Report{Reason: topology.BoundNotMet, Message: "too few"})
	if c := w.expectCondition(metav1.ConditionFalse, "BoundNotMet"); c.Message != "too few" {
		t.Errorf("the message is %q", c.Message)
	}
	w.expect("a", "p1>- p2>-")
}
