package endpointslice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/test/apiserver"
)

// trouble stands between a manager and the API server, while it is on: it refuses, delays, cuts watches off and says that
// they are too old, and loses answers to what was done.
type trouble struct {
	mu     sync.Mutex
	random *rand.Rand
	on     bool
	// bags are what is to happen to requests of one sort, in an order of chance: each once, before any happens again.
	bags map[string][]string
	// kinds counts what it did, and writes the writes of slices that were tried.
	kinds   map[string]int
	writes  int
	watches []io.Closer
}

func (tr *trouble) turn(on bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.on = on
}

// choose says what happens to a request; nothing, if it is empty.
func (tr *trouble) choose(request *http.Request) (kind string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	write := request.Method != http.MethodGet && apiserver.Resource(request) == "endpointslices"
	if write {
		tr.writes++
	}
	if !tr.on {
		return ""
	}
	sort, kinds := "watch", []string{"", "gone"}
	if write {
		sort, kinds = "write", []string{"", "", "busy", "broken", "lost", "slow"}
	} else if !watches(request) {
		sort, kinds = "read", []string{"", "", "busy", "broken", "slow"}
	}
	if len(tr.bags[sort]) == 0 {
		tr.random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		tr.bags[sort] = kinds
	}
	kind, tr.bags[sort] = tr.bags[sort][0], tr.bags[sort][1:]
	tr.kinds[kind]++
	return kind
}

func (tr *trouble) between(request *http.Request, next http.RoundTripper) (*http.Response, error) {
	switch kind := tr.choose(request); kind {
	case "busy":
		response := answer(request, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
		response.Header.Set("Retry-After", "1") // The client waits, as long as priority and fairness tell it to.
		return response, nil
	case "broken":
		return answer(request, http.StatusInternalServerError, metav1.StatusReasonInternalError), nil
	case "gone":
		return answer(request, http.StatusGone, metav1.StatusReasonExpired), nil
	case "slow":
		select {
		case <-time.After(300 * time.Millisecond):
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	case "lost":
		response, err := next.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(errors.New("the connection is lost"), response.Body.Close())
	}
	response, err := next.RoundTrip(request)
	if err == nil && watches(request) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.watches = append(tr.watches, response.Body)
	}
	return response, err
}

func watches(request *http.Request) bool { return request.URL.Query().Get("watch") != "" }

// cut ends all watches, in the middle of what they are at.
func (tr *trouble) cut() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, body := range tr.watches {
		_ = body.Close()
		tr.kinds["cut"]++
	}
	tr.watches = nil
}

// complete says whether everything has happened.
func (tr *trouble) complete() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, kind := range []string{"busy", "broken", "lost", "slow", "cut", "gone"} {
		if tr.kinds[kind] < 3 {
			return false
		}
	}
	return true
}

// answer is one in the API server's place.
func answer(request *http.Request, code int, reason metav1.StatusReason) *http.Response {
	body := fmt.Appendf(nil, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":"trouble","code":%d}`, reason, code)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: request,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// TestTroubledServer: while more than half of all requests are refused, delayed or lost, and watches are cut off and found to be
// too old, what is tried stays within bounds, and when it is over the slices are right.
func TestTroubledServer(t *testing.T) {
	w := newWorld(t)
	tr := &trouble{random: rand.New(rand.NewPCG(1, 3)), bags: map[string][]string{}, kinds: map[string]int{}}
	w.Intercept(tr.between)
	nodes := []*corev1.Node{w.node("a", "zone-a"), w.node("b", "zone-b")}
	w.service(nil)
	pods := map[string]*corev1.Pod{}
	want := map[string]shown{}
	put := func(i int) {
		name, node := fmt.Sprint("p", i), nodes[i%2]
		pods[name] = w.pod(name, node.Name, fmt.Sprintf("10.244.0.%d", i+1))
		want[name] = shown{fmt.Sprintf("10.244.0.%d", i+1), name, node.Labels[corev1.LabelTopologyZone], up, ""}
	}
	for i := range 20 {
		put(i)
	}
	w.start(&Reconciler{MaxEndpointsPerSlice: 4, MaxBatchDelay: 10 * time.Millisecond})
	all := func() (list []shown) {
		for _, s := range want {
			list = append(list, s)
		}
		return list
	}
	w.expect(all()...)

	tr.turn(true)
	random := rand.New(rand.NewPCG(1, 4))
	changes, began := 0, time.Now()
	for ; changes < 300 || !tr.complete() && time.Since(began) < 2*time.Minute; changes++ {
		name := fmt.Sprint("p", random.IntN(30))
		switch pod := pods[name]; {
		case pod == nil:
			var number int
			_, _ = fmt.Sscanf(name, "p%d", &number)
			put(number)
		case random.IntN(4) == 0:
			w.Remove(pod)
			delete(pods, name)
			delete(want, name)
		default:
			s := want[name]
			w.ready(pod, s.Conditions == down)
			if s.Conditions == up {
				s.Conditions = down
			} else {
				s.Conditions = up
			}
			want[name] = s
		}
		if changes%50 == 0 {
			tr.cut()
		}
	}
	if !tr.complete() {
		t.Error("not everything happened that can")
	}
	tr.turn(false)
	w.expect(all()...)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	t.Logf("%d changes, %d writes tried; trouble: %v", changes, tr.writes, tr.kinds)
	if tr.writes > 2*changes {
		t.Errorf("%d changes were tried to be written in %d requests", changes, tr.writes)
	}
}

// TestRefusingServer: while the API server takes no slice at all, Pods that change all the time do not make for a request
// each, and once it does they do not wait for long.
func TestRefusingServer(t *testing.T) {
	w := newWorld(t)
	var refusing atomic.Bool
	var refused atomic.Int32
	w.Intercept(func(request *http.Request, next http.RoundTripper) (*http.Response, error) {
		if refusing.Load() && request.Method != http.MethodGet && apiserver.Resource(request) == "endpointslices" {
			refused.Add(1)
			return answer(request, http.StatusInternalServerError, metav1.StatusReasonInternalError), nil
		}
		return next.RoundTrip(request)
	})
	n := w.node("a", "zone-a")
	w.service(nil)
	one, two := w.pod("one", n.Name, "10.244.0.1"), w.pod("two", n.Name, "10.244.0.2")
	w.start(&Reconciler{})
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.0.2", "two", "zone-a", up, ""})
	refusing.Store(true)
	begin := time.Now()
	w.ready(two, false) // So that there is always something to write.
	const changes = 400
	for i := range changes {
		w.ready(one, i%2 == 1)
	}
	w.ready(one, false)
	took := time.Since(begin)
	refusing.Store(false)
	w.expect(shown{"10.244.0.1", "one", "zone-a", down, ""}, shown{"10.244.0.2", "two", "zone-a", down, ""})
	t.Logf("%d changes within %s, %d requests", changes, took, refused.Load())
	// 5 ms, 10, 20, …, half a second, and then one a second.
	if n, most := int(refused.Load()), 9+int(took/time.Second); n < 3 || n > most {
		t.Errorf("%d requests were made within %s, want some and %d at most", n, took, most)
	}
}

// TestForgets: of Services that came and went nothing is remembered.
func TestForgets(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", "zone-a")
	r := &Reconciler{}
	w.start(r)
	for i := range 30 {
		name := fmt.Sprint("s", i)
		w.service(func(s *corev1.Service) { s.Name, s.Spec.Selector = name, map[string]string{"app": "web"} })
	}
	pods := []*corev1.Pod{w.pod("one", n.Name, "10.244.0.1"), w.pod("two", n.Name, "10.244.0.2")}
	es := w.selector("web", blueOrGreen, nil)
	w.selectorless(nil)
	w.expectStatus(es, "Accepted", "Programmed", "0 pods, 0 endpoints, 0 ready")
	w.Eventually(func() error {
		filled := 0
		for _, slice := range w.slices() {
			if len(slice.Endpoints) == 2 {
				filled++
			}
		}
		if filled != 30 {
			return fmt.Errorf("%d slices have both Pods, not 30", filled)
		}
		return nil
	})
	w.Remove(es)
	for _, pod := range pods {
		w.Remove(pod)
	}
	var services corev1.ServiceList
	w.Must(w.List(t.Context(), &services, client.InNamespace(w.Namespace)))
	for i := range services.Items {
		w.Remove(&services.Items[i])
	}
	w.Must(w.DeleteAllOf(t.Context(), &discoveryv1.EndpointSlice{}, client.InNamespace(w.Namespace))) // As the garbage collector.
	w.Eventually(func() error {
		for i := range services.Items {
			if key := client.ObjectKeyFromObject(&services.Items[i]); r.states.Find(key) != nil || r.Tracker.Service(key) != nil {
				return fmt.Errorf("%s is remembered", key.Name)
			}
		}
		r.reports.mu.Lock()
		defer r.reports.mu.Unlock()
		if n := len(r.reports.byUID); n > 0 {
			return fmt.Errorf("%d EndpointSelectors are remembered", n)
		}
		return nil
	})
}
