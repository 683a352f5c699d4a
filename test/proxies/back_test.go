package proxies

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/dataplane/conformance"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// backToKubeProxy goes the way that docs/install.md describes, in its order: the agent ends, kube-proxy starts, the
// agent's rules are removed. New connections are served as before, after each step and all the while, and those that are open
// stay. In the end kube-proxy alone follows what changes.
func backToKubeProxy(t *testing.T, api *server, assets string) {
	if err := api.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := &node{Network: api.network(t)}
	ours, theirs := nodeAgent(t, api, n.Network), kubeProxy(t, api, n.Network, assets)
	cases := conformance.Cases()
	c := &cases[slices.IndexFunc(cases, func(c conformance.Case) bool { return c.Name == "externalTrafficPolicy Local" })]
	r, steps := &runner{api: api}, c.Merged()
	start := func(p *program) {
		t.Helper()
		if err := p.run(c.Config); err != nil {
			t.Fatal(err)
		}
	}
	change := func(step *conformance.Step, by *program) {
		t.Helper()
		if err := api.step(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		r.catchUp(t, c, []*program{by})
	}

	start(ours)
	change(&steps[0], ours)
	n.open(t, &steps[0])
	stop := n.keepAsking(&steps[0])
	n.look(t, "the agent runs", &steps[0])
	ours.stop()
	ours.stop = nil
	n.look(t, "the agent has ended", &steps[0])
	start(theirs)
	r.catchUp(t, c, []*program{theirs})
	n.look(t, "kube-proxy has started", &steps[0])
	if err := n.InNode(func() error {
		out, err := exec.Command(os.Getenv(agentVariable), "--cleanup").CombinedOutput()
		if err != nil {
			return fmt.Errorf("removing the agent's rules: %w: %s", err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	n.look(t, "the agent's rules are gone", &steps[0])
	if asked, lost := stop(); asked == 0 || lost > 0 {
		t.Errorf("of %d connections that were made all the while, %d were not answered", asked, lost)
	}
	for i := range steps[1:] {
		step := &steps[1+i]
		change(step, theirs)
		n.Forget(t) // a flow of before would be answered
		n.see(t, "kube-proxy alone", step)
	}
}

// node is a network's node whose proxy changes.
type node struct {
	*conformance.Network
	opened []opened
}

// opened is a connection that stays.
type opened struct {
	*nstest.Conn
	to     conformance.Target
	server string
}

// open connects each client of a step to what it is answered from.
func (n *node) open(t *testing.T, step *conformance.Step) {
	t.Helper()
	for _, p := range step.Probes {
		c, err := n.Dial(p.From, p.To.AddrPort)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		answer, err := c.Ask(patience)
		if err != nil {
			t.Fatal(err)
		}
		n.opened = append(n.opened, opened{c, p.To, answer.Server})
	}
}

// keepAsking connects to the first address of a step, again and again, until it is stopped.
func (n *node) keepAsking(step *conformance.Step) (stop func() (asked, lost int)) {
	asked, lost := 0, 0
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for to := step.Probes[0].To; ; asked++ {
			select {
			case <-done:
				return
			default:
			}
			if !n.answersAtOnce(to.AddrPort) {
				lost++
			}
		}
	}()
	return func() (int, int) {
		close(done)
		<-ended
		return asked, lost
	}
}

// answersAtOnce says whether a connection is answered, without a second try.
func (n *node) answersAtOnce(to netip.AddrPort) bool {
	c, err := n.Dial(conformance.Here, to)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.Conn.(*net.TCPConn).SetLinger(0) // its port is free at once
	if again, err := c.Retransmits(); err != nil || again > 0 {
		return false
	}
	_, err = c.Ask(patience)
	return err == nil
}

// look makes new connections and asks those that are open.
func (n *node) look(t *testing.T, when string, step *conformance.Step) {
	t.Helper()
	n.see(t, when, step)
	for _, c := range n.opened {
		if answer, err := c.Ask(patience); err != nil || answer.Server != c.server {
			t.Errorf("%s: the connection to %s %s, of %s, is answered by %q (%v)", when, c.to.Name, c.to.AddrPort, c.server, answer.Server, err)
		}
	}
}

// see makes new connections.
func (n *node) see(t *testing.T, when string, step *conformance.Step) {
	t.Helper()
	for _, r := range n.Observe(step) {
		if !r.OK() {
			t.Errorf("%s: %s %s: want %s, got %s", when, step.Name, r.What(), r.Probe.Want, r.Got)
		}
	}
}
