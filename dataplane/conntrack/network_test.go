package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nftables"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	patience   = 2 * time.Minute // for what must come, on a machine that stands still for a while too
	impatience = 200 * time.Millisecond
)

// network is a node with Pods, and a client outside:
//
//	client --- node --- Pod 1 (10.244.1.2, fd00:244:1::2), 2, ... serve port 8080 as ep1, ...; Pod 9 is a client
//	203.0.113.5
type network struct {
	node, client *nstest.Namespace
	pods         map[int]*nstest.Namespace
}

var (
	nodeAddrs   = map[uint8]netip.Addr{4: netip.MustParseAddr("172.30.0.11"), 6: netip.MustParseAddr("fd00:172:30::11")}
	clientAddrs = map[uint8]netip.Addr{4: netip.MustParseAddr("203.0.113.5"), 6: netip.MustParseAddr("2001:db8:113::5")}
	clusterIPs  = map[uint8]string{4: "10.96.0.10", 6: "fd00:96::a"}
	families    = []uint8{4, 6}
)

func podNet(family uint8, pod, host int) netip.Prefix {
	if family == 4 {
		return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.%d/24", pod, host))
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:244:%d::%d/64", pod, host))
}

func podAddr(family uint8, pod int) netip.Addr { return podNet(family, pod, 2).Addr() }

// newNetwork makes the network with endpoint Pods 1 to n.
func newNetwork(tb testing.TB, n int) *network {
	tb.Helper()
	w := &network{node: nstest.New(tb, "node"), client: nstest.New(tb, "client"), pods: map[int]*nstest.Namespace{}}
	w.node.Forward(tb)
	w.node.Sysctl(tb, "ipv4/icmp_ratelimit", "0")
	w.node.Sysctl(tb, "ipv6/icmp/ratelimit", "0")
	w.node.Loopback(tb, nodeAddrs[4], nodeAddrs[6])
	w.node.Connect(tb, "out", []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")},
		w.client, "eth0", []netip.Prefix{netip.PrefixFrom(clientAddrs[4], 24), netip.PrefixFrom(clientAddrs[6], 64)})
	defaultRoutes(tb, w.client, "203.0.113.1", "2001:db8:113::1")
	// The host's own connections to a cluster IP need a route before they meet the rules.
	defaultRoutes(tb, w.node, "203.0.113.5", "2001:db8:113::5")
	for pod := range n {
		w.startPod(tb, pod+1, fmt.Sprint("ep", pod+1))
	}
	w.startPod(tb, 9, "")
	return w
}

func defaultRoutes(tb testing.TB, ns *nstest.Namespace, via4, via6 string) {
	tb.Helper()
	ns.Route(tb, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(via4))
	ns.Route(tb, netip.MustParsePrefix("::/0"), netip.MustParseAddr(via6))
}

// startPod makes a Pod that serves under a name, or does not serve.
func (w *network) startPod(tb testing.TB, pod int, serves string) {
	tb.Helper()
	ns := nstest.New(tb, fmt.Sprint("pod", pod))
	w.node.Connect(tb, fmt.Sprint("pod", pod), []netip.Prefix{podNet(4, pod, 1), podNet(6, pod, 1)},
		ns, "eth0", []netip.Prefix{podNet(4, pod, 2), podNet(6, pod, 2)})
	defaultRoutes(tb, ns, podNet(4, pod, 1).Addr().String(), podNet(6, pod, 1).Addr().String())
	w.pods[pod] = ns
	if serves == "" {
		return
	}
	for _, family := range families {
		ns.Serve(tb, serves, netip.AddrPortFrom(podAddr(family, pod), 8080))
	}
}

// killPod silences a Pod without a word to its peers. The node's interface stays, as a bridge would.
func (w *network) killPod(tb testing.TB, pod int) {
	tb.Helper()
	// Else the kernel looks for the Pod three times, a second apart, and then tells the clients that it is unreachable.
	for _, family := range families {
		w.node.Sysctl(tb, fmt.Sprintf("ipv%d/neigh/pod%d/mcast_solicit", family, pod), "1000000")
	}
	w.pods[pod].Down(tb, "eth0")
}

// removePod takes its interface away, too. The kernel then forgets by itself what it masqueraded there.
func (w *network) removePod(tb testing.TB, pod int) {
	tb.Helper()
	w.node.Disconnect(tb, fmt.Sprint("pod", pod))
}

// agent is what a node agent does with what the API server says, without the API server.
type agent struct {
	tb      testing.TB
	backend *nftables.Backend
	cleaner *Cleaner
	log     logBuffer

	mu      sync.Mutex
	tracker *model.Tracker
	reports []Report
}

type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBuffer) add(_, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *logBuffer) logger() logr.Logger { return funcr.New(b.add, funcr.Options{}) }

func (b *logBuffer) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, line := range b.lines {
		n += strings.Count(line, what)
	}
	return n
}

// startAgent runs an agent on the node until the test ends.
func (w *network) startAgent(tb testing.TB, edits ...func(*Options)) *agent {
	tb.Helper()
	a := &agent{tb: tb}
	a.tracker = model.NewTracker(model.Options{
		NodeName: "n1",
		LocalDetection: model.LocalDetection{ClusterCIDRs: []netip.Prefix{
			netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32"),
		}},
	})
	check(tb, a.tracker.SetNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeAddrs[4].String()}, {Type: corev1.NodeInternalIP, Address: nodeAddrs[6].String()},
		}},
	}))
	a.tracker.SetMachineAddresses([]netip.Addr{nodeAddrs[4], nodeAddrs[6], netip.MustParseAddr("203.0.113.1")})
	check(tb, a.tracker.SetServiceCIDR(&networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16", "fd00:96::/112"}},
	}))
	options := Options{Flows: true, Resets: true, Observer: a, NetNS: w.node.FD()}
	for _, edit := range edits {
		edit(&options)
	}
	var err error
	a.backend, err = nftables.New(nftables.Options{NetNS: w.node.FD()})
	check(tb, err)
	a.cleaner, err = New(options)
	check(tb, err)
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), a.log.logger()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.cleaner.Run(ctx, a)
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
		_ = a.backend.Close()
	})
	return a
}

// Stale implements Judge as sync.Loop does.
func (a *agent) Stale(s *model.Suspects, flows []model.Flow, stale []bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range flows {
		stale[i] = a.tracker.Stale(s, flows[i])
	}
}

// FlowsCleaned implements Observer.
func (a *agent) FlowsCleaned(r Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reports = append(a.reports, r)
}

// totals sums up what was reported.
func (a *agent) totals() (passes, deleted, reset, failures int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.reports {
		passes++
		deleted += r.Deleted
		reset += r.Reset
		if r.Err != nil {
			failures++
		}
	}
	return passes, deleted, reset, failures
}

// change lets the API server say things, and writes the rules after each. Meanwhile no flow is judged.
func (a *agent) change(says ...func(t *model.Tracker) error) {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, say := range says {
		check(a.tb, say(a.tracker))
		changes := a.tracker.Changes()
		check(a.tb, a.backend.Sync(a.tracker.State(), changes))
		a.cleaner.Clean(a.tracker.TakeSuspects())
	}
}

// settled waits until a pass that began after the call is over: one frontend of no meaning is suspected.
func (a *agent) settled() {
	a.tb.Helper()
	for range 2 { // the first time a pass may be seen that was under way
		before, _, _, _ := a.totals()
		a.cleaner.Clean(&model.Suspects{Frontends: map[model.FrontendKey]bool{
			{Addr: netip.MustParseAddr("192.0.2.1"), Protocol: model.UDP, Port: 9}:   true,
			{Addr: netip.MustParseAddr("2001:db8::1"), Protocol: model.UDP, Port: 9}: true,
		}})
		eventually(a.tb, "a pass", func() bool {
			passes, _, _, _ := a.totals()
			return passes >= before+2 // one for each family
		})
	}
}

// service is a dual-stack Service default/NAME on port 80 of a protocol, node port 30080, and its endpoints by Pod.
type service struct {
	name      string
	protocol  corev1.Protocol
	edit      func(*corev1.Service)
	addresses map[uint8]string // cluster IPs, clusterIPs by default
}

func (s service) object() *corev1.Service {
	addrs := s.addresses
	if addrs == nil {
		addrs = clusterIPs
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: s.name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: addrs[4], ClusterIPs: []string{addrs[4], addrs[6]},
			Ports: []corev1.ServicePort{{Protocol: s.protocol, Port: 80, NodePort: 30080}},
		},
	}
	if s.edit != nil {
		s.edit(svc)
	}
	return svc
}

// condition of an endpoint.
type condition int

const (
	ready condition = iota
	notReady
	serving // and terminating
	ending  // terminating, and no longer serving
)

// slices are the Service's slices of both families. Pods are local unless elsewhere says otherwise.
func (s service) slices(pods map[int]condition, elsewhere ...int) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, family := range families {
		es := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", s.name, family),
				Labels: map[string]string{discoveryv1.LabelServiceName: s.name}},
			AddressType: map[uint8]discoveryv1.AddressType{4: discoveryv1.AddressTypeIPv4, 6: discoveryv1.AddressTypeIPv6}[family],
			Ports:       []discoveryv1.EndpointPort{{Name: new(string), Protocol: &s.protocol, Port: ptr(int32(8080))}},
		}
		for pod, is := range pods {
			node := "n1"
			if slices.Contains(elsewhere, pod) {
				node = "n2"
			}
			es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{podAddr(family, pod).String()}, NodeName: &node,
				Conditions: discoveryv1.EndpointConditions{
					Ready: ptr(is == ready), Serving: ptr(is == ready || is == serving), Terminating: ptr(is == serving || is == ending),
				},
			})
		}
		out = append(out, es)
	}
	return out
}

// set says that the Service exists with these endpoints.
func (s service) set(pods map[int]condition, elsewhere ...int) func(*model.Tracker) error {
	return func(t *model.Tracker) error {
		errs := []error{t.SetService(s.object())}
		for _, es := range s.slices(pods, elsewhere...) {
			errs = append(errs, t.SetSlice(es))
		}
		return errors.Join(errs...)
	}
}

func pods(is condition, ids ...int) map[int]condition {
	m := map[int]condition{}
	for _, id := range ids {
		m[id] = is
	}
	return m
}

func ptr[T any](v T) *T { return &v }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// flows reads the kernel's table.
func (w *network) flows(tb testing.TB) []entry {
	tb.Helper()
	s, err := openSocket(w.node.FD())
	check(tb, err)
	defer s.close()
	var all []entry
	for _, family := range families {
		f := filter{family: family}
		check(tb, s.dump(f.request(true), func(data []byte) error {
			all = append(all, parseEntry(data))
			return nil
		}))
	}
	return all
}

// count counts the flows from a client's address and port.
func (w *network) count(tb testing.TB, from netip.AddrPort) int {
	tb.Helper()
	n := 0
	for _, e := range w.flows(tb) {
		if e.original.src == from {
			n++
		}
	}
	return n
}
