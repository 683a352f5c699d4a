package mirroring

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestLife: Endpoints come, change and go, before and after their Service.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	e := w.endpoints("db", subset("pg:5432", "192.0.2.1", "!192.0.2.2", "2001:db8::1"))
	w.probe()
	w.shows("db") // there is no Service
	s := w.service("db", nil)
	before := w.shows("db", "pg:5432 !192.0.2.2 192.0.2.1", "pg:5432 2001:db8::1")
	for _, slice := range before {
		if !metav1.IsControlledBy(&slice, e) || slice.ManagedFields[0].Manager != FieldManager {
			t.Errorf("owners are %v, writers %v", slice.OwnerReferences, slice.ManagedFields)
		}
	}

	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Subsets = []corev1.EndpointSubset{subset("pg:5433", "192.0.2.1", "192.0.2.2", "2001:db8::1")}
		e.Labels = map[string]string{"team": "a"}
	})
	after := w.shows("db", "pg:5433 192.0.2.1 192.0.2.2", "pg:5433 2001:db8::1")
	for i := range after {
		if after[i].UID != before[i].UID || after[i].Labels["team"] != "a" {
			t.Errorf("slice %s was not changed in place: %v", after[i].Name, after[i].Labels)
		}
	}

	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Subsets = nil })
	w.shows("db")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Subsets = []corev1.EndpointSubset{subset("pg:1", "192.0.2.1")} })
	w.shows("db", "pg:1 192.0.2.1")
	w.Remove(e)
	w.shows("db")
	w.endpoints("db", subset("pg:2", "192.0.2.1"))
	w.shows("db", "pg:2 192.0.2.1")
	w.Remove(s)
	w.shows("db")
	if n := len(w.slices("")); n != 2 {
		t.Errorf("%d slices are left, want those of the two probes", n)
	}
}

// TestNotMirrored: what stops mirroring also removes what was mirrored, and its end brings it back.
func TestNotMirrored(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{WithEndpoints: true})
	s := w.service("db", nil)
	e := w.endpoints("db", subset("pg:5432", "192.0.2.1"))
	const shown = "pg:5432 192.0.2.1"
	w.shows("db", shown)
	for name, turn := range map[string]struct{ off, on func() }{
		"Skip": {
			func() {
				apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"} })
			},
			func() { apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = nil }) },
		},
		"Lock": {
			func() {
				apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
					e.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
				})
			},
			func() { apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Annotations = nil }) },
		},
		"Selector": {
			func() {
				apiserver.Change(w.World, s, func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a": "b"} })
			},
			func() { apiserver.Change(w.World, s, func(s *corev1.Service) { s.Spec.Selector = nil }) },
		},
		"ByController": {
			func() {
				apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
					e.Labels = map[string]string{endpoints.ClassicManagedByLabel: endpoints.ClassicManagedBy}
				})
			},
			func() { apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = nil }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			turn.off()
			w.shows("db")
			turn.on()
			w.shows("db", shown)
		})
	}
}

// TestControllersEndpointsAlone: without the controller that would delete them, Endpoints that a controller wrote are
// mirrored like any other, as upstream does.
func TestControllersEndpointsAlone(t *testing.T) {
	w := newWorld(t)
	w.service("db", nil)
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "db", Labels: map[string]string{
			endpoints.ClassicManagedByLabel: endpoints.ClassicManagedBy,
		}},
		Subsets: []corev1.EndpointSubset{subset("pg:1", "192.0.2.1")},
	}
	w.Make(e)
	w.start(&Reconciler{})
	w.shows("db", "pg:1 192.0.2.1")
}

// TestNothingToDo: a restart, and events that change nothing, write nothing.
func TestNothingToDo(t *testing.T) {
	w := newWorld(t)
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:5432", "192.0.2.1", "2001:db8::1"), subset("x:1", "192.0.2.9"))
	stop := w.start(&Reconciler{})
	want := []string{"pg:5432 192.0.2.1", "pg:5432 2001:db8::1", "x:1 192.0.2.9"}
	before := versions(w.shows("db", want...))
	stop()
	w.start(&Reconciler{})
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z"}
		e.Subsets[0], e.Subsets[1] = e.Subsets[1], e.Subsets[0]
	})
	w.probe()
	if after := versions(w.slices("db")); !maps.Equal(before, after) {
		t.Errorf("versions were %v, are %v", before, after)
	}
}

// TestForeignEdits: somebody else's edit of a slice, whatever it is, is put back in place.
func TestForeignEdits(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{})
	w.service("other", nil)
	w.service("db", nil)
	w.endpoints("db", subset("pg:5432", "192.0.2.1"))
	const shown = "pg:5432 192.0.2.1"
	original := w.shows("db", shown)[0]
	for name, edit := range map[string]func(*discoveryv1.EndpointSlice){
		"Endpoints":   func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil },
		"Port":        func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(1)) },
		"Label":       func(s *discoveryv1.EndpointSlice) { s.Labels["x"] = "y" },
		"ManagedBy":   func(s *discoveryv1.EndpointSlice) { delete(s.Labels, discoveryv1.LabelManagedBy) },
		"ServiceName": func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelServiceName] = "other" },
		"Owner":       func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil },
		"Annotation":  func(s *discoveryv1.EndpointSlice) { s.Annotations = map[string]string{"x": "y"} },
	} {
		t.Run(name, func(t *testing.T) {
			edited := original.DeepCopy()
			apiserver.Change(w.World, edited, edit)
			w.Eventually(func() error {
				now := &discoveryv1.EndpointSlice{}
				if err := w.Get(t.Context(), client.ObjectKeyFromObject(&original), now); err != nil {
					return err
				}
				if now.ResourceVersion == edited.ResourceVersion {
					return fmt.Errorf("the edit stands: %v", now)
				}
				return nil
			})
			if repaired := w.shows("db", shown)[0]; repaired.UID != original.UID || len(repaired.Labels) != 2 ||
				len(repaired.OwnerReferences) != 1 || len(repaired.Annotations) != 0 {
				t.Errorf("the slice is now %+v", repaired.ObjectMeta)
			}
		})
	}
	t.Run("Deleted", func(t *testing.T) {
		w.Remove(&original)
		w.shows("db", shown)
	})
	t.Run("WhileAway", func(t *testing.T) {
		stop()
		slice := w.slices("db")[0]
		apiserver.Change(w.World, &slice, func(s *discoveryv1.EndpointSlice) {
			delete(s.Labels, discoveryv1.LabelManagedBy)
			s.Endpoints = nil
		})
		w.start(&Reconciler{})
		if repaired := w.shows("db", shown)[0]; repaired.UID != slice.UID {
			t.Error("the slice was replaced")
		}
	})
}

// TestSlicesOfOthers: slices that others make for the same Service are theirs.
func TestSlicesOfOthers(t *testing.T) {
	w := newWorld(t)
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:5432", "192.0.2.1"))
	for i, owner := range []*corev1.Endpoints{nil, e} {
		other := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: fmt.Sprintf("db-other-%d", i), Labels: map[string]string{
				discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: "example.com",
			}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
		if owner != nil {
			other.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("Endpoints"))}
		}
		w.Make(other)
	}
	w.start(&Reconciler{})
	w.shows("db", "pg:5432 192.0.2.1")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"} })
	w.shows("db")
	w.probe()
	left := 0
	for _, s := range w.slices("") {
		if strings.HasPrefix(s.Name, "db-other-") && s.Generation == 1 {
			left++
		}
	}
	if left != 2 {
		t.Errorf("%d of 2 slices of others are left as they were", left)
	}
}

// TestStaleCache: with a cache that is far behind, each change is still written once, nothing twice, and nothing is tried
// that the API server has to refuse.
func TestStaleCache(t *testing.T) {
	w := newWorld(t)
	var lag sync.Mutex
	lagging := true
	w.onSlice = func() {
		lag.Lock()
		slow := lagging
		lag.Unlock()
		if slow {
			time.Sleep(300 * time.Millisecond) // what is tested is a cache that is late
		}
	}
	w.start(&Reconciler{MaxBatchDelay: -1})
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:1", "192.0.2.1"))
	first := w.shows("db", "pg:1 192.0.2.1")[0]
	refused := apiserver.Passes(t, "requeue_after")
	for i := range 10 {
		apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
			e.Subsets = []corev1.EndpointSubset{subset("pg:1", "192.0.2.1", fmt.Sprintf("192.0.2.%d", 10+i))}
		})
		for _, s := range w.shows("db", fmt.Sprintf("pg:1 192.0.2.1 192.0.2.%d", 10+i)) {
			if s.UID != first.UID {
				t.Fatalf("the slice was replaced in round %d", i)
			}
		}
	}
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Subsets = nil })
	w.shows("db")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Subsets = []corev1.EndpointSubset{subset("pg:1", "192.0.2.1")} })
	again := w.shows("db", "pg:1 192.0.2.1")[0]
	lag.Lock()
	lagging = false
	lag.Unlock()
	w.probe()
	if now := w.slices("db"); len(now) != 1 || now[0].ResourceVersion != again.ResourceVersion {
		t.Errorf("old events changed the slices: %v", now)
	}
	if got := apiserver.Passes(t, "requeue_after") - refused; got > 0 {
		t.Errorf("%v passes planned from an old state", got)
	}
}

// TestVersionsThatGoBack: where the API server's versions are older than what is held, as after etcd was restored from a
// backup, every write is refused, until the cache is believed again.
func TestVersionsThatGoBack(t *testing.T) {
	w := newWorld(t)
	r := &Reconciler{MaxBatchDelay: -1}
	w.start(r)
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:5432", "192.0.2.1"))
	later := w.shows("db", "pg:5432 192.0.2.1")[0]
	later.ResourceVersion = "999999999999"
	r.held.observe(&later)
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Subsets = []corev1.EndpointSubset{subset("pg:5432", "192.0.2.2")}
	})
	w.shows("db", "pg:5432 192.0.2.2")
}

// TestAdmissionLabels: where an admission policy adds a label to all slices, a change writes the slice that it concerns
// and no other.
func TestAdmissionLabels(t *testing.T) {
	w := newWorld(t)
	w.Admit(`[JSONPatch{op: "add", path: "/metadata/labels/policy", value: "was-here"}]`,
		func(s *discoveryv1.EndpointSlice) bool { return s.Labels["policy"] == "was-here" })
	w.start(&Reconciler{MaxBatchDelay: -1})
	w.service("db", nil)
	e := w.endpoints("db", subset("a:1", "192.0.2.1"), subset("b:2", "192.0.2.2"), subset("c:3", "192.0.2.3"))
	w.shows("db", "a:1 192.0.2.1", "b:2 192.0.2.2", "c:3 192.0.2.3")
	w.probe() // The pass is over that wrote these.
	before := apiserver.Metric(t, subsystem+"_changes", "update")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Subsets = []corev1.EndpointSubset{subset("a:1", "192.0.2.1"), subset("b:2", "192.0.2.9"), subset("c:3", "192.0.2.3")}
	})
	w.shows("db", "a:1 192.0.2.1", "b:2 192.0.2.9", "c:3 192.0.2.3")
	w.probe()
	if n := apiserver.Metric(t, subsystem+"_changes", "update") - before; n != 1 {
		t.Errorf("one slice of three has changed, and %v were written", n)
	}
}

// TestMovesWait: while a slice cannot be created that is to take addresses over, they stay where they are.
func TestMovesWait(t *testing.T) {
	w := newWorld(t)
	var refusing atomic.Bool
	var refused atomic.Int32
	w.Intercept(func(request *http.Request, next http.RoundTripper) (*http.Response, error) {
		if refusing.Load() && request.Method == http.MethodPost && apiserver.Resource(request) == "endpointslices" {
			refused.Add(1)
			return nil, errors.New("the connection is lost")
		}
		return next.RoundTrip(request)
	})
	w.start(&Reconciler{MaxBatchDelay: -1})
	w.service("db", nil)
	both := subset("a:1", "192.0.2.1")
	both.Ports = append(both.Ports, corev1.EndpointPort{Name: "b", Port: 2})
	e := w.endpoints("db", both)
	var before []discoveryv1.EndpointSlice
	w.Eventually(func() error {
		if before = w.slices("db"); len(before) != 1 || len(before[0].Endpoints) != 1 {
			return fmt.Errorf("the slices are %v", before)
		}
		return nil
	})
	refusing.Store(true)
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Subsets = []corev1.EndpointSubset{subset("a:1", "192.0.2.1"), subset("b:2", "!192.0.2.1")}
	})
	w.Eventually(func() error {
		if n := refused.Load(); n < 3 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	if after := w.slices("db"); !maps.Equal(versions(after), versions(before)) {
		t.Errorf("port b has no slice, and this was made of the one that had it: %v", after)
	}
	refusing.Store(false)
	w.shows("db", "a:1 192.0.2.1", "b:2 !192.0.2.1")
}

// TestBatches: of many changes in a row, far fewer writes are made, and the last one is there in the end.
func TestBatches(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{MaxBatchDelay: time.Second})
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:1", "192.0.2.1"))
	w.shows("db", "pg:1 192.0.2.1")
	const n = 60
	for i := range n {
		apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
			e.Subsets = []corev1.EndpointSubset{subset("pg:1", fmt.Sprintf("192.0.2.%d", 10+i))}
		})
	}
	if got := w.shows("db", fmt.Sprintf("pg:1 192.0.2.%d", 10+n-1))[0].Generation; got > n/2 {
		t.Errorf("%d changes were written in %d writes", n, got-1)
	}
}

// TestLeftOut: addresses above the limit are left out, ready ones last, and an event says so, once.
func TestLeftOut(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	w.service("db", nil)
	var addresses []string
	for i := range 1003 {
		mark := ""
		if i < 10 {
			mark = "!"
		}
		addresses = append(addresses, fmt.Sprintf("%s192.0.%d.%d", mark, i/200, i%200+1))
	}
	e := w.endpoints("db", subset("pg:1", addresses...))
	w.Eventually(func() error {
		found := w.slices("db")
		if len(found) != 1 || len(found[0].Endpoints) != endpoints.MirrorCapacity {
			return fmt.Errorf("%d slices", len(found))
		}
		ready := 0
		for _, endpoint := range found[0].Endpoints {
			if *endpoint.Conditions.Ready {
				ready++
			}
		}
		if ready != 993 {
			t.Errorf("%d of 993 that are ready are mirrored", ready)
		}
		return nil
	})
	w.Eventually(func() error {
		if got := w.events(EventTooManyAddresses); len(got) != 1 || !strings.Contains(got[0], "Left out 3 ") {
			return fmt.Errorf("events are %q", got)
		}
		return nil
	})
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = map[string]string{"a": "b"} })
	w.Eventually(func() error {
		if w.slices("db")[0].Labels["a"] != "b" {
			return fmt.Errorf("the label is not there")
		}
		return nil
	})
	w.probe()
	if got := w.events(EventTooManyAddresses); len(got) != 1 {
		t.Errorf("events are %q", got)
	}
}

// TestRefused: what cannot be slices is said once, in an event, and not tried over and over; the rest is mirrored, and
// a mended object is.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	w.service("db", nil)
	twice := subset("pg:1", "192.0.2.1")
	twice.Ports = append(twice.Ports, corev1.EndpointPort{Name: "pg", Port: 2})
	failed := apiserver.Passes(t, "error")
	e := w.endpoints("db", twice, subset("x:3", "192.0.2.9"))
	w.shows("db", "x:3 192.0.2.9")
	w.Eventually(func() error {
		if got := w.events(EventFailed); len(got) != 1 || !strings.Contains(got[0], "ports[1].name") {
			return fmt.Errorf("events are %q", got)
		}
		return nil
	})
	for range 5 {
		w.probe() // long enough for many tries, were there any
	}
	// The events of what was written may wake it once more each.
	if got := apiserver.Passes(t, "error") - failed; got > 3 {
		t.Errorf("it was tried %v times", got)
	}
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Subsets = []corev1.EndpointSubset{subset("pg:1", "192.0.2.1")} })
	w.shows("db", "pg:1 192.0.2.1")
}

// TestNamespaceTerminating: nothing can be created in a namespace that goes, and nobody has to be told.
func TestNamespaceTerminating(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:1", "192.0.2.1"))
	original := w.shows("db", "pg:1 192.0.2.1")[0]
	w.Remove(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}})
	w.Eventually(func() error {
		// The API server refuses once it has seen the deletion itself.
		err := w.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, GenerateName: "x-"}})
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return fmt.Errorf("creating a ConfigMap: %w", err)
		}
		return nil
	})
	done, failed := apiserver.Passes(t, "success"), apiserver.Passes(t, "error")
	w.Remove(&original)
	w.Eventually(func() error {
		if apiserver.Passes(t, "success") == done && apiserver.Passes(t, "error") == failed {
			return fmt.Errorf("nobody has looked at the deletion")
		}
		return nil
	})
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Labels = map[string]string{"a": "b"} })
	w.Eventually(func() error {
		if apiserver.Passes(t, "success") < done+2 && apiserver.Passes(t, "error") == failed {
			return fmt.Errorf("nobody has looked at the change")
		}
		return nil
	})
	if got := apiserver.Passes(t, "error") - failed; got > 0 {
		t.Errorf("%v passes failed", got)
	}
}

// TestDeletionProtected: an Endpoints object that waits for a finalizer gets no new slices.
func TestDeletionProtected(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:1", "192.0.2.1"))
	w.shows("db", "pg:1 192.0.2.1")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Finalizers = []string{"example.com/wait"} })
	w.Remove(e)
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) {
		e.Subsets = []corev1.EndpointSubset{subset("pg:1", "192.0.2.2", "2001:db8::1")}
	})
	w.shows("db", "pg:1 192.0.2.2")
	apiserver.Change(w.World, e, func(e *corev1.Endpoints) { e.Finalizers = nil })
	w.shows("db")
}

// TestCoexist: beside kube-controller-manager nothing is added to the manager.
func TestCoexist(t *testing.T) {
	r := &Reconciler{Coexist: true}
	if err := r.SetupWithManager(nil); err != nil {
		t.Error(err)
	}
	if result, err := r.Reconcile(t.Context(), ctrl.Request{}); err != nil || !result.IsZero() {
		t.Errorf("the pass ended with %v, %v", result, err)
	}
}

// TestMetrics: upstream's names, and gauges that sum up what is mirrored.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	created, removed := apiserver.Metric(t, subsystem+"_changes", "create"), apiserver.Metric(t, subsystem+"_changes", "delete")
	desired, slices := apiserver.Metric(t, subsystem+"_endpoints_desired", ""), apiserver.Metric(t, subsystem+"_num_endpoint_slices", "")
	w.start(&Reconciler{})
	w.service("db", nil)
	e := w.endpoints("db", subset("pg:1", "192.0.2.1", "192.0.2.2", "2001:db8::1"))
	want := func(what string, now, want float64) error {
		if now != want {
			return fmt.Errorf("%s is %v, want %v", what, now, want)
		}
		return nil
	}
	w.Eventually(func() error {
		return errors.Join(
			want("changes by creation", apiserver.Metric(t, subsystem+"_changes", "create")-created, 2),
			want("endpoints_desired", apiserver.Metric(t, subsystem+"_endpoints_desired", "")-desired, 3),
			want("num_endpoint_slices", apiserver.Metric(t, subsystem+"_num_endpoint_slices", "")-slices, 2),
		)
	})
	w.Remove(e)
	w.Eventually(func() error {
		return errors.Join(
			want("changes by deletion", apiserver.Metric(t, subsystem+"_changes", "delete")-removed, 2),
			want("endpoints_desired", apiserver.Metric(t, subsystem+"_endpoints_desired", "")-desired, 0),
			want("num_endpoint_slices", apiserver.Metric(t, subsystem+"_num_endpoint_slices", "")-slices, 0),
		)
	})
}
