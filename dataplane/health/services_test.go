package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	listenAgain = 20 * time.Millisecond
	nstest.Main(m)
}

// freePort is one that nobody listens on just now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// On loopback, which the model never chooses, so that a test opens nothing to the outside.
var onLoopback = model.NodePortAddresses{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}

func check(name string, port uint16, local int) model.HealthCheck {
	return model.HealthCheck{Service: types.NamespacedName{Namespace: "shop", Name: name}, Family: 4, Port: port, LocalEndpoints: local}
}

type answer struct {
	code   int
	header http.Header
	body   string
}

// fetch makes a connection of its own each time.
func fetch(port uint16) (answer, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// eventually polls until the port answers 200.
func eventually(t *testing.T, port uint16) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if got, err := fetch(port); err == nil && got.code == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the port is never taken up once it is free")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestServiceHealth(t *testing.T) {
	h, clock := newHealth(t)
	port := freePort(t)
	report := func(checks ...model.HealthCheck) {
		h.Synced(dpsync.Result{HealthChecks: checks, NodePorts: onLoopback})
	}
	expect := func(when string, code int, weight, body string) {
		t.Helper()
		got, err := fetch(port)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got.code != code || got.body != body {
			t.Errorf("%s: %d %s, want %d %s", when, got.code, got.body, code, body)
		}
		for header, want := range map[string]string{"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": weight} {
			if value := got.header.Get(header); value != want {
				t.Errorf("%s: header %s is %q, want %q", when, header, value, want)
			}
		}
	}
	body := func(name string, local int, healthy bool) string {
		return fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}", name, local, healthy)
	}
	report(check("web", port, 2))
	expect("two local endpoints", 200, "2", body("web", 2, true))
	report(check("web", port, 0))
	expect("none", 503, "0", body("web", 0, true))
	report(check("web", port, 1))
	h.Queued()
	*clock = clock.Add(Timeout)
	expect("the dataplane is stuck", 503, "1", body("web", 1, false))
	report(check("api", port, 3))
	expect("the port went to another Service", 200, "3", body("api", 3, true))
	report()
	if _, err := fetch(port); err == nil {
		t.Error("still answering after the Service is gone")
	}
	h.Close()
	report(check("web", port, 2))
	if _, err := fetch(port); err == nil {
		t.Error("answering after the end")
	}
}

// TestServiceHealthPortOfTwo: of two Services with one port, which an API server would not allow, the first has it.
func TestServiceHealthPortOfTwo(t *testing.T) {
	h, _ := newHealth(t)
	port := freePort(t)
	h.Synced(dpsync.Result{HealthChecks: []model.HealthCheck{check("a", port, 1), check("b", port, 0)}, NodePorts: onLoopback})
	if got, err := fetch(port); err != nil || got.code != 200 || !strings.Contains(got.body, `"name": "a"`) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestServiceHealthBothFamilies: on all addresses, too, each family has the port for itself.
func TestServiceHealthBothFamilies(t *testing.T) {
	var log lines
	h := New(log.logger(), 0)
	t.Cleanup(h.Close)
	four := check("web", 32000, 1)
	six := four
	six.Family = 6
	if err := nstest.New(t, "node").Do(func() error {
		all := model.NodePortAddresses{AllIPv4: true, AllIPv6: true}
		h.Synced(dpsync.Result{HealthChecks: []model.HealthCheck{four, six}, NodePorts: all})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if told := log.get(); len(told) > 0 {
		t.Errorf("told %q", told)
	}
}

// TestServiceHealthEnds: a load balancer that keeps its connection open learns that the Service is gone.
func TestServiceHealthEnds(t *testing.T) {
	h, _ := newHealth(t)
	port := freePort(t)
	h.Synced(dpsync.Result{HealthChecks: []model.HealthCheck{check("web", port, 1)}, NodePorts: onLoopback})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.StatusCode, err)
	}
	h.Synced(dpsync.Result{NodePorts: onLoopback})
	if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the Service is gone: %v, want the end of the connection", err)
	}
}

func TestServiceHealthPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	free := freePort(t)
	var log lines
	h := New(log.logger(), 0)
	t.Cleanup(h.Close)
	report := func(checks ...model.HealthCheck) {
		h.Synced(dpsync.Result{HealthChecks: checks, NodePorts: onLoopback})
	}
	for range 3 {
		report(check("a", taken, 1), check("b", free, 1))
	}
	if got, err := fetch(free); err != nil || got.code != 200 {
		t.Errorf("the other Service suffers: %+v, %v", got, err)
	}
	if told := log.get(); len(told) != 1 || !strings.Contains(told[0], `"a"`) {
		t.Errorf("told %q, want one line that names the Service", told)
	}
	report(check("b", free, 1))
	report(check("a", taken, 1), check("b", free, 1))
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, taken)
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, line string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, line)
	}, funcr.Options{})
}

func (l *lines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func TestListenAddresses(t *testing.T) {
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	tests := map[string]struct {
		family uint8
		on     model.NodePortAddresses
		want   string
	}{
		"Chosen4": {4, model.NodePortAddresses{Addrs: []netip.Addr{a4, a6}}, "[192.0.2.1]"},
		"Chosen6": {6, model.NodePortAddresses{Addrs: []netip.Addr{a4, a6}}, "[2001:db8::1]"},
		"All4":    {4, model.NodePortAddresses{AllIPv4: true, Addrs: []netip.Addr{a6}}, "[0.0.0.0]"},
		"All6":    {6, model.NodePortAddresses{AllIPv6: true}, "[::]"},
		"None":    {6, model.NodePortAddresses{AllIPv4: true}, "[]"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(listenAddresses(tc.family, tc.on)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestServe takes up an address as soon as it is free, and leaves it with its context.
func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	h, _ := newHealth(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := (Server{Address: listener.Addr().String(), Handler: h.Handler()}).Serve(ctx, logr.Discard()); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, port)
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("does not end with its context")
	}
}

// TestServeTaken: an address that stays in use is told of once.
func TestServeTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log lines
	ended := make(chan error, 1)
	go func() {
		ended <- Server{Address: listener.Addr().String(), Handler: http.NotFoundHandler()}.Serve(ctx, log.logger())
	}()
	for deadline := time.Now().Add(patience); len(log.get()) == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	select {
	case err := <-ended:
		t.Fatalf("ended with %v", err)
	case <-time.After(10 * listenAgain): // further tries
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if told := log.get(); len(told) != 1 || !strings.Contains(told[0], listener.Addr().String()) {
		t.Errorf("told %q, want one line that names the address", told)
	}
}
