package conntrack

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func suspectEndpoint(p model.Protocol, addr netip.AddrPort, ended bool) *model.Suspects {
	return &model.Suspects{Endpoints: map[model.PortEndpoint]bool{
		{Port: model.ServicePortName{Namespace: "default", Name: "dns", Protocol: p}, Addr: addr}: ended,
	}}
}

// TestFailures: a pass that fails is logged once and tried again, later each time, and given up in the end; what came
// meanwhile is not lost, and when the kernel answers again everything is as before.
func TestFailures(t *testing.T) {
	w := conntrackNode(t)
	var reports []Report
	c, err := New(Options{Flows: true, NetNS: w.node.FD(), Observer: observer(func(r Report) { reports = append(reports, r) })})
	check(t, err)
	defer c.close()
	null, err := os.Open(os.DevNull)
	check(t, err)
	defer func() { _ = null.Close() }()
	var log logBuffer
	logger := log.logger()
	everything := judge(func(*model.Suspects, model.Flow) bool { return true })
	work := func() { c.work(t.Context(), logger, everything) }

	makeFlows(t, w.node, ownFlows(0, 1))
	dumps := c.dumps.(*socket)
	good := dumps.fd
	dumps.fd = int(null.Fd()) // no socket: requests fail
	c.Clean(suspectEndpoint(model.UDP, pod4, false))
	pause := func() time.Duration { return time.Until(c.next) }
	type measured struct{ since, until time.Duration } // since the pass began, until the next one
	var pauses []measured
	for range maxTries - 1 {
		begin := time.Now()
		work()
		pauses = append(pauses, measured{c.next.Sub(begin), pause()})
	}
	for i, got := range pauses {
		// The pass comes before the pause.
		if want := min(settlingTime<<(i+1), maxPause); got.since < want || got.until > want {
			t.Errorf("pauses %v, want %v after %d failures", pauses, want, i+1)
		}
	}
	if n := log.count("error"); n != 1 {
		t.Errorf("%d lines logged: %v", n, log.lines)
	}
	c.Clean(suspectEndpoint(model.UDP, pod6, false))
	dumps.fd = good
	if reports = nil; len(c.wake) != 1 {
		t.Fatal("not to be tried again")
	}
	begin := time.Now()
	work()
	rest := restFactor * time.Since(begin)
	if len(reports) != 2 || reports[0].Deleted != 1 || reports[0].Err != nil || pause() > rest || c.failures != 0 {
		t.Errorf("when the kernel answers again: %+v, pause %v", reports, pause())
	}

	dumps.fd = int(null.Fd())
	c.Clean(suspectEndpoint(model.UDP, pod4, false))
	for range maxTries {
		work()
	}
	dumps.fd = good
	if s := c.take(); !s.Empty() || c.failures != 0 || log.count("Giving up") != 1 {
		t.Errorf("not given up: %+v, log %v", s, log.lines)
	}
}

// TestPutBack: what a pass in vain put back is older than what came meanwhile: an endpoint that was seen ended may be another
// one by now, which merely lost its label.
func TestPutBack(t *testing.T) {
	c := &Cleaner{wake: make(chan struct{}, 1), pending: suspectEndpoint(model.TCP, pod4, false)}
	c.putBack(suspectEndpoint(model.TCP, pod4, true))
	for e, ended := range c.take().Endpoints {
		if ended {
			t.Errorf("%v ended", e)
		}
	}
}

// TestForgetGone: a flow that ended by itself between its listing and its deletion is neither a failure nor a success.
func TestForgetGone(t *testing.T) {
	w := conntrackNode(t)
	c, err := New(Options{Flows: true, NetNS: w.node.FD()})
	check(t, err)
	defer c.close()
	makeFlows(t, w.node, ownFlows(0, 2))
	flows := w.flows(t)
	p := &pass{Cleaner: c, report: &Report{}}
	p.forget(flows[:1])
	p.forget(flows)
	if p.report.Deleted != 2 || len(p.errs) > 0 || len(w.flows(t)) != 0 {
		t.Errorf("%+v, %v, left %v", p.report, p.errs, w.flows(t))
	}
}

// TestOpen: only connections that both sides know and that are not over are reset.
func TestOpen(t *testing.T) {
	const established, closeWait = 3, 5
	for _, e := range []struct {
		entry
		want bool
	}{
		{entry{original: tuple{protocol: model.TCP}, status: statusSeenReply, tcpState: established}, true},
		{entry{original: tuple{protocol: model.TCP}, status: statusSeenReply, tcpState: closeWait}, true},
		{entry{original: tuple{protocol: model.TCP}, status: statusSeenReply, tcpState: tcpTimeWait}, false},
		{entry{original: tuple{protocol: model.TCP}, status: statusSeenReply, tcpState: tcpClose}, false},
		{entry{original: tuple{protocol: model.TCP}, tcpState: established}, false},
		{entry{original: tuple{protocol: model.UDP}, status: statusSeenReply, tcpState: established}, false},
	} {
		if e.open() != e.want {
			t.Errorf("%+v is open: %v", e.entry, e.open())
		}
	}
}

// TestRest: passes take no more than a tenth of the time.
func TestRest(t *testing.T) {
	w := conntrackNode(t)
	c, err := New(Options{Flows: true, NetNS: w.node.FD()})
	check(t, err)
	defer c.close()
	makeFlows(t, w.node, ownFlows(0, 1))
	slow := judge(func(*model.Suspects, model.Flow) bool {
		for start := time.Now(); time.Since(start) < 50*time.Millisecond; {
		}
		return false
	})
	c.Clean(suspectEndpoint(model.UDP, pod4, false))
	begin := time.Now()
	c.work(t.Context(), logr.Discard(), slow)
	if pause := c.next.Sub(begin); pause < (1+restFactor)*50*time.Millisecond {
		t.Errorf("a pause of %v after a pass of 50 ms", pause)
	}
	c.Clean(&model.Suspects{})
	c.work(t.Context(), logr.Discard(), slow)
	if pause := time.Until(c.next); pause > settlingTime {
		t.Errorf("a pause of %v after a pass of nothing", pause)
	}
}

// TestRestBetweenPasses: a pass begins no sooner after rules were written than what met the old ones has made its flow, and no sooner
// after the last pass than the rest that this one asks for.
func TestRestBetweenPasses(t *testing.T) {
	const took = 30 * time.Millisecond
	w := conntrackNode(t)
	reports := make(chan time.Time, 10)
	c, err := New(Options{Flows: true, NetNS: w.node.FD(), Observer: observer(func(r Report) {
		if r.Family == 4 {
			reports <- time.Now()
		}
	})})
	check(t, err)
	makeFlows(t, w.node, ownFlows(0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx, judge(func(*model.Suspects, model.Flow) bool {
			for start := time.Now(); time.Since(start) < took; {
			}
			return false
		}))
	}()
	last := time.Now()
	for i, least := range []time.Duration{settlingTime, restFactor * took} {
		c.Clean(suspectEndpoint(model.UDP, pod4, false))
		now := <-reports
		if after := now.Sub(last); after < least {
			t.Errorf("pass %d ended after %v, want at least %v", i, after, least)
		}
		last = now
	}
	cancel()
	<-done
}

// TestProbe: a kernel that lacks what is asked for is told from one that has it.
func TestProbe(t *testing.T) {
	s, err := openSocket(nstest.New(t, "node").FD())
	check(t, err)
	defer s.close()
	check(t, probe(s))
	// A subsystem that no kernel has stands for one that this kernel lacks.
	r := newRequest(msgStats, 1<<2, 0)
	binary.NativeEndian.PutUint16(r.b[4:], 0xf0<<8|msgStats)
	results, err := s.acknowledged(r.end(), 1)
	check(t, err)
	if results[0] == nil {
		t.Error("a request to no subsystem succeeds")
	}
}

func TestPlan(t *testing.T) {
	both := scope{flows: true, resets: true}
	key := func(p model.Protocol, to string) model.FrontendKey {
		a := netip.MustParseAddrPort(to)
		return model.FrontendKey{Addr: a.Addr(), Protocol: p, Port: a.Port()}
	}
	many := &model.Suspects{Endpoints: map[model.PortEndpoint]bool{}}
	for i := range uint16(maxFilters + 1) {
		many.Add(suspectEndpoint(model.TCP, netip.AddrPortFrom(pod4.Addr(), 8000+i), true))
	}
	manyAndFrontend := &model.Suspects{}
	for i := range uint16(maxFilters) {
		manyAndFrontend.Add(suspectEndpoint(model.UDP, netip.AddrPortFrom(pod4.Addr(), 8000+i), true))
	}
	manyAndFrontend.Add(&model.Suspects{Frontends: map[model.FrontendKey]bool{key(model.UDP, "10.96.0.10:80"): false}})
	tests := map[string]struct {
		reason   string
		suspects *model.Suspects
		scope    scope
		want     []filter
	}{
		"Nothing":          {suspects: &model.Suspects{}, scope: both},
		"UDP":              {suspects: suspectEndpoint(model.UDP, pod4, false), scope: both, want: []filter{{family: 4, protocol: model.UDP, from: pod4, translated: true}}},
		"UDPOff":           {suspects: suspectEndpoint(model.UDP, pod4, true), scope: scope{resets: true}},
		"TCPEnded":         {suspects: suspectEndpoint(model.TCP, pod6, true), scope: both, want: []filter{{family: 6, protocol: model.TCP, from: pod6, translated: true}}},
		"TCPNotEnded":      {suspects: suspectEndpoint(model.TCP, pod4, false), scope: both, reason: "nothing is done to its connections"},
		"TCPOff":           {suspects: suspectEndpoint(model.TCP, pod4, true), scope: scope{flows: true}},
		"Frontend":         {suspects: &model.Suspects{Frontends: map[model.FrontendKey]bool{key(model.UDP, "10.96.0.10:80"): false}}, scope: both, want: []filter{{family: 4, protocol: model.UDP, toAddr: vip4.Addr(), toPort: 80}}},
		"NodePortCame":     {suspects: &model.Suspects{Frontends: map[model.FrontendKey]bool{key(model.UDP, "0.0.0.0:30080"): false}}, scope: both, reason: "what was not translated there may be a program's"},
		"NodePortGone":     {suspects: &model.Suspects{Frontends: map[model.FrontendKey]bool{key(model.UDP, "[::]:30080"): true}}, scope: both, want: []filter{{family: 6, protocol: model.UDP, toPort: 30080, translated: true}}},
		"Many":             {suspects: many, scope: both, want: []filter{{family: 4, protocol: model.TCP, translated: true}}},
		"ManyUntranslated": {suspects: manyAndFrontend, scope: both, want: []filter{{family: 4, protocol: model.UDP}}},
		"All":              {suspects: &model.Suspects{All: true}, scope: both, want: []filter{{family: 4, protocol: model.UDP}, {family: 6, protocol: model.UDP}}},
		"AllOff":           {suspects: &model.Suspects{All: true}, scope: scope{resets: true}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := plan(tc.suspects, tc.scope)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(filter{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestSegment compares with segments whose checksums were worked out by hand.
func TestSegment(t *testing.T) {
	for to, want := range map[string]string{
		"10.0.0.2:2": "45000000000000004006" + "0000" + "0a000001" + "0a000002" + "0001" + "0002" + "00000000" + "00000000" + "5010" + "0000" + "9bcf" + "0000",
		"[::2]:2":    "60000000" + "0014" + "06" + "40" + "00000000000000000000000000000001" + "00000000000000000000000000000002" + "0001" + "0002" + "00000000" + "00000000" + "5010" + "0000" + "afcf" + "0000",
	} {
		a := netip.MustParseAddrPort(to)
		from := netip.AddrPortFrom(a.Addr().Prev(), 1)
		if got := hex.EncodeToString(segment(from, a)); got != want {
			t.Errorf("to %s:\n%s, want\n%s", to, got, want)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0x80, 4, 0, 1, 0x80})
	m := made{protocol: model.TCP, client: client6, to: vip6, endpoint: pod6, zone: 3}
	f.Add(m.create()[16:])
	f.Fuzz(func(_ *testing.T, data []byte) {
		e := parseEntry(data)
		e.open()
		e.flow()
	})
}
