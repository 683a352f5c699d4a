package mirroring

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{}) }

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
	caches.ByObject = map[client.Object]cache.ByObject{&discoveryv1.EndpointSlice{}: {Transform: func(obj any) (any, error) {
		if w.onSlice != nil {
			w.onSlice()
		}
		return obj, nil
	}}}
	return w.Start(caches, r.SetupWithManager)
}

// probe makes one more Service and its Endpoints and waits until they are mirrored: what the controller was told before
// them it has looked at by then, since keys are worked on in the order of their events, but for those that it retries.
func (w *world) probe() {
	w.Helper()
	for i := range 2 {
		name := fmt.Sprintf("probe-%d-%d", time.Now().UnixNano(), i)
		w.service(name, nil)
		w.endpoints(name, subset("x:1", "192.0.2.1"))
		w.Eventually(func() error {
			for _, slice := range w.slices(name) {
				if len(slice.Endpoints) == 1 {
					return nil
				}
			}
			return fmt.Errorf("%s is not mirrored", name)
		})
	}
}

func (w *world) service(name string, selector map[string]string) *corev1.Service {
	w.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Name: "pg", Port: 5432}}},
	}
	w.Make(s)
	return s
}

func (w *world) endpoints(name string, subsets ...corev1.EndpointSubset) *corev1.Endpoints {
	w.Helper()
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}, Subsets: subsets}
	w.Make(e)
	return e
}

// subset returns a subset with one port, as name:number, and addresses, those that begin with ! not ready.
func subset(port string, addresses ...string) corev1.EndpointSubset {
	p := corev1.EndpointPort{}
	p.Name, _, _ = strings.Cut(port, ":")
	_, _ = fmt.Sscanf(port[len(p.Name):], ":%d", &p.Port)
	s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{p}}
	for _, address := range addresses {
		if ip, notReady := strings.CutPrefix(address, "!"); notReady {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		} else {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
	}
	return s
}

// slices returns the slices that mirror the Endpoints of this name; empty: all of the namespace.
func (w *world) slices(name string) []discoveryv1.EndpointSlice {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(s discoveryv1.EndpointSlice) bool {
		return name != "" && (s.Labels[discoveryv1.LabelServiceName] != name || s.Labels[discoveryv1.LabelManagedBy] != ManagedBy)
	})
}

// shows waits until the slices of this name are these, each written as its port and addresses as subset takes them.
func (w *world) shows(name string, want ...string) []discoveryv1.EndpointSlice {
	w.Helper()
	var found []discoveryv1.EndpointSlice
	w.Eventually(func() error {
		found = w.slices(name)
		lines := []string{}
		for _, s := range found {
			var addresses []string
			for _, e := range s.Endpoints {
				mark := ""
				if !*e.Conditions.Ready {
					mark = "!"
				}
				addresses = append(addresses, mark+e.Addresses[0])
			}
			slices.Sort(addresses)
			lines = append(lines, fmt.Sprintf("%s:%d %s", *s.Ports[0].Name, *s.Ports[0].Port, strings.Join(addresses, " ")))
		}
		slices.Sort(lines)
		if !slices.Equal(lines, want) && len(lines)+len(want) > 0 {
			return fmt.Errorf("the slices of %s are %q, want %q", name, lines, want)
		}
		return nil
	})
	return found
}

// versions are the resourceVersions of slices: equal before and after means that nothing was written.
func versions(all []discoveryv1.EndpointSlice) map[types.UID]string {
	versions := map[types.UID]string{}
	for _, s := range all {
		versions[s.UID] = s.ResourceVersion
	}
	return versions
}

// events returns the messages of the events with a reason in the namespace.
func (w *world) events(reason string) []string {
	w.Helper()
	var list corev1.EventList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	var messages []string
	for _, e := range list.Items {
		if e.Reason == reason {
			messages = append(messages, e.Message)
		}
	}
	return messages
}
