package endpointslice

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{CRDs: "../../config/crd/bases"}) }

// world is an API server's namespace for one test.
type world struct {
	*apiserver.World
	// onSlice, if set, is called with every slice on its way into a cache that is started later.
	onSlice func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{World: apiserver.New(t)}
}

// start runs the controller for this test's namespace until the test ends, or stop is called.
func (w *world) start(r *Reconciler) (stop func()) {
	w.Helper()
	caches := w.Alone()
	caches.ByObject = map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Transform: PodTransform},
		&discoveryv1.EndpointSlice{}: {Transform: func(obj any) (any, error) {
			if w.onSlice != nil {
				w.onSlice()
			}
			return obj, nil
		}},
	}
	return w.Start(caches, r.SetupWithManager)
}

// startAndLook starts the controller and waits until it has looked at the only Service there is.
func (w *world) startAndLook(r *Reconciler) (stop func()) {
	w.Helper()
	before := apiserver.Passes(w.T, "success")
	stop = w.start(r)
	w.Eventually(func() error {
		if apiserver.Passes(w.T, "success") == before {
			return fmt.Errorf("the controller has not looked at anything")
		}
		return nil
	})
	return stop
}

func (w *world) service(mutate func(*corev1.Service)) *corev1.Service {
	w.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if mutate != nil {
		mutate(s)
	}
	w.Make(s)
	return s
}

// node makes a node; nodes are shared by all tests, so that each needs names of its own.
func (w *world) node(name, zone string) *corev1.Node {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-" + name}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	w.Make(n)
	w.Cleanup(func() { _ = w.Delete(context.Background(), n) })
	return n
}

// pod makes a running, ready Pod on a node.
func (w *world) pod(name, node string, ip ...string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName: node,
			Containers: []corev1.Container{{Name: "c", Image: "none", Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080},
			}}},
		},
	}
	w.Make(p)
	p.Status.Phase = corev1.PodRunning
	for _, a := range ip {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	p.Status.PodIP = ip[0]
	w.ready(p, true)
	return p
}

// ready writes a Pod's status with its Ready condition.
func (w *world) ready(p *corev1.Pod, ready bool) {
	w.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	if err := w.Status().Update(w.Context(), p); err != nil {
		w.Fatalf("writing the status of %s: %v", p.Name, err)
	}
}

func (w *world) slices() []discoveryv1.EndpointSlice {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// shown is what a test compares of an endpoint.
type shown struct {
	Address, Pod, Zone, Conditions, Hints string
}

// show returns every endpoint of every slice of ours in the namespace, by address, and fails on one that is there
// twice.
func (w *world) show() (map[string]shown, error) {
	all := map[string]shown{}
	for _, s := range w.slices() {
		if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
			continue
		}
		for _, e := range s.Endpoints {
			address := e.Addresses[0]
			if _, twice := all[address]; twice {
				return nil, fmt.Errorf("%s is there twice", address)
			}
			all[address] = shown{
				Address: address, Pod: e.TargetRef.Name, Zone: deref(e.Zone),
				Conditions: fmt.Sprintf("ready=%v serving=%v terminating=%v", *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating),
				Hints:      hints(e.Hints),
			}
		}
	}
	return all, nil
}

func hints(h *discoveryv1.EndpointHints) string {
	text := ""
	if h == nil {
		return text
	}
	for _, z := range h.ForZones {
		text += "zone " + z.Name
	}
	for _, n := range h.ForNodes {
		text += " node " + n.Name
	}
	return text
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// versions are the resourceVersions of all slices: equal before and after means that nothing was written.
func (w *world) versions() map[types.UID]string {
	w.Helper()
	versions := map[types.UID]string{}
	for _, s := range w.slices() {
		versions[s.UID] = s.ResourceVersion
	}
	return versions
}
