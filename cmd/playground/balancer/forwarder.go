package balancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// forwarder implements hardware.Hardware with nftables in the network namespace of the process.
type forwarder struct {
	checker *checker
	rules   ruleWriter

	mu        sync.Mutex
	balancers []hardware.Balancer
	written   []forward
	started   bool
}

var _ hardware.Hardware = (*forwarder)(nil)

// newForwarder removes what an earlier process left behind, and needs the rights to write nftables.
func newForwarder() (*forwarder, error) {
	h := &forwarder{}
	if err := h.rules.clear(); err != nil {
		return nil, fmt.Errorf("writing nftables (the process needs CAP_NET_ADMIN in its network namespace): %w", err)
	}
	h.checker = newChecker(func() {
		if err := h.write(); err != nil {
			fmt.Fprintln(os.Stderr, "cloud: programming the balancers:", err)
		}
	})
	return h, nil
}

// Program implements hardware.Hardware.
func (h *forwarder) Program(_ context.Context, balancers []hardware.Balancer) error {
	h.mu.Lock()
	h.balancers = balancers
	h.mu.Unlock()
	h.checker.watch(probesOf(balancers))
	return h.write()
}

// write brings the kernel to the balancers and the health there is now.
func (h *forwarder) write() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := forwards(h.balancers, h.checker)
	if h.started && slices.EqualFunc(h.written, next, forward.equal) {
		return nil
	}
	// Addresses come before rules and go after them, so that no rule is without its address.
	if err := addAddresses(next); err != nil {
		return err
	}
	if err := h.rules.write(next); err != nil {
		return err
	}
	before := h.written
	h.written, h.started = next, true
	return errors.Join(removeAddresses(next), dropFlows(before, next))
}

// Health implements hardware.Hardware: healthy are the targets that answer, once the kernel sends to them.
func (h *forwarder) Health() []hardware.TargetHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	used := map[hardware.TargetHealth]bool{}
	for _, f := range h.written {
		for _, t := range f.targets {
			used[hardware.TargetHealth{Listener: f.address, Protocol: f.protocol, Target: t}] = true
		}
	}
	var result []hardware.TargetHealth
	for _, b := range h.balancers {
		for _, l := range b.Listeners {
			for _, t := range l.Targets {
				health := hardware.TargetHealth{Listener: l.Address, Protocol: l.Protocol, Target: t}
				p := probeOf(l, t)
				health.Healthy, health.Balancer = used[health] && h.checker.healthy(p), b.Name
				health.Failed = h.checker.failed(p)
				result = append(result, health)
			}
		}
	}
	return result
}

// close ends the checks and removes everything from the kernel.
func (h *forwarder) close() {
	h.checker.watch(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(h.rules.clear(), removeAddresses(nil)); err != nil {
		fmt.Fprintln(os.Stderr, "cloud: cleaning up:", err)
	}
}

// forward is one listener as the kernel needs it.
type forward struct {
	protocol string
	address  netip.AddrPort
	// targets that are healthy, sorted; where all failed, all of them; with none, nothing is forwarded, and clients are
	// refused.
	targets []netip.AddrPort
	// restricted: only sources may connect.
	restricted bool
	sources    []netip.Prefix // of the address's family
	// sticky: the client's address chooses the target.
	sticky bool
}

func (f forward) equal(g forward) bool {
	return f.protocol == g.protocol && f.address == g.address && slices.Equal(f.targets, g.targets) &&
		f.restricted == g.restricted && slices.Equal(f.sources, g.sources) && f.sticky == g.sticky
}

// forwards turns balancers into what the kernel needs, by the health of the moment. Sorted.
func forwards(balancers []hardware.Balancer, checker *checker) []forward {
	var result []forward
	for _, b := range balancers {
		for _, l := range b.Listeners {
			f := forward{protocol: l.Protocol, address: l.Address, restricted: len(l.SourceRanges) > 0, sticky: l.Affinity > 0}
			failed := 0
			for _, t := range l.Targets {
				switch p := probeOf(l, t); {
				case checker.healthy(p):
					f.targets = append(f.targets, t)
				case checker.failed(p):
					failed++
				}
			}
			if failed == len(l.Targets) {
				f.targets = slices.Clone(l.Targets)
			}
			slices.SortFunc(f.targets, netip.AddrPort.Compare)
			for _, prefix := range l.SourceRanges {
				if prefix.Addr().Is4() == l.Address.Addr().Is4() {
					f.sources = append(f.sources, prefix)
				}
			}
			result = append(result, f)
		}
	}
	slices.SortFunc(result, func(a, b forward) int {
		return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.protocol, b.protocol))
	})
	return result
}
