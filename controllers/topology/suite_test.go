package topology

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{}) }

// world is an API server's namespace for one test, with nodes in zones x and y, and one Service.
type world struct {
	*apiserver.World
	service *corev1.Service
	// ahead is by how much the controller's clock is ahead.
	ahead atomic.Int64
}

func newWorld(t *testing.T, mode string) *world {
	t.Helper()
	w := &world{World: apiserver.New(t)}
	for _, zone := range []string{"x", "y"} {
		n := node(w.Namespace+"-"+zone, zone, "4")
		status := n.Status
		w.Make(n)
		t.Cleanup(func() { w.Must(w.Delete(context.Background(), n)) })
		n.Spec.Taints = nil // Every new node has one (TaintNodesByCondition), and nobody is here to take it off.
		w.Must(w.Update(t.Context(), n))
		n.Status = status
		w.Must(w.Status().Update(t.Context(), n))
	}
	w.service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "s", Labels: map[string]string{v1alpha1.LabelTopologyHints: "true"},
			Annotations: map[string]string{corev1.AnnotationTopologyMode: mode}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.Make(w.service)
	return w
}

// Now is the controller's time.
func (w *world) Now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// Since makes a clock of it.
func (w *world) Since(at time.Time) time.Duration { return w.Now().Sub(at) }

// unserved is a manager whose webhooks nobody asks.
type unserved struct{ ctrl.Manager }

func (unserved) GetWebhookServer() webhook.Server { return webhook.NewServer(webhook.Options{}) }

func (w *world) start(coexist bool) (*Reconciler, func()) {
	w.Helper()
	r := New(coexist)
	r.Clock = w
	stop := w.Start(w.Alone(), func(mgr ctrl.Manager) error { return r.SetupWithManager(unserved{mgr}) })
	return r, stop
}

// change changes the Service.
func (w *world) change(mutate func(*corev1.Service)) {
	w.Helper()
	apiserver.Change(w.World, w.service, mutate)
}

// mode changes the Service's topology mode.
func (w *world) mode(value string) {
	w.Helper()
	w.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = value })
}

// write makes a slice, or makes it what it is here, as kube-controller-manager does.
func (w *world) write(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	w.Helper()
	s.Namespace = w.Namespace
	current := &discoveryv1.EndpointSlice{}
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(s), current); err != nil {
		w.Make(s)
		return s
	}
	apiserver.Change(w.World, current, func(c *discoveryv1.EndpointSlice) { c.Endpoints = s.Endpoints })
	return current
}

// expect waits until the ready endpoints of a slice have hints, such as "p1>x p2>-", and returns the slice.
func (w *world) expect(name, want string) *discoveryv1.EndpointSlice {
	w.Helper()
	s := &discoveryv1.EndpointSlice{}
	w.Eventually(func() error {
		w.Must(w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, s))
		var texts []string
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			to := "-"
			if !none(e.Hints) && len(e.Hints.ForZones) > 0 {
				to = e.Hints.ForZones[0].Name
			}
			if ready(e) {
				texts = append(texts, keyOf(e)+">"+to)
			}
		}
		slices.Sort(texts)
		if got := strings.Join(texts, " "); got != want {
			return fmt.Errorf("hints of %s are %s, want %s", name, got, want)
		}
		return nil
	})
	return s
}

// expectCondition waits for a reason; empty: for no condition.
func (w *world) expectCondition(status metav1.ConditionStatus, reason string) *metav1.Condition {
	w.Helper()
	var is *metav1.Condition
	w.Eventually(func() error {
		w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(w.service), w.service))
		is = meta.FindStatusCondition(w.service.Status.Conditions, v1alpha1.ConditionTopologyHints)
		if is == nil && reason == "" || is != nil && is.Reason == reason && is.Status == status {
			return nil
		}
		return fmt.Errorf("the condition is %+v, want %s", is, reason)
	})
	return is
}

// events returns the events of the test, as "TopologyHintsOff UnknownMode".
func (w *world) events() (texts []string) {
	w.Helper()
	var list eventsv1.EventList
	w.Must(w.List(w.Context(), &list, client.InNamespace(w.Namespace)))
	for _, e := range list.Items {
		if !strings.HasPrefix(e.Reason, "Topology") { // the API server has some to tell of its own
			continue
		}
		reason, _, _ := strings.Cut(e.Note, ":")
		texts = append(texts, e.Reason+" "+reason)
	}
	slices.Sort(texts)
	return texts
}
