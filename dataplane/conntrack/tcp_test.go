package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

var web = service{name: "web", protocol: corev1.ProtocolTCP}

func localPolicy(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	svc.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
}

// connections are some of every kind of client of the Service web to every sort of address, in one family.
func (w *network) connections(t *testing.T, family uint8) map[string]*nstest.Conn {
	t.Helper()
	vip := netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80)
	nodePort := netip.AddrPortFrom(nodeAddrs[family], 30080)
	return map[string]*nstest.Conn{
		"Pod, cluster IP":            dial(t, w.pods[9], "tcp", vip),
		"host, cluster IP":           dial(t, w.node, "tcp", vip),
		"outside, cluster IP":        dial(t, w.client, "tcp", vip), // masqueraded
		"outside, node port":         dial(t, w.client, "tcp", nodePort),
		"Pod, node port":             dial(t, w.pods[9], "tcp", nodePort),
		"Pod itself (hairpin)":       dial(t, w.pods[1], "tcp", vip),
		"neighbouring Pod, NodePort": dial(t, w.pods[2], "tcp", nodePort),
	}
}

// reset waits for the reset of a connection, by reading alone or by writing, too.
func reset(c *nstest.Conn, write bool) error {
	if write {
		if _, err := c.Ask(patience); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			return fmt.Errorf("after writing: %w, want a reset", err)
		}
		return nil
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("after reading: %w, want a reset", err)
	}
	return nil
}

// TestTCPReset: connections to a Pod that ended are reset, whoever the client is, whatever would become of a new
// connection, whether the client writes or only reads, and whether the kernel picks up connections in the middle.
func TestTCPReset(t *testing.T) {
	others := map[string]struct {
		service
		pods      map[int]condition
		elsewhere []int
		fate      string // of a new connection of a Pod
	}{
		"another endpoint": {service: web, pods: pods(ready, 2), fate: "ep2"},
		"no endpoint":      {service: web, fate: nstest.Rejected},
		"policy Local, endpoints elsewhere only": {
			service: service{name: "web", protocol: corev1.ProtocolTCP, edit: localPolicy},
			pods:    pods(ready, 2), elsewhere: []int{2}, fate: nstest.Dropped,
		},
	}
	for name, next := range others {
		for _, loose := range []string{"1", "0"} {
			for _, write := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/loose %s/write %v", name, loose, write), func(t *testing.T) {
					t.Parallel()
					w := newNetwork(t, 2)
					w.node.Sysctl(t, "netfilter/nf_conntrack_tcp_loose", loose)
					a := w.startAgent(t)
					a.change(next.set(pods(ready, 1)))
					open := map[string]*nstest.Conn{}
					for _, family := range families {
						for who, c := range w.connections(t, family) {
							if got, err := c.Ask(patience); err != nil || got.Server != "ep1" {
								t.Fatalf("%s: %v, %v", who, got, err)
							}
							if who != "Pod itself (hairpin)" { // it ends with its Pod
								open[fmt.Sprintf("%s, IPv%d", who, family)] = c
							}
						}
					}
					a.change(next.set(map[int]condition{1: serving, 2: ready}))
					w.killPod(t, 1)
					a.change(next.set(next.pods, next.elsewhere...))
					for who, c := range open {
						if err := reset(c, write); err != nil {
							t.Errorf("%s: %v", who, err)
						}
					}
					eventually(t, fmt.Sprintf("%d resets reported", len(open)+2), func() bool {
						_, _, resets, _ := a.totals()
						return resets == len(open)+2
					})
					if _, _, _, failures := a.totals(); failures > 0 {
						t.Errorf("%d failures; log %v", failures, a.log.lines)
					}
					wait := patience
					if next.fate == nstest.Dropped {
						wait = time.Second
					}
					if got, err := w.pods[9].Ask("tcp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80), wait); err != nil || got.Server != next.fate {
						t.Errorf("a new connection: %v, %v; want %s", got, err, next.fate)
					}
				})
			}
		}
	}
}

// TestTCPKept: connections stay where the Pod did not end: it drains, loses its label, is not ready, its Service is
// gone, or the switch is off.
func TestTCPKept(t *testing.T) {
	tests := map[string]struct {
		steps []map[int]condition
		// atOnce leaves no time between the steps to look for flows.
		atOnce bool
		edit   func(*Options)
	}{
		"draining":                       {steps: []map[int]condition{{1: serving, 2: ready}}},
		"terminating without serving":    {steps: []map[int]condition{{1: ending, 2: ready}}},
		"label lost":                     {steps: []map[int]condition{pods(ready, 2)}},
		"not ready":                      {steps: []map[int]condition{{1: notReady, 2: ready}}},
		"not ready, then label lost":     {steps: []map[int]condition{{1: notReady, 2: ready}, pods(ready, 2)}},
		"deletion undone, label lost":    {steps: []map[int]condition{{1: serving, 2: ready}, pods(ready, 1, 2), pods(ready, 2)}},
		"all labels lost":                {steps: []map[int]condition{nil}},
		"ended, but the switch is off":   {steps: []map[int]condition{{1: serving, 2: ready}, pods(ready, 2)}, edit: func(o *Options) { o.Resets = false }},
		"ended, and there again at once": {steps: []map[int]condition{{1: serving, 2: ready}, pods(ready, 2), pods(ready, 1, 2)}, atOnce: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork(t, 2)
			var edits []func(*Options)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			a := w.startAgent(t, edits...)
			a.change(web.set(pods(ready, 1)))
			open := map[string]*nstest.Conn{}
			for _, family := range families {
				for who, c := range w.connections(t, family) {
					open[fmt.Sprintf("%s, IPv%d", who, family)] = c
				}
			}
			var says []func(*model.Tracker) error
			for _, step := range test.steps {
				if says = append(says, web.set(step)); !test.atOnce {
					a.change(says...)
					says = nil
				}
			}
			a.change(says...)
			a.settled()
			for who, c := range open {
				if got, err := c.Ask(patience); err != nil || got.Server != "ep1" {
					t.Errorf("%s: %v, %v", who, got, err)
				}
			}
		})
	}
}

// TestTCPSeenTerminatingAtLast: between two writes an endpoint may be seen terminating and go; what was seen last counts.
func TestTCPSeenTerminatingAtLast(t *testing.T) {
	w := newNetwork(t, 2)
	a := w.startAgent(t)
	a.change(web.set(pods(ready, 1)))
	c := dial(t, w.pods[9], "tcp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80))
	w.killPod(t, 1)
	a.mu.Lock()
	check(t, web.set(map[int]condition{1: ending, 2: ready})(a.tracker))
	a.mu.Unlock()
	a.change(web.set(pods(ready, 2)))
	if err := reset(c, false); err != nil {
		t.Error(err)
	}
}

// TestTCPAddressTakenAgain: when a new Pod of the Service has the address of one that ended, its new connections stay,
// and the old ones are reset, by the new Pod itself if need be.
func TestTCPAddressTakenAgain(t *testing.T) {
	for name, between := range map[string]bool{"at once": false, "a write later": true} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 2)
			a := w.startAgent(t)
			a.change(web.set(pods(ready, 1)))
			vip := netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80)
			old := dial(t, w.pods[9], "tcp", vip)
			if got, err := old.Ask(patience); err != nil || got.Server != "ep1" {
				t.Fatal(got, err)
			}
			a.change(web.set(map[int]condition{1: serving, 2: ready}))
			w.removePod(t, 1)
			if between {
				a.change(web.set(pods(ready, 2)))
			}
			w.startPod(t, 1, "new")
			a.change(web.set(pods(ready, 1)))
			fresh := dial(t, w.pods[9], "tcp", vip)
			if err := reset(old, true); err != nil {
				t.Errorf("the old connection: %v", err)
			}
			a.settled()
			if got, err := fresh.Ask(patience); err != nil || got.Server != "new" {
				t.Errorf("the new connection: %v, %v", got, err)
			}
		})
	}
}

// TestTCPPortTakenAgain: a client whose connection was reset may make a new one from the same port, and keeps it.
func TestTCPPortTakenAgain(t *testing.T) {
	w := newNetwork(t, 2)
	a := w.startAgent(t)
	a.change(web.set(pods(ready, 1)))
	for _, family := range families {
		vip := netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80)
		old := dial(t, w.pods[9], "tcp", vip)
		if got, err := old.Ask(patience); err != nil || got.Server != "ep1" {
			t.Fatal(got, err)
		}
		a.change(web.set(map[int]condition{1: ending, 2: ready}))
		a.change(web.set(pods(ready, 2)))
		if err := reset(old, false); err != nil {
			t.Fatal(err)
		}
		from := local(old)
		check(t, old.Close())
		if got, err := w.pods[9].AskFrom("tcp", from, vip, patience); err != nil || got.Server != "ep2" {
			t.Errorf("IPv%d: a new connection from port %d: %v, %v", family, from.Port(), got, err)
		}
		a.change(web.set(pods(ready, 1)))
	}
}

// TestTCPConnecting: a client whose SYN went to an endpoint that is gone is connected to another, without a reset.
func TestTCPConnecting(t *testing.T) {
	w := newNetwork(t, 2)
	a := w.startAgent(t)
	a.change(web.set(pods(serving, 1)))
	w.killPod(t, 1)
	answer := make(chan string, 1)
	go func() {
		got, err := w.pods[9].Ask("tcp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80), patience)
		answer <- fmt.Sprint(got.Server, err)
	}()
	eventually(t, "the SYN's flow", func() bool { return len(w.flows(t)) > 0 })
	a.change(web.set(pods(ready, 2)))
	if got := <-answer; got != "ep2<nil>" {
		t.Error(got)
	}
	a.settled() // the answer may come before the report
	if _, deleted, resets, _ := a.totals(); deleted != 1 || resets != 0 {
		t.Errorf("%d flows deleted, %d reset", deleted, resets)
	}
}

// TestResetTable: the nft program can read the table; it goes when nothing in it can be valid, and by Cleanup.
func TestResetTable(t *testing.T) {
	w := newNetwork(t, 0)
	r := &resets{namespace: w.node.FD()}
	var open []entry
	for _, family := range families {
		open = append(open, entry{original: tuple{
			src: netip.AddrPortFrom(podAddr(family, 9), 40000), dst: netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80),
		}})
	}
	for range 2 { // the second time everything is there
		check(t, r.add(open))
	}
	list := func() string { return ruleset(t, w.node) }
	text := list()
	for _, want := range []string{
		"ip saddr . tcp sport . ip daddr . tcp dport @connections-4 reject with tcp reset",
		"ip6 saddr . tcp sport . ip6 daddr . tcp dport @connections-6 reject with tcp reset",
		"ip daddr . tcp dport . ip saddr . tcp sport @connections-4 notrack",
		"10.244.9.2 . 40000 . 10.96.0.10 . 80 timeout 15m",
		"fd00:244:9::2 . 40000 . fd00:96::a . 80 timeout 15m",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "reject with tcp reset"); n != 4 {
		t.Errorf("%d rules that reset, want 4", n)
	}
	check(t, r.removeIdle(r.last.Add(resetMemory-1)))
	if list() == "" {
		t.Error("removed too early")
	}
	check(t, r.removeIdle(r.last.Add(resetMemory)))
	if text := list(); text != "" {
		t.Errorf("left:\n%s", text)
	}
	check(t, r.add(open))
	for range 2 { // nothing there is fine
		check(t, Cleanup(w.node.FD()))
	}
	if text := list(); text != "" {
		t.Errorf("left:\n%s", text)
	}
}
