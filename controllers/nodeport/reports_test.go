package nodeport

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestOn: a node is believed only where the Service has the port.
func TestOn(t *testing.T) {
	svc := nodePort("web", 31000)
	svc.Spec.HealthCheckNodePort = 31005
	on1 := func(l listener) listener { l.node = "n1"; return l }
	cases := map[string]struct {
		reason    string
		told, has []listener
	}{
		"Served":      {"", []listener{on1(listener{Port: 31000})}, []listener{on1(listener{Port: 31000})}},
		"HealthCheck": {"", []listener{on1(listener{Port: 31005, HealthCheck: true})}, []listener{on1(listener{Port: 31005, HealthCheck: true})}},
		"Elsewhere":   {"it is late, or lies", []listener{on1(listener{Port: 31001})}, nil},
		"NoCheck":     {"the port is not what it says", []listener{on1(listener{Port: 31000, HealthCheck: true}), on1(listener{Port: 31005})}, nil},
		"Sorted": {"by port, protocol, node, place", []listener{{Port: 31000, Protocol: "UDP", node: "a"}, {Port: 31000, Protocol: "TCP", node: "b"}, {Port: 31000, Protocol: "TCP", node: "a", Listener: "b"}, {Port: 31000, Protocol: "TCP", node: "a", Listener: "a"}},
			[]listener{{Port: 31000, Protocol: "TCP", node: "a", Listener: "a"}, {Port: 31000, Protocol: "TCP", node: "a", Listener: "b"}, {Port: 31000, Protocol: "TCP", node: "b"}, {Port: 31000, Protocol: "UDP", node: "a"}}},
		"Twice":     {"one is enough", []listener{on1(listener{Port: 31000}), on1(listener{Port: 31000})}, []listener{on1(listener{Port: 31000})}},
		"Printable": {"texts come from nodes", []listener{{Port: 31000, Process: "a\nb\x00\xff" + strings.Repeat("ü", 100)}}, []listener{{Port: 31000, Process: "a?b??" + strings.Repeat("ü", longestName-5)}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.has, on(svc, tc.told), cmp.AllowUnexported(listener{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	port := listener{Port: 31000, Protocol: "TCP", Listener: "0.0.0.0:31000", node: "n1"}
	check := listener{Port: 31005, Protocol: "TCP", HealthCheck: true, Process: "nginx", Listener: "[::]:31005", node: "n2"}
	const begin, end = "programs on nodes listen on ports of this Service: ", "; give the Service other ports, or the programs"
	for want, listeners := range map[string][]listener{
		begin + "31000/TCP on node n1 (unknown program, 0.0.0.0:31000); what comes to a node port goes to the Service and not to them" + end: {port},
		begin + "healthCheckNodePort 31005 on node n2 (nginx, [::]:31005); load balancers ask them, and not the node agent, whether the " +
			"Service has endpoints there" + end: {check},
	} {
		if got := message(listeners); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := message([]listener{port, port, port, port, check}); !strings.Contains(got, " and 2 more; what comes") || !strings.Contains(got, "; load balancers") {
		t.Errorf("of many it says %q", got)
	}
}

// TestKnown: what a node told counts until it has been silent for long, and so does that a node has told nothing.
func TestKnown(t *testing.T) {
	now := time.Now()
	told := []listener{{Port: 1}}
	cases := map[string]struct {
		reason                  string
		h                       heard
		found, telling, missing int
	}{
		"Told":        {"it answers", heard{last: now, told: true, listeners: told}, 1, 1, 0},
		"Silent":      {"for a while", heard{last: now.Add(1 - believedFor), told: true, silent: true, listeners: told}, 1, 0, 0},
		"Gone":        {"for long", heard{last: now.Add(-believedFor), told: true, silent: true, listeners: told}, 0, 0, 0},
		"Never":       {"it may still have something to tell", heard{last: now.Add(1 - believedFor), silent: true}, 0, 0, 1},
		"NeverAtAll":  {"there is no agent", heard{last: now.Add(-believedFor), silent: true}, 0, 0, 0},
		"LongAgoBack": {"it answers again", heard{last: now.Add(-2 * believedFor), told: true, listeners: told}, 1, 1, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := &gatherer{now: func() time.Time { return now }, nodes: map[string]*heard{"n": &tc.h}}
			found, telling, missing := g.known()
			if diff := cmp.Diff([]int{tc.found, tc.telling, tc.missing}, []int{len(found), telling, missing}); diff != "" {
				t.Errorf("%s: found, telling, missing (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestAsks: a node is asked by its address; one that is made again is another one.
func TestAsks(t *testing.T) {
	answer := func(http.ResponseWriter, *http.Request) {}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) { answer(out, request) }))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	defer server.Close()
	address := server.Listener.Addr().(*net.TCPAddr)
	identified := 0
	g := &gatherer{now: time.Now, nodes: map[string]*heard{}, reports: Reports{Port: uint16(address.Port)},
		agents: agentClient(func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			identified++
			return &server.TLS.Certificates[0], nil
		})}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}}
	text := func(body string) func(http.ResponseWriter, *http.Request) {
		return func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, body) }
	}
	const good = `{"checked":"2026-01-02T03:04:05Z","clashes":[{"namespace":"web","service":"cart","protocol":"TCP","port":31000,"listener":"0.0.0.0:31000"}]}`
	answer = text(good)
	got, err := g.fetch(t.Context(), &node)
	want := []listener{{Namespace: "web", Service: "cart", Protocol: "TCP", Port: 31000, Listener: "0.0.0.0:31000", node: "n1"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(listener{})); diff != "" || err != nil || identified != 1 {
		t.Errorf("got %v, having shown a certificate %d times (-want +got):\n%s", err, identified, diff)
	}
	g.ask(t.Context(), []corev1.Node{node})
	if h := g.nodes["n1"]; !h.told || h.silent || len(h.listeners) != 1 {
		t.Errorf("it is heard as %+v", h)
	}
	wrong := map[string]func(http.ResponseWriter, *http.Request){
		"NotYet":   text(`{"checked":"0001-01-01T00:00:00Z","clashes":[]}`),
		"Nonsense": text(`<html>`),
		"Endless":  text(`{"checked":"2026-01-02T03:04:05Z","clashes":[` + strings.Repeat(`{"port":1},`, answerSize/8) + `{}]}`),
		"Error":    func(out http.ResponseWriter, _ *http.Request) { http.Error(out, good, http.StatusTeapot) },
		"Elsewhere": func(out http.ResponseWriter, request *http.Request) {
			if request.URL.Path == "/other" {
				_, _ = io.WriteString(out, good)
				return
			}
			http.Redirect(out, request, "/other", http.StatusFound)
		},
	}
	for name, do := range wrong {
		t.Run(name, func(t *testing.T) {
			answer = do
			if got, err := g.fetch(t.Context(), &node); err == nil {
				t.Errorf("it was believed: %+v", got)
			}
		})
	}
	answer = wrong["Error"]
	g.ask(t.Context(), []corev1.Node{node})
	if h := g.nodes["n1"]; !h.told || !h.silent || len(h.listeners) != 1 {
		t.Errorf("a silent one is heard as %+v", h)
	}
	again := node
	again.UID = types.UID("2")
	g.ask(t.Context(), []corev1.Node{again})
	if h := g.nodes["n1"]; h.told || !h.silent || h.listeners != nil {
		t.Errorf("one that was made again is heard as %+v", h)
	}
	for _, addresses := range [][]corev1.NodeAddress{nil, {{Type: corev1.NodeInternalIP, Address: "metadata.internal"}}} {
		again.Status.Addresses = addresses
		if got, err := g.fetch(t.Context(), &again); err == nil {
			t.Errorf("one at %+v was asked: %+v", addresses, got)
		}
	}
	g.ask(t.Context(), nil)
	if len(g.nodes) > 0 {
		t.Errorf("a node that is gone is heard: %v", g.nodes)
	}
}

// TestAskedAtOnce: many nodes that do not answer are asked side by side, and an end of the manager ends that.
func TestAskedAtOnce(t *testing.T) {
	waiting := make(chan struct{}, 2*askedAtOnce)
	g := &gatherer{now: time.Now, nodes: map[string]*heard{}, reports: Reports{Port: 1}, agents: &http.Client{Transport: roundTripper(func(request *http.Request) (*http.Response, error) {
		waiting <- struct{}{}
		<-request.Context().Done()
		return nil, errors.New("ended")
	})}}
	var nodes []corev1.Node
	for i := range 2 * askedAtOnce {
		nodes = append(nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ask(ctx, nodes)
	}()
	for range askedAtOnce {
		<-waiting
	}
	if len(waiting) > 0 {
		t.Errorf("more than %d are asked at once", askedAtOnce)
	}
	cancel()
	<-done
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// TestGathers: the condition of a Service follows what nodes tell. There is one event for it, and nothing is taken back while a
// node has not told anything.
func TestGathers(t *testing.T) {
	w := newWorld(t, first)
	w.stop()
	var mu sync.Mutex
	var told []listener
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		_ = json.NewEncoder(out).Encode(map[string]any{"checked": time.Now(), "clashes": told})
	}))
	defer server.Close()
	tell := func(listeners ...listener) {
		mu.Lock()
		defer mu.Unlock()
		told = listeners
	}
	svc := w.create("web", 30003)
	nodes := map[string]*corev1.Node{}
	for name, address := range map[string]string{"tells": "127.0.0.1", "silent": "127.0.0.2"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		w.Make(node)
		t.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), node))) })
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		w.Must(w.Client.Status().Update(t.Context(), node))
		nodes[name] = node
	}
	program := listener{Namespace: w.Namespace, Service: "web", Protocol: "TCP", Port: 30003, Listener: "0.0.0.0:30003"}
	tell(program)
	w.Start(cache.Options{}, func(mgr ctrl.Manager) error {
		return (&Reconciler{Range: nodePorts, Coexist: true, Reports: Reports{
			Port: uint16(server.Listener.Addr().(*net.TCPAddr).Port), Interval: 20 * time.Millisecond,
			Identity: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }}}).SetupWithManager(mgr)
	})
	expect := func(status metav1.ConditionStatus, reason, says string) metav1.Condition {
		t.Helper()
		var c *metav1.Condition
		w.Eventually(func() error {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			c = meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsClear)
			if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, says) {
				return fmt.Errorf("the condition is %+v", c)
			}
			return nil
		})
		return *c
	}
	before := expect(metav1.ConditionFalse, v1alpha1.ReasonListener, "30003/TCP on node tells")
	w.Eventually(func() error { // times are in seconds
		if time.Since(before.LastTransitionTime.Time) < 1100*time.Millisecond {
			return errors.New("it is too early")
		}
		return nil
	})
	udp := program
	udp.Protocol = "UDP"
	tell(program, udp)
	if c := expect(metav1.ConditionFalse, v1alpha1.ReasonListener, "30003/UDP"); !c.LastTransitionTime.Equal(&before.LastTransitionTime) {
		t.Errorf("it became False at %s, and now says %s", before.LastTransitionTime, c.LastTransitionTime)
	}
	tell()
	mu.Lock()
	asked = 0
	mu.Unlock()
	w.Eventually(func() error {
		mu.Lock()
		defer mu.Unlock()
		if asked < 5 {
			return fmt.Errorf("asked %d times", asked)
		}
		return nil
	})
	expect(metav1.ConditionFalse, v1alpha1.ReasonListener, "30003/UDP")
	w.Remove(nodes["silent"])
	if c := expect(metav1.ConditionTrue, v1alpha1.ReasonClear, ""); c.LastTransitionTime.Equal(&before.LastTransitionTime) {
		t.Error("the time of the transition stood still")
	}
	var list eventsv1.EventList
	w.Must(w.List(t.Context(), &list, client.InNamespace(w.Namespace)))
	events := 0
	for _, e := range list.Items {
		if e.Reason == "NodePortListener" {
			events++
		}
	}
	if events != 1 {
		t.Errorf("there are %d events, want one", events)
	}
}

// TestAsksFor: which webhook configurations name the webhook.
func TestAsksFor(t *testing.T) {
	ours, other := WebhookPath, "/topology-hints"
	at := func(path *string) admissionregistrationv1.WebhookClientConfig {
		return admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "n", Name: "s", Path: path}}
	}
	for name, tc := range map[string]struct {
		at   admissionregistrationv1.WebhookClientConfig
		want bool
	}{
		"Ours":    {at(&ours), true},
		"Another": {at(&other), false},
		"NoPath":  {at(nil), false},
		"URL":     {admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:9443" + ours)}, true},
		"Other":   {admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:9443" + other)}, false},
		"Nowhere": {admissionregistrationv1.WebhookClientConfig{}, false},
	} {
		webhooks := []admissionregistrationv1.MutatingWebhook{{ClientConfig: tc.at}}
		if got := asks(&admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: webhooks}); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
