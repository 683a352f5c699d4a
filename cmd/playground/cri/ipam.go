package cri

import (
	"errors"
	"fmt"
	"net/netip"
)

// pool hands out the addresses of one of the node's Pod ranges. An address that was given back is the last to be handed
// out again, so that what still remembers its former Pod (connections, neighbours) has time to forget.
// It is not safe for concurrent use.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr
	used   map[netip.Addr]bool
}

func newPool(prefix netip.Prefix) *pool {
	prefix = prefix.Masked()
	// The first address is the network's, and the second is what people expect the node itself to have.
	return &pool{prefix: prefix, last: prefix.Addr().Next(), used: map[netip.Addr]bool{}}
}

// take hands out a free address, or an error if there is none.
func (p *pool) take() (netip.Addr, error) {
	first := p.prefix.Addr().Next().Next()
	addr := p.last
	// Each step either meets a used address or finds a free one, so one more step than there are used ones is enough,
	// and one to go round the end.
	for range len(p.used) + 2 {
		addr = addr.Next()
		if !p.prefix.Contains(addr) || p.isBroadcast(addr) {
			addr = first
		}
		if p.prefix.Contains(addr) && !p.isBroadcast(addr) && !p.used[addr] {
			p.used[addr], p.last = true, addr
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all %d addresses of the node's Pod range %s are in use", len(p.used), p.prefix)
}

func (p *pool) giveBack(addr netip.Addr) { delete(p.used, addr) }

func (p *pool) isBroadcast(addr netip.Addr) bool {
	return addr.Is4() && !p.prefix.Contains(addr.Next())
}

// ipam is the address plan of one node: a pool for each family, the primary one first.
type ipam struct {
	pools []*pool
}

// set takes the node's ranges as the kubelet sends them. Ranges that are known already keep what they handed out.
func (m *ipam) set(prefixes []netip.Prefix) {
	pools := make([]*pool, 0, len(prefixes))
	for _, prefix := range prefixes {
		kept := newPool(prefix)
		for _, old := range m.pools {
			if old.prefix == kept.prefix {
				kept = old
			}
		}
		pools = append(pools, kept)
	}
	m.pools = pools
}

func (m *ipam) take() ([]netip.Addr, error) {
	if len(m.pools) == 0 {
		return nil, errors.New("the kubelet has not said the node's Pod ranges yet (Node.spec.podCIDRs is empty)")
	}
	var addrs []netip.Addr
	for _, p := range m.pools {
		addr, err := p.take()
		if err != nil {
			m.giveBack(addrs)
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// giveBack frees addresses. Those of a range that is no longer the node's are nobody's to free.
func (m *ipam) giveBack(addrs []netip.Addr) {
	for _, addr := range addrs {
		for _, p := range m.pools {
			if p.prefix.Contains(addr) {
				p.giveBack(addr)
			}
		}
	}
}
