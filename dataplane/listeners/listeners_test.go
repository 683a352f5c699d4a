package listeners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func service(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

func use(name string, family uint8, protocol model.Protocol, port uint16) dpsync.NodePort {
	return dpsync.NodePort{Service: service(name), Family: family, Protocol: protocol, Port: port}
}

func TestClashes(t *testing.T) {
	addr := netip.MustParseAddr
	var (
		all     = model.NodePortAddresses{AllIPv4: true, AllIPv6: true}
		primary = model.NodePortAddresses{Addrs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}}
		only4   = model.NodePortAddresses{Addrs: []netip.Addr{addr("192.0.2.1")}}
		web4    = use("web", 4, model.TCP, 30080)
		web6    = use("web", 6, model.TCP, 30080)
	)
	tcp := func(a string) Socket { return Socket{Protocol: model.TCP, Addr: addr(a), Port: 30080, Inode: 1} }
	only6 := tcp("::")
	only6.Only6 = true
	other := tcp("0.0.0.0")
	other.Port = 30081
	udp := tcp("0.0.0.0")
	udp.Protocol = model.UDP
	second := tcp("0.0.0.0")
	second.Inode = 2
	tests := map[string]struct {
		reason  string
		uses    []dpsync.NodePort
		on      model.NodePortAddresses
		sockets []Socket
		want    []string
	}{
		"Any":           {"the usual case", []dpsync.NodePort{web4, web6}, primary, []Socket{tcp("0.0.0.0")}, []string{"web 0.0.0.0:30080"}},
		"DualStack":     {"one socket of both families is one clash", []dpsync.NodePort{web4, web6}, primary, []Socket{tcp("::")}, []string{"web [::]:30080"}},
		"DualStackOnV4": {"it takes IPv4, too", []dpsync.NodePort{web4}, only4, []Socket{tcp("::")}, []string{"web [::]:30080"}},
		"Only6":         {"unless it says not", []dpsync.NodePort{web4}, only4, []Socket{only6}, nil},
		"Only6On6":      {"", []dpsync.NodePort{web6}, all, []Socket{only6}, []string{"web [::]:30080"}},
		"V4On6":         {"an IPv4 socket takes no IPv6", []dpsync.NodePort{web6}, all, []Socket{tcp("0.0.0.0")}, nil},
		"Served":        {"on the address that serves", []dpsync.NodePort{web4}, primary, []Socket{tcp("192.0.2.1")}, []string{"web 192.0.2.1:30080"}},
		"OtherAddress":  {"elsewhere it is reached", []dpsync.NodePort{web4}, primary, []Socket{tcp("192.0.2.2"), tcp("127.0.0.1")}, nil},
		"AllAddresses":  {"where all serve", []dpsync.NodePort{web4}, all, []Socket{tcp("192.0.2.2")}, []string{"web 192.0.2.2:30080"}},
		"Loopback":      {"never serves", []dpsync.NodePort{web4, web6}, all, []Socket{tcp("127.0.0.1"), tcp("::1")}, nil},
		"NoFamily":      {"a family without addresses serves nothing", []dpsync.NodePort{web6}, only4, []Socket{tcp("::"), tcp("2001:db8::1")}, nil},
		"OtherPort":     {"", []dpsync.NodePort{web4}, all, []Socket{other}, nil},
		"OtherProtocol": {"TCP and UDP are apart", []dpsync.NodePort{web4}, all, []Socket{udp}, nil},
		"UDP":           {"", []dpsync.NodePort{use("dns", 4, model.UDP, 30080)}, all, []Socket{udp}, []string{"dns 0.0.0.0:30080"}},
		"Reuse":         {"several sockets of a port are one clash", []dpsync.NodePort{web4}, all, []Socket{tcp("0.0.0.0"), second}, []string{"web 0.0.0.0:30080"}},
		"Sorted": {"", []dpsync.NodePort{use("b", 4, model.TCP, 30081), web4}, all, []Socket{other, tcp("192.0.2.9"), tcp("192.0.2.2")},
			[]string{"web 192.0.2.2:30080", "web 192.0.2.9:30080", "b 0.0.0.0:30081"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range Clashes(tc.uses, nil, tc.on, tc.sockets, nil) {
				got = append(got, fmt.Sprintf("%s %s", c.Service.Name, c.Listener))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestClashesOfHealthChecks(t *testing.T) {
	checks := []model.HealthCheck{{Service: service("lb"), Family: 4, Port: 32000, LocalEndpoints: 1}}
	on := model.NodePortAddresses{AllIPv4: true}
	sockets := []Socket{
		{Protocol: model.TCP, Addr: netip.IPv4Unspecified(), Port: 32000, Inode: 7},
		{Protocol: model.TCP, Addr: netip.MustParseAddr("192.0.2.1"), Port: 32000, Inode: 8, UID: 9},
		{Protocol: model.UDP, Addr: netip.IPv4Unspecified(), Port: 32000, Inode: 10},
	}
	got := Clashes(nil, checks, on, sockets, map[uint32]bool{7: true})
	if len(got) != 1 || !got[0].HealthCheck || got[0].UID != 9 || got[0].Service != service("lb") {
		t.Errorf("got %+v, want the one TCP socket that is not ours", got)
	}
}

// listen opens sockets until the test ends.
func listen(t *testing.T, network, address string) {
	t.Helper()
	var closer interface{ Close() error }
	var err error
	if strings.HasPrefix(network, "tcp") {
		closer, err = (&net.ListenConfig{}).Listen(t.Context(), network, address)
	} else {
		closer, err = (&net.ListenConfig{}).ListenPacket(t.Context(), network, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closer.Close() })
}

// TestSockets asks a real kernel about real sockets.
func TestSockets(t *testing.T) {
	ns := nstest.New(t, "node")
	var sockets []Socket
	err := ns.Do(func() error {
		listen(t, "tcp4", "0.0.0.0:30001")
		listen(t, "tcp4", "127.0.0.1:30002")
		listen(t, "tcp6", "[::]:30003")
		listen(t, "tcp", ":30004")
		listen(t, "udp4", "127.0.0.1:30005")
		listen(t, "udp", ":30006")
		// Connections are no listeners, nor are UDP sockets that talk to one peer.
		for _, network := range []string{"tcp", "udp"} {
			conn, err := net.Dial(network, map[string]string{"tcp": "127.0.0.1:30002", "udp": "127.0.0.1:30005"}[network])
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
		var err error
		sockets, err = Sockets()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mine := own()
	got := map[string]bool{}
	for _, s := range sockets {
		if !mine[s.Inode] {
			t.Errorf("%+v is not among our own sockets, though nobody else is here", s)
		}
		if s.UID != uint32(os.Getuid()) {
			t.Errorf("%+v belongs to user %d", s, os.Getuid())
		}
		got[fmt.Sprintf("%s %s only6=%v", s.Protocol, netip.AddrPortFrom(s.Addr, s.Port), s.Only6)] = true
	}
	want := map[string]bool{
		"TCP 0.0.0.0:30001 only6=false": true, "TCP 127.0.0.1:30002 only6=false": true, "TCP [::]:30003 only6=true": true,
		"TCP [::]:30004 only6=false": true, "UDP 127.0.0.1:30005 only6=false": true, "UDP [::]:30006 only6=false": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	inodes := map[uint32]bool{}
	for _, s := range sockets {
		inodes[s.Inode] = true
	}
	for inode, process := range processes(inodes) {
		if !strings.Contains(process, fmt.Sprintf("(pid %d)", os.Getpid())) {
			t.Errorf("socket %d is said to be of %q, want pid %d", inode, process, os.Getpid())
		}
		delete(inodes, inode)
	}
	if len(inodes) > 0 {
		t.Errorf("no process found for %v", inodes)
	}
}

// lookedAt is a Watcher whose kernel the test plays.
func lookedAt(t *testing.T) (w *Watcher, sockets *[]Socket, said func() []string) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	w = New(funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{}))
	sockets = &[]Socket{}
	w.sockets = func() ([]Socket, error) { return *sockets, nil }
	w.own = func() map[uint32]bool { return map[uint32]bool{100: true} }
	w.processes = func(inodes map[uint32]bool) map[uint32]string {
		names := map[uint32]string{}
		for inode := range inodes {
			names[inode] = fmt.Sprintf("program (pid %d)", inode)
		}
		return names
	}
	return w, sockets, func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := lines
		lines = nil
		return out
	}
}

func (w *Watcher) value(t *testing.T) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(w)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "fairlead_node_nodeport_clashes" {
		t.Fatalf("%v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

func TestWatcherTells(t *testing.T) {
	w, sockets, said := lookedAt(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	on := model.NodePortAddresses{AllIPv4: true}
	w.Synced(dpsync.Result{NodePortUse: []dpsync.NodePort{use("web", 4, model.TCP, 30080)}, NodePorts: on})
	w.look(now)
	if lines := said(); len(lines) != 0 || w.value(t) != 0 {
		t.Errorf("without a clash: %q", lines)
	}
	*sockets = []Socket{
		{Protocol: model.TCP, Addr: netip.IPv4Unspecified(), Port: 30080, Inode: 5, UID: 33},
		{Protocol: model.TCP, Addr: netip.IPv4Unspecified(), Port: 30080, Inode: 100}, // our own
	}
	w.look(now)
	lines := said()
	if len(lines) != 1 || w.value(t) != 1 {
		t.Fatalf("a new clash: %q, %v clashes; want one of each", lines, w.value(t))
	}
	for _, want := range []string{"30080", "TCP", "shop", "web", "program (pid 5)", `"uid"=33`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("%q does not say %s", lines[0], want)
		}
	}
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/nodeports", nil))
	var got report
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := report{Checked: now, NodePorts: 1, Clashes: []clashEntry{{Namespace: "shop", Service: "web", Protocol: "TCP", Port: 30080,
		Listener: "0.0.0.0:30080", UID: 33, Process: "program (pid 5)"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("/nodeports (-want +got):\n%s", diff)
	}
	w.look(now)
	if lines := said(); len(lines) != 0 {
		t.Errorf("a clash that lasts is told again: %q", lines)
	}
	w.Synced(dpsync.Result{NodePorts: on}) // nothing new on node ports
	w.look(now)
	if lines := said(); len(lines) != 0 || w.value(t) != 1 {
		t.Errorf("a pass that leaves node ports alone: %q, %v clashes", lines, w.value(t))
	}
	w.Synced(dpsync.Result{NodePorts: on, NodePortUse: []dpsync.NodePort{}})
	w.look(now)
	if lines := said(); len(lines) != 1 || !strings.Contains(lines[0], "any more") || w.value(t) != 0 {
		t.Errorf("the Service is gone: %q, %v clashes", lines, w.value(t))
	}
}

func TestWatcherFailure(t *testing.T) {
	w, _, said := lookedAt(t)
	fail := errors.New("the kernel said no")
	w.sockets = func() ([]Socket, error) { return nil, fail }
	w.look(time.Now())
	if lines := said(); len(lines) != 0 {
		t.Errorf("the kernel is asked though there are no node ports: %q", lines)
	}
	w.Synced(dpsync.Result{NodePortUse: []dpsync.NodePort{use("web", 4, model.TCP, 30080)}, NodePorts: model.NodePortAddresses{AllIPv4: true}})
	w.look(time.Now())
	w.look(time.Now())
	if lines := said(); len(lines) != 1 || !strings.Contains(lines[0], "the kernel said no") {
		t.Errorf("said %q, want the failure once", lines)
	}
}

// TestWatcherRuns looks soon after node ports changed, at a real kernel, and ends with its context.
func TestWatcherRuns(t *testing.T) {
	nstest.New(t, "node") // skips where the test cannot be alone
	listen(t, "tcp4", "0.0.0.0:30080")
	synctest.Test(t, func(t *testing.T) {
		w := New(logr.Discard())
		w.own = func() map[uint32]bool { return nil } // the listener is our own, for once
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Run(ctx)
		}()
		w.Synced(dpsync.Result{NodePortUse: []dpsync.NodePort{use("web", 4, model.TCP, 30080)}, NodePorts: model.NodePortAddresses{AllIPv4: true}})
		time.Sleep(settle) // virtual time
		synctest.Wait()
		if got := w.value(t); got != 1 {
			t.Errorf("%v clashes are found, want one", got)
		}
		cancel()
		<-done
	})
}

// BenchmarkSockets is the cost of a look at a node with many listeners.
func BenchmarkSockets(b *testing.B) {
	ns := nstest.New(b, "node")
	err := ns.Do(func() error {
		for range 500 {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return err
			}
			b.Cleanup(func() { _ = l.Close() })
		}
		for b.Loop() {
			if _, err := Sockets(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
