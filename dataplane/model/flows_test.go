package model

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

var (
	portTCP  = ServicePortName{Namespace: "default", Name: "web", Port: "http", Protocol: TCP}
	portUDP  = ServicePortName{Namespace: "default", Name: "web", Port: "http", Protocol: UDP}
	webKey   = types.NamespacedName{Namespace: "default", Name: "web"}
	comparer = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
)

func asUDP(svc *corev1.Service) { svc.Spec.Ports[0].Protocol = corev1.ProtocolUDP }

func udpSlice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	es := newSlice(name, endpoints...)
	es.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
	return es
}

// started is a tracker that knows a Service and its slices, and whose suspects so far are taken.
func started(t *testing.T, svc *corev1.Service, es ...*discoveryv1.EndpointSlice) *Tracker {
	t.Helper()
	tr := NewTracker(testOptions)
	if err := tr.SetNode(newNode()); err != nil {
		t.Fatal(err)
	}
	setAll(t, tr, svc, es...)
	tr.Changes()
	if s := tr.TakeSuspects(); !s.All || len(s.Endpoints) > 0 {
		t.Fatalf("after the start: %+v", s)
	}
	return tr
}

func setAll(t *testing.T, tr *Tracker, svc *corev1.Service, es ...*discoveryv1.EndpointSlice) {
	t.Helper()
	if err := tr.SetService(svc); err != nil {
		t.Fatal(err)
	}
	for _, s := range es {
		if err := tr.SetSlice(s); err != nil {
			t.Fatal(err)
		}
	}
}

func ended(p ServicePortName, ended bool, ips ...string) map[PortEndpoint]bool {
	m := map[PortEndpoint]bool{}
	for _, ip := range ips {
		m[PortEndpoint{Port: p, Addr: netip.AddrPortFrom(addr(ip), 8080)}] = ended
	}
	return m
}

func TestSuspectEndpoints(t *testing.T) {
	a, b := "10.244.1.1", "10.244.1.2"
	tests := map[string]struct {
		reason string
		// steps are the contents of slices web-1 and web-2, which follow one another without a write in between.
		steps [][2][]discoveryv1.Endpoint
		want  map[PortEndpoint]bool
	}{
		"Gone": {
			reason: "an endpoint that lost its label has not ended",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(b, "n1")}}},
			want:   ended(portTCP, false, a),
		},
		"SeenTerminatingBetween": {
			reason: "what was seen last counts, though no two writes saw it",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1", dying), ep(b, "n1")}}, {{ep(b, "n1")}}},
			want:   ended(portTCP, true, a),
		},
		"ReturnedThenGone": {
			reason: "an address that was terminating and then another Pod's has not ended when that one goes",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1", draining)}}, {{ep(a, "n1")}}, {{ep(b, "n1")}}},
			want:   ended(portTCP, false, a),
		},
		"GoneAndBack": {
			reason: "who is there in the end is no suspect",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1", draining), ep(b, "n1")}}, {{ep(b, "n1")}}, {{ep(a, "n1"), ep(b, "n1")}}},
		},
		"Moved": {
			reason: "an endpoint may move to another slice",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(b, "n1")}, {ep(a, "n1")}}},
		},
		"NotReady": {
			reason: "datagrams go elsewhere; connections are not ended by it",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1", notReady), ep(b, "n1")}}},
			want:   ended(portTCP, false, a),
		},
		"NeverReady": {
			reason: "who never served has no flows",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1"), ep(b, "n1")}, {ep("10.244.1.3", "n1", notReady)}}, {{ep(a, "n1"), ep(b, "n1")}, {ep("10.244.1.3", "n1", dying)}}},
		},
		"Draining": {
			reason: "who serves is no suspect, though it is chosen no more",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n1", draining), ep(b, "n1")}}},
		},
		"OtherNode": {
			reason: "a change that is none of a flow's says nothing",
			steps:  [][2][]discoveryv1.Endpoint{{{ep(a, "n2"), ep(b, "n1", forZone("z"))}}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tr := started(t, newService(), newSlice("web-1", ep(a, "n1"), ep(b, "n1")), newSlice("web-2"))
			for _, step := range tc.steps {
				setAll(t, tr, newService(), newSlice("web-1", step[0]...), newSlice("web-2", step[1]...))
			}
			tr.Changes()
			if diff := cmp.Diff(tc.want, tr.TakeSuspects().Endpoints, comparer, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			tr.Changes()
			if s := tr.TakeSuspects(); !s.Empty() {
				t.Errorf("suspected twice: %+v", s)
			}
			for _, e := range tr.services {
				if len(e.replaced) > 0 {
					t.Errorf("%d slices are kept", len(e.replaced))
				}
			}
		})
	}
}

// TestSuspectsWait: what is not taken, since writes fail, is there the next time, up to a limit.
func TestSuspectsWait(t *testing.T) {
	tr := started(t, newService(asUDP), udpSlice("web-1", ep("10.244.1.1", "n1"), ep("10.244.1.2", "n1")))
	for _, left := range []string{"10.244.1.2", "10.244.1.3"} {
		setAll(t, tr, newService(asUDP), udpSlice("web-1", ep(left, "n1")))
		tr.Changes()
	}
	if got := tr.TakeSuspects(); len(got.Endpoints) != 2 {
		t.Errorf("%+v", got)
	}
	s := &Suspects{}
	for i := range 2 * maxSuspects {
		s.addEndpoint(PortEndpoint{Port: portUDP, Addr: netip.AddrPortFrom(addr("10.0.0.1"), uint16(i))}, true)
		s.addFrontend(FrontendKey{Addr: addr(fmt.Sprintf("10.1.%d.%d", i>>8&255, i&255)), Protocol: UDP, Port: uint16(i >> 16)}, true)
	}
	if n := len(s.Endpoints) + len(s.Frontends); n > maxSuspects || !s.All {
		t.Errorf("%d suspects, all %v", n, s.All)
	}
}

func TestSuspectFrontends(t *testing.T) {
	key := func(ip string, port uint16) FrontendKey {
		return FrontendKey{Addr: addr(ip), Protocol: UDP, Port: port}
	}
	was := newService(asUDP, nodePort(30080), externalIPs("198.51.100.1"))
	tests := map[string]struct {
		change func(t *testing.T, tr *Tracker)
		want   map[FrontendKey]bool
	}{
		"Deleted": {
			change: func(_ *testing.T, tr *Tracker) { tr.DeleteService(webKey) },
			want:   map[FrontendKey]bool{key("10.96.0.10", 80): true, key("0.0.0.0", 30080): true, key("198.51.100.1", 80): true},
		},
		"Changed": {
			change: func(t *testing.T, tr *Tracker) {
				setAll(t, tr, newService(asUDP, nodePort(30081), externalIPs("198.51.100.1"), externalLocal))
			},
			want: map[FrontendKey]bool{key("0.0.0.0", 30080): true, key("0.0.0.0", 30081): false},
		},
		"MadeAgainAtOnce": {
			change: func(t *testing.T, tr *Tracker) { tr.DeleteService(webKey); setAll(t, tr, was) },
		},
		"TakenByAnother": {
			change: func(t *testing.T, tr *Tracker) {
				setAll(t, tr, newService(asUDP, named("a"), clusterIPs("10.96.0.11"), externalIPs("198.51.100.1")))
			},
			want: map[FrontendKey]bool{key("10.96.0.11", 80): false, key("198.51.100.1", 80): true},
		},
		"NowTCP": {
			change: func(t *testing.T, tr *Tracker) { setAll(t, tr, newService()) },
			want:   map[FrontendKey]bool{key("10.96.0.10", 80): true, key("0.0.0.0", 30080): true, key("198.51.100.1", 80): true},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tr := started(t, was)
			tc.change(t, tr)
			tr.Changes()
			if diff := cmp.Diff(tc.want, tr.TakeSuspects().Frontends, comparer); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSuspectsAdd(t *testing.T) {
	first := &Suspects{Endpoints: ended(portTCP, true, "10.244.1.1", "10.244.1.2"), Frontends: map[FrontendKey]bool{{Port: 1}: true, {Port: 2}: false}}
	first.Add(&Suspects{Endpoints: ended(portTCP, false, "10.244.1.2"), Frontends: map[FrontendKey]bool{{Port: 1}: false, {Port: 2}: true, {Port: 3}: false}})
	want := map[FrontendKey]bool{{Port: 1}: true, {Port: 2}: true, {Port: 3}: false}
	if diff := cmp.Diff(want, first.Frontends, comparer); diff != "" {
		t.Errorf("frontends, (-want +got):\n%s", diff)
	}
	if !first.Endpoints[PortEndpoint{portTCP, netip.MustParseAddrPort("10.244.1.1:8080")}] ||
		first.Endpoints[PortEndpoint{portTCP, netip.MustParseAddrPort("10.244.1.2:8080")}] {
		t.Errorf("endpoints: %v", first.Endpoints)
	}
	empty := &Suspects{}
	if !empty.Empty() || first.Empty() || (&Suspects{All: true}).Empty() {
		t.Error("Empty")
	}
}

// TestStale asks about flows while endpoint 10.244.1.1 serves, .2 is not ready, .3 ended and .4 lost its label; another
// Service has .5.
func TestStale(t *testing.T) {
	const translated, answered = true, true
	flow := func(to, endpoint string, bits ...bool) Flow {
		f := Flow{To: netip.MustParseAddrPort(to), Endpoint: netip.MustParseAddrPort(endpoint)}
		f.Translated = len(bits) > 0 && bits[0]
		f.Answered = len(bits) > 1 && bits[1]
		return f
	}
	const (
		vip, nodeIP, external, machine = "10.96.0.10:80", "172.30.0.11:30080", "198.51.100.1:80", "172.30.0.11:80"
		serves, unready, dead, lost    = "10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080", "10.244.1.4:8080"
	)
	suspects := func(p Protocol) map[string]*Suspects {
		port := portTCP
		port.Protocol = p
		left := &Suspects{}
		for ip, gone := range map[string]bool{"10.244.1.1": true, "10.244.1.2": true, "10.244.1.3": true, "10.244.1.4": false} {
			left.addEndpoint(PortEndpoint{Port: port, Addr: netip.AddrPortFrom(addr(ip), 8080)}, gone)
		}
		frontends := func(was bool) *Suspects {
			s := &Suspects{}
			for _, ip := range []string{"10.96.0.10", "198.51.100.1", "172.30.0.11", "10.96.0.99"} {
				s.addFrontend(FrontendKey{Addr: addr(ip), Protocol: p, Port: 80}, was)
			}
			s.addFrontend(FrontendKey{Addr: addr("0.0.0.0"), Protocol: p, Port: 30080}, was)
			s.addFrontend(FrontendKey{Addr: addr("0.0.0.0"), Protocol: p, Port: 30099}, was)
			return s
		}
		return map[string]*Suspects{"none": {}, "all": {All: true}, "left": left, "came": frontends(false), "was": frontends(true)}
	}
	tests := map[string]struct {
		reason string
		flow   Flow
		// udp and tcp name the suspects for which the flow is stale, if it is of that protocol.
		udp, tcp []string
	}{
		"Serves":          {flow: flow(vip, serves, translated, answered)},
		"NotReady":        {flow: flow(vip, unready, translated, answered), udp: []string{"all", "left", "was"}},
		"Ended":           {flow: flow(vip, dead, translated, answered), udp: []string{"all", "left", "was"}, tcp: []string{"left"}},
		"LostLabel":       {flow: flow(vip, lost, translated, answered), udp: []string{"all", "left", "was"}},
		"Never":           {flow: flow(vip, "10.244.1.7:8080", translated, answered), udp: []string{"all", "was"}, reason: "an endpoint before our time"},
		"OtherPort":       {flow: flow(vip, "10.244.1.1:9", translated, answered), udp: []string{"all", "was"}},
		"NodePort":        {flow: flow(nodeIP, dead, translated), udp: []string{"all", "left", "was"}, tcp: []string{"left"}},
		"NotOnNodePort":   {flow: flow("192.0.2.9:30080", dead, translated), reason: "an address on which node ports are not served"},
		"Direct":          {flow: flow(dead, dead, false, answered), reason: "straight to the Pod"},
		"OtherFrontend":   {flow: flow("10.96.0.11:80", dead, translated), udp: []string{"all"}, reason: "another Service, of which it was no endpoint"},
		"NoFrontend":      {flow: flow("10.96.0.12:80", dead, translated), reason: "nobody's, or another proxy's"},
		"FrontendGone":    {flow: flow("10.96.0.99:80", serves, translated), udp: []string{"was"}, reason: "it was ours, wherever it leads"},
		"NodePortGone":    {flow: flow("172.30.0.11:30099", serves, translated), udp: []string{"was"}},
		"GoneUntouched":   {flow: flow("10.96.0.99:80", "10.96.0.99:80"), reason: "not translated by us"},
		"BeforeService":   {flow: flow(vip, vip, false, answered), udp: []string{"all", "came", "was"}, reason: "a cluster IP is nobody else's"},
		"BeforeExternal":  {flow: flow(external, external), udp: []string{"all", "came", "was"}},
		"RealHost":        {flow: flow(external, external, false, answered), reason: "somebody has the address and answers"},
		"Program":         {flow: flow(nodeIP, nodeIP), reason: "a program may listen there, and never answer"},
		"ProgramExternal": {flow: flow(machine, machine), reason: "likewise, on an externalIP that the machine has"},
	}
	for name, tc := range tests {
		for p, stale := range map[Protocol][]string{UDP: tc.udp, TCP: tc.tcp} {
			svc := newService(nodePort(30080), externalIPs("198.51.100.1", "172.30.0.11"))
			other := newService(named("other"), clusterIPs("10.96.0.11"))
			es, otherES := newSlice("web-1", ep("10.244.1.1", "n1"), ep("10.244.1.2", "n1", notReady)), newSlice("other-1", ep("10.244.1.5", "n1"))
			otherES.Labels[discoveryv1.LabelServiceName] = "other"
			if p == UDP {
				asUDP(svc)
				asUDP(other)
				es.Ports[0].Protocol, otherES.Ports[0].Protocol = ptr(corev1.ProtocolUDP), ptr(corev1.ProtocolUDP)
			}
			tr := started(t, svc, es, otherES)
			setAll(t, tr, other)
			tr.SetMachineAddresses(newMachine())
			tr.Changes()
			for what, s := range suspects(p) {
				f := tc.flow
				f.Protocol = p
				want := false
				for _, w := range stale {
					want = want || w == what
				}
				if got := tr.Stale(s, f); got != want {
					t.Errorf("%s, protocol %d, suspects %q: stale %v, want %v (%s)", name, p, what, got, want, tc.reason)
				}
			}
		}
	}
}

func newMachine() []netip.Addr { return []netip.Addr{addr("172.30.0.11"), addr("203.0.113.5")} }

// TestStaleSCTP: what was answered is a connection, what was not is not.
func TestStaleSCTP(t *testing.T) {
	sctp := func(svc *corev1.Service) { svc.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }
	es := newSlice("web-1", ep("10.244.1.1", "n1"), ep("10.244.1.2", "n1"))
	es.Ports[0].Protocol = ptr(corev1.ProtocolSCTP)
	for name, steps := range map[string][]discoveryv1.Endpoint{"lost": {ep("10.244.1.2", "n1")}, "ended": {ep("10.244.1.1", "n1", dying), ep("10.244.1.2", "n1")}} {
		tr := started(t, newService(sctp), es)
		next := newSlice("web-1", steps...)
		next.Ports = es.Ports
		setAll(t, tr, newService(sctp), next)
		last := newSlice("web-1", ep("10.244.1.2", "n1"))
		last.Ports = es.Ports
		setAll(t, tr, newService(sctp), last)
		tr.Changes()
		s := tr.TakeSuspects()
		for _, answered := range []bool{false, true} {
			f := Flow{Protocol: SCTP, To: netip.MustParseAddrPort("10.96.0.10:80"), Endpoint: netip.MustParseAddrPort("10.244.1.1:8080"), Translated: true, Answered: answered}
			if got, want := tr.Stale(s, f), !answered || name == "ended"; got != want {
				t.Errorf("%s, answered %v: stale %v, want %v", name, answered, got, want)
			}
		}
	}
}

// TestStaleSCTPGone: of a frontend that is gone only what was never answered is forgotten; after a start SCTP is left alone.
func TestStaleSCTPGone(t *testing.T) {
	sctp := func(svc *corev1.Service) { svc.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }
	tr := started(t, newService(sctp))
	tr.DeleteService(webKey)
	tr.Changes()
	gone := tr.TakeSuspects()
	there := started(t, newService(sctp))
	for _, answered := range []bool{false, true} {
		f := Flow{Protocol: SCTP, To: netip.MustParseAddrPort("10.96.0.10:80"), Endpoint: netip.MustParseAddrPort("10.244.1.1:8080"), Translated: true, Answered: answered}
		if got := tr.Stale(gone, f); got == answered {
			t.Errorf("answered %v, frontend gone: stale %v", answered, got)
		}
		if there.Stale(&Suspects{All: true}, f) {
			t.Errorf("answered %v, after a start: stale", answered)
		}
	}
}

// TestStaleOnAllAddresses: where node ports are served on all addresses, those are the machine's.
func TestStaleOnAllAddresses(t *testing.T) {
	opts := testOptions
	opts.NodePorts = NodePortPolicy{All: true}
	tr := NewTracker(opts)
	set(t, tr, newNode(), newService(asUDP, nodePort(30080)))
	tr.SetMachineAddresses(newMachine())
	tr.Changes()
	for to, want := range map[string]bool{"172.30.0.11:30080": true, "203.0.113.5:30080": true, "192.0.2.9:30080": false} {
		f := Flow{Protocol: UDP, To: netip.MustParseAddrPort(to), Endpoint: netip.MustParseAddrPort("10.244.1.3:8080"), Translated: true}
		if got := tr.Stale(&Suspects{All: true}, f); got != want {
			t.Errorf("to %s: stale %v, want %v", to, got, want)
		}
	}
}

// TestStaleInTwoSlices: an endpoint serves if it does so by any slice.
func TestStaleInTwoSlices(t *testing.T) {
	tr := started(t, newService(asUDP), udpSlice("web-1", ep("10.244.1.1", "n1")), udpSlice("web-2", ep("10.244.1.1", "n1", notReady)))
	f := Flow{Protocol: UDP, To: netip.MustParseAddrPort("10.96.0.10:80"), Endpoint: netip.MustParseAddrPort("10.244.1.1:8080"), Translated: true}
	for range 50 { // slices are looked at in no order
		if tr.Stale(&Suspects{All: true}, f) {
			t.Fatal("stale")
		}
	}
}

func BenchmarkStale(b *testing.B) {
	tr := NewTracker(testOptions)
	es := newSlice("web-1")
	for i := range 1000 {
		es.Endpoints = append(es.Endpoints, ep(fmt.Sprintf("10.244.%d.%d", i/250, 1+i%250), "n1"))
	}
	if err := tr.SetService(newService()); err != nil {
		b.Fatal(err)
	}
	if err := tr.SetSlice(es); err != nil {
		b.Fatal(err)
	}
	tr.Changes()
	s := tr.TakeSuspects()
	f := Flow{Protocol: TCP, To: netip.MustParseAddrPort("10.96.0.10:80"), Endpoint: netip.MustParseAddrPort("10.244.3.250:8080"), Translated: true}
	for b.Loop() {
		tr.Stale(s, f)
	}
}
