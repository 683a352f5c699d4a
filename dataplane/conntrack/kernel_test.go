package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// made is a flow that a test makes without packets.
type made struct {
	protocol   model.Protocol
	client, to netip.AddrPort
	endpoint   netip.AddrPort // as to: not translated
	zone       uint16
	// originalZone is that of the direction from the client alone.
	originalZone uint16
	unanswered   bool
}

// create encodes the request for a flow.
func (m made) create() []byte {
	const msgNew, attrTimeout, attrNATDst, attrNATMin, attrNATMin6, attrNATProto, attrNATPortMin = 0, 7, 13, 1, 4, 3, 1
	r := newRequest(msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, familyOf(m.to.Addr().Is4()))
	direction := func(kind uint16, src, dst netip.AddrPort) {
		r.nest(kind, func() {
			r.nest(attrTupleIP, func() {
				r.addr(attrSrc4, src.Addr())
				r.addr(attrDst4, dst.Addr())
			})
			r.nest(attrTupleProto, func() {
				r.add(attrProtoNumber, []byte{uint8(m.protocol)})
				r.port(attrSrcPort, src.Port())
				r.port(attrDstPort, dst.Port())
			})
			if kind == attrOriginal && m.originalZone != 0 {
				r.add(attrTupleZone, binary.BigEndian.AppendUint16(nil, m.originalZone))
			}
		})
	}
	direction(attrOriginal, m.client, m.to)
	direction(attrReply, m.to, m.client)
	if !m.unanswered {
		const confirmed, assured = 1 << 3, 1 << 2
		r.add(attrStatus, binary.BigEndian.AppendUint32(nil, statusSeenReply|assured|confirmed))
	}
	r.add(attrTimeout, binary.BigEndian.AppendUint32(nil, 600))
	if m.protocol == model.TCP {
		r.nest(attrProtoInfo, func() { r.nest(attrProtoInfoTCP, func() { r.add(attrTCPState, []byte{3}) }) })
	}
	if m.endpoint != m.to {
		r.nest(attrNATDst, func() {
			kind := uint16(attrNATMin)
			if m.to.Addr().Is6() {
				kind = attrNATMin6
			}
			r.add(kind, m.endpoint.Addr().AsSlice())
			r.nest(attrNATProto, func() { r.port(attrNATPortMin, m.endpoint.Port()) })
		})
	}
	if m.zone != 0 {
		r.add(attrZone, binary.BigEndian.AppendUint16(nil, m.zone))
	}
	return r.end()
}

// make puts flows into the table of a namespace.
func makeFlows(tb testing.TB, ns *nstest.Namespace, flows []made) {
	tb.Helper()
	s, err := openSocket(ns.FD())
	check(tb, err)
	defer s.close()
	for batch := range slices.Chunk(flows, 64) {
		var requests []byte
		for _, m := range batch {
			requests = append(requests, m.create()...)
		}
		results, err := s.acknowledged(requests, len(batch))
		check(tb, err)
		for i, err := range results {
			if err != nil {
				tb.Fatalf("making %+v: %v", batch[i], err)
			}
		}
	}
}

// conntrackNode is a namespace in which the kernel keeps track of flows and has NAT for both families.
func conntrackNode(tb testing.TB) *network {
	tb.Helper()
	w := &network{node: nstest.New(tb, "node")}
	for _, family := range []string{"ip", "ip6"} {
		nft(tb, w.node, fmt.Sprintf("add table %s t; add chain %s t c { type nat hook prerouting priority -100 ; }", family, family))
	}
	return w
}

var (
	client4 = netip.MustParseAddrPort("10.244.9.2:40000")
	client6 = netip.MustParseAddrPort("[fd00:244:9::2]:40000")
	vip4    = netip.MustParseAddrPort("10.96.0.10:80")
	vip6    = netip.MustParseAddrPort("[fd00:96::a]:80")
	pod4    = netip.MustParseAddrPort("10.244.1.2:8080")
	pod6    = netip.MustParseAddrPort("[fd00:244:1::2]:8080")
)

// TestDump: the kernel gives what a filter asks for, with and without its help, and each flow reads as it was made.
func TestDump(t *testing.T) {
	w := conntrackNode(t)
	other := func(a netip.AddrPort, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), port) }
	var flows []made
	for _, p := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		for _, a := range [][3]netip.AddrPort{{client4, vip4, pod4}, {client6, vip6, pod6}} {
			flows = append(flows,
				made{protocol: p, client: a[0], to: a[1], endpoint: a[2]},
				made{protocol: p, client: other(a[0], 40001), to: a[1], endpoint: other(a[2], 8081)},
				made{protocol: p, client: other(a[0], 40002), to: other(a[1], 81), endpoint: a[2]},
				made{protocol: p, client: other(a[0], 40003), to: a[1], endpoint: a[1]},
				made{protocol: p, client: other(a[0], 40004), to: a[1], endpoint: a[2], zone: 7},
				made{protocol: p, client: other(a[0], 40005), to: a[1], endpoint: a[2], unanswered: true},
				made{protocol: p, client: other(a[0], 40006), to: a[1], endpoint: a[2], originalZone: 7})
		}
	}
	makeFlows(t, w.node, flows)
	s, err := openSocket(w.node.FD())
	check(t, err)
	defer s.close()
	filters := map[string]func(made, *filter) bool{ // sets up the filter, and says what it is to have
		"protocol":   func(m made, f *filter) bool { return true },
		"translated": func(m made, f *filter) bool { f.translated = true; return m.endpoint != m.to },
		"to":         func(m made, f *filter) bool { f.toAddr, f.toPort = vip(f.family).Addr(), 80; return m.to.Port() == 80 },
		"to a port":  func(m made, f *filter) bool { f.toPort = 81; return m.to.Port() == 81 },
		"from": func(m made, f *filter) bool {
			f.from, f.translated = pod(f.family), true
			return m.endpoint == pod(f.family)
		},
		"from, elsewhere": func(m made, f *filter) bool { f.from = netip.AddrPortFrom(vip(f.family).Addr(), 8080); return false },
		"to, elsewhere":   func(m made, f *filter) bool { f.toAddr = pod(f.family).Addr(); return false },
	}
	for name, setUp := range filters {
		for _, plain := range []bool{false, true} {
			for _, p := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
				for _, family := range families {
					f := filter{family: family, protocol: p}
					want, got := map[netip.AddrPort]model.Flow{}, map[netip.AddrPort]model.Flow{}
					for _, m := range flows {
						asked := setUp(m, &f)
						if asked && m.protocol == p && familyOf(m.to.Addr().Is4()) == family && m.zone == 0 && m.originalZone == 0 {
							want[m.client] = model.Flow{Protocol: p, To: m.to, Endpoint: m.endpoint,
								Translated: m.endpoint != m.to, Answered: !m.unanswered}
						}
					}
					check(t, s.dump(f.request(plain), func(data []byte) error {
						if e := parseEntry(data); f.matches(&e) {
							got[e.original.src] = e.flow()
							if e.id == 0 || e.open() != (p == model.TCP && e.status&statusSeenReply != 0) {
								t.Errorf("read %+v", e)
							}
						}
						return nil
					}))
					if fmt.Sprint(want) != fmt.Sprint(got) {
						t.Errorf("%s, plain %v, protocol %d, IPv%d: want\n%v, got\n%v", name, plain, p, family, want, got)
					}
				}
			}
		}
	}
}

func vip(family uint8) netip.AddrPort {
	return map[uint8]netip.AddrPort{4: vip4, 6: vip6}[family]
}

func pod(family uint8) netip.AddrPort {
	return map[uint8]netip.AddrPort{4: pod4, 6: pod6}[family]
}

// TestKernelFilters: the kernel leaves out what a filter does not ask for. Without its help a pass would copy the whole
// table.
func TestKernelFilters(t *testing.T) {
	w := conntrackNode(t)
	var flows []made
	for i := range uint16(200) {
		a := netip.AddrPortFrom(client4.Addr(), 1000+i)
		b := netip.AddrPortFrom(client6.Addr(), 1000+i)
		flows = append(flows, made{protocol: model.UDP, client: a, to: vip4, endpoint: netip.AddrPortFrom(pod4.Addr(), 1000+i)},
			made{protocol: model.UDP, client: b, to: vip6, endpoint: netip.AddrPortFrom(pod6.Addr(), 1000+i)})
	}
	makeFlows(t, w.node, flows)
	s, err := openSocket(w.node.FD())
	check(t, err)
	defer s.close()
	for _, family := range families {
		f := filter{family: family, protocol: model.UDP, from: netip.AddrPortFrom(pod(family).Addr(), 1100), translated: true}
		n := 0
		check(t, s.dump(f.request(false), func([]byte) error { n++; return nil }))
		if n != 1 {
			t.Errorf("IPv%d: the kernel sent %d flows, not 1", family, n)
		}
	}
}

// TestDeletionHitsNoOther: a flow that took another's place has its addresses, and stays.
func TestDeletionHitsNoOther(t *testing.T) {
	w := conntrackNode(t)
	m := made{protocol: model.UDP, client: client4, to: vip4, endpoint: pod4}
	makeFlows(t, w.node, []made{m})
	old := w.flows(t)[0]
	s, err := openSocket(w.node.FD())
	check(t, err)
	defer s.close()
	// The number of a flow comes from its place in memory: one that is made while the old one still takes it differs.
	old.id++
	results, err := s.acknowledged(deletion(&old), 1)
	check(t, err)
	if !errors.Is(results[0], unix.ENOENT) || len(w.flows(t)) != 1 {
		t.Errorf("%v, %d flows left", results[0], len(w.flows(t)))
	}
	old.id--
	results, err = s.acknowledged(deletion(&old), 1)
	check(t, err)
	if results[0] != nil || len(w.flows(t)) != 0 {
		t.Errorf("%v, %d flows left", results[0], len(w.flows(t)))
	}
}

// foreign are n flows that have nothing to do with Services of ours, half of UDP, some of which go to the endpoint of the
// tests or look like a node port's.
func foreign(n int) []made {
	flows := make([]made, 0, n)
	for i := range n {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 9, byte(3 + i/60000)}), uint16(1024+i%60000))
		m := made{protocol: model.UDP, client: client, to: netip.MustParseAddrPort("192.0.2.1:53")}
		if i%2 == 0 {
			m.protocol = model.TCP
		}
		m.endpoint = m.to
		switch i % 100 {
		case 0, 1:
			m.to, m.endpoint = pod4, pod4
		case 2, 3:
			m.to = netip.MustParseAddrPort("10.99.0.1:80")
			m.endpoint = pod4
		}
		flows = append(flows, m)
	}
	return flows
}

// fill puts foreign flows into a node's table, if the kernel has room for so many.
func (w *network) fill(tb testing.TB, n int) {
	tb.Helper()
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	check(tb, err)
	var limit int
	if _, err := fmt.Sscan(string(b), &limit); err != nil || limit < n+n/4 {
		tb.Skipf("nf_conntrack_max is %d, too few for %d flows", limit, n)
	}
	makeFlows(tb, w.node, foreign(n))
}

// TestManyForeignFlows: among 100,000 foreign flows exactly ours are removed. BenchmarkCleaning says in what time and memory.
func TestManyForeignFlows(t *testing.T) {
	const many, own = 100_000, 100
	w := conntrackNode(t)
	w.fill(t, many)
	a := w.startAgent(t)
	a.change(dns.set(pods(ready, 1, 2)))
	eventually(t, "the look after the start", func() bool { passes, _, _, _ := a.totals(); return passes == 2 })
	makeFlows(t, w.node, ownFlows(0, own))
	a.change(dns.set(pods(ready, 2)))
	eventually(t, "ours forgotten", func() bool { _, deleted, _, _ := a.totals(); return deleted == own })
	if n := len(w.flows(t)); n != many {
		t.Errorf("%d flows left, want %d", n, many)
	}
}

func ownFlows(from, n int) []made {
	var flows []made
	for i := range n {
		client := netip.AddrPortFrom(client4.Addr(), uint16(2000+from+i))
		flows = append(flows, made{protocol: model.UDP, client: client, to: vip4, endpoint: pod4})
	}
	return flows
}

// BenchmarkCleaning is one pass that finds the 10 flows of an endpoint that is gone among foreign ones.
func BenchmarkCleaning(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("foreign=%d", n), func(b *testing.B) {
			benchmarkPass(b, n, &model.Suspects{Endpoints: map[model.PortEndpoint]bool{
				{Port: model.ServicePortName{Namespace: "default", Name: "dns", Protocol: model.UDP}, Addr: pod4}: false,
			}})
		})
	}
}

// BenchmarkReconciling is the look after a start.
func BenchmarkReconciling(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("foreign=%d", n), func(b *testing.B) { benchmarkPass(b, n, &model.Suspects{All: true}) })
	}
}

func benchmarkPass(b *testing.B, foreign int, s *model.Suspects) {
	w := conntrackNode(b)
	w.fill(b, foreign)
	tracker := model.NewTracker(model.Options{})
	check(b, dns.set(pods(ready, 2))(tracker))
	tracker.Changes()
	var deleted int
	c, err := New(Options{Flows: true, Resets: true, NetNS: w.node.FD(), Observer: observer(func(r Report) { deleted += r.Deleted })})
	check(b, err)
	defer c.close()
	judge := judge(tracker.Stale)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		deleted = 0
		makeFlows(b, w.node, ownFlows(0, 10))
		b.StartTimer()
		check(b, c.pass(b.Context(), s, judge))
		if deleted != 10 {
			b.Fatalf("%d flows deleted, want 10", deleted)
		}
	}
}

type observer func(Report)

func (o observer) FlowsCleaned(r Report) { o(r) }

type judge func(*model.Suspects, model.Flow) bool

func (j judge) Stale(s *model.Suspects, flows []model.Flow, stale []bool) {
	for i := range flows {
		stale[i] = j(s, flows[i])
	}
}
