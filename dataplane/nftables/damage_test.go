package nftables

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestDamage: whatever somebody does to our table, a full sync mends it, and a partial one fails or is followed
// by a full one.
func TestDamage(t *testing.T) {
	conn := func(t *testing.T, ns *nstest.Namespace) *nftables.Conn {
		c, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ip := &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	tests := map[string]func(c *nftables.Conn, b *Backend){
		"table deleted":     func(c *nftables.Conn, _ *Backend) { c.DelTable(ip) },
		"rules flushed":     func(c *nftables.Conn, _ *Backend) { c.FlushTable(ip) },
		"one chain flushed": func(c *nftables.Conn, _ *Backend) { c.FlushChain(&nftables.Chain{Table: ip, Name: "pick-3"}) },
		"frontends flushed": func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setFrontends]) },
		"endpoints flushed": func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setEndpoints]) },
		"ranges flushed":    func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setServiceRanges]) },
		"guards flushed":    func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setSourceRanges]) },
		"rule inserted": func(c *nftables.Conn, _ *Backend) {
			c.InsertRule(&nftables.Rule{Table: ip, Chain: &nftables.Chain{Table: ip, Name: chainServices}, Exprs: accept})
		},
		"foreign chains": func(c *nftables.Conn, _ *Backend) {
			inner := c.AddChain(&nftables.Chain{Table: ip, Name: "another"})
			outer := c.AddChain(&nftables.Chain{Table: ip, Name: "foreign"})
			c.AddRule(&nftables.Rule{Table: ip, Chain: outer, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: inner.Name}}})
		},
		"foreign set": func(c *nftables.Conn, _ *Backend) {
			_ = c.AddSet(&nftables.Set{Table: ip, Name: "foreign", KeyType: nftables.TypeMark}, nil)
		},
		"set of another type": func(c *nftables.Conn, _ *Backend) {
			c.DelTable(ip)
			c.AddTable(ip)
			_ = c.AddSet(&nftables.Set{Table: ip, Name: "frontends", KeyType: nftables.TypeMark}, nil)
		},
		"dormant": func(c *nftables.Conn, _ *Backend) {
			c.AddTable(&nftables.Table{Name: ip.Name, Family: ip.Family, Flags: nftables.TableFlagDormant})
		},
		// An older agent may have made such sets.
		"set with little room": func(c *nftables.Conn, b *Backend) {
			set := b.tables[0].sets[setFrontends].set(ip)
			set.Size = 1
			c.DelTable(ip)
			c.AddTable(ip)
			_ = c.AddSet(set, nil)
		},
		"set that rules make constant": func(c *nftables.Conn, b *Backend) {
			set := b.tables[0].sets[setEndpoints].set(ip)
			set.Constant = true
			c.DelTable(ip)
			c.AddTable(ip)
			_ = c.AddSet(set, nil)
		},
		"another priority": func(c *nftables.Conn, _ *Backend) {
			c.DelTable(ip)
			c.AddTable(ip)
			c.AddChain(&nftables.Chain{Table: ip, Name: "prerouting", Type: nftables.ChainTypeNAT,
				Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATSource})
		},
		"policy drop": func(c *nftables.Conn, _ *Backend) {
			policy := nftables.ChainPolicyDrop
			c.AddChain(&nftables.Chain{Table: ip, Name: "unclaimed-forward", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
		},
		"another hook": func(c *nftables.Conn, _ *Backend) {
			c.DelTable(ip)
			c.AddTable(ip)
			c.AddChain(&nftables.Chain{Table: ip, Name: "prerouting", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 1)
			b := w.backend(t)
			state := stickyState()
			mustSync(t, b, state.State, nil)

			c := conn(t, w.node)
			damage(c, b)
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			mustSync(t, b, state.State, nil)

			if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
				t.Errorf("expected, served:\n%s", diff)
			}
			if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
				t.Errorf("believed, in the kernel:\n%s", diff)
			}
			to := netip.AddrPortFrom(netip.MustParseAddr(vip(4, "cluster", 2)), 80)
			if a, err := w.pods[9].Ask("tcp", to, patience); err != nil || a.Server != "ep1" {
				t.Errorf("asking %v: %v, %v", to, a, err)
			}
			gen := generation(t, w.node)
			mustSync(t, b, state.State, nil)
			if got := generation(t, w.node); got != gen {
				t.Error("a sync after the repair wrote again")
			}
		})
	}
}
