package fake

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// TargetState is what the cloud makes of one target of a target set.
type TargetState struct {
	Set    string       `json:"set"` // id
	Target string       `json:"target"`
	Health cloud.Health `json:"health"`
}

// checkTarget refuses what is no target of a set: an address of its family, or where the set has no port, an address with
// one.
func checkTarget(set *Object, target string) error {
	var address netip.Addr
	if set.Fields["port"] == "0" {
		place, err := netip.ParseAddrPort(target)
		if err != nil || place.Port() == 0 {
			return refuse(CodeInvalidParameter, "target %q is not an address with a port, which a set without one needs", target)
		}
		address = place.Addr()
	} else {
		var err error
		if address, err = netip.ParseAddr(target); err != nil {
			return refuse(CodeInvalidParameter, "target %q is not an address", target)
		}
	}
	if (set.Fields["family"] == "IPv4") != address.Is4() {
		return refuse(CodeInvalidParameter, "target %q is not an address of %s", target, set.Fields["family"])
	}
	return nil
}

// checkPort refuses to turn a set of addresses into one of addresses with ports, or back.
func checkPort(have *Object, fields map[string]string) error {
	port, ok := fields["port"]
	if ok && have.Kind == KindTargetSet && (port == "0") != (have.Fields["port"] == "0") {
		return refuse(CodeInvalidParameter, "whether a %s has a port cannot change", have.Kind)
	}
	return nil
}

// place is where a target of a set takes traffic. What it is made from was checked.
func place(set *Object, target string) netip.AddrPort {
	if set.Fields["port"] == "0" {
		return netip.MustParseAddrPort(target)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(target), uint16(number(set.Fields["port"])))
}

// SetAnswering says whether a target, an address or an address with a port, answers health checks where there is no
// hardware. At first all do.
func (c *Cloud) SetAnswering(target string, answering bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answering {
		delete(c.silent, target)
	} else {
		c.silent[target] = true
	}
}

// noteTargets remembers since when a set has its targets. With c.mu held.
func (c *Cloud) noteTargets(id string, targets []string) {
	since := make(map[string]time.Time, len(targets))
	for _, t := range targets {
		if at, ok := c.since[id][t]; ok {
			since[t] = at
		} else {
			since[t] = c.now()
		}
	}
	c.since[id] = since
}

// DescribeTargets implements API.
func (c *Cloud) DescribeTargets(_ context.Context, ids []string) ([]TargetState, error) {
	var asked []hardware.TargetHealth
	if c.hardware != nil {
		asked = c.hardware.Health()
	}
	var states []TargetState
	err := c.call("DescribeTargets", KindTargetSet, func() error {
		seen := c.seen()
		for _, id := range ids {
			set := seen[id]
			if set == nil || !schemas[set.Kind].targets {
				return refuse(CodeNotFound, "there is no set of targets with the id %q", id)
			}
			for _, t := range set.Targets {
				states = append(states, TargetState{Set: id, Target: t, Health: c.healthOf(set, t, asked)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// healthOf is the verdict on a target. Targets of a set that no listener uses are not asked. Without hardware a target
// that answers is healthy after as many checks as the threshold says. With c.mu held.
func (c *Cloud) healthOf(set *Object, target string, asked []hardware.TargetHealth) cloud.Health {
	listener := c.userOf(set.ID, func(o *Object) bool { return o.Kind == KindListener && o.State == StateReady })
	if listener == nil {
		return cloud.HealthUnknown
	}
	if c.hardware != nil {
		return verdict(asked, c.addressAndPort(listener), listener.Fields["protocol"], place(set, target))
	}
	if c.silent[target] {
		return cloud.HealthUnhealthy
	}
	var wait time.Duration
	if check := c.ofKind(set.Refs, KindHealthCheck); check != nil {
		wait = time.Duration(number(check.Fields["intervalSeconds"])*number(check.Fields["threshold"])) * time.Second
	}
	if c.now().Sub(c.since[set.ID][target]) < wait {
		return cloud.HealthUnknown
	}
	return cloud.HealthHealthy
}

// verdict is the hardware's on one target of one listener.
func verdict(asked []hardware.TargetHealth, listener netip.AddrPort, protocol string, target netip.AddrPort) cloud.Health {
	i := slices.IndexFunc(asked, func(h hardware.TargetHealth) bool {
		return h.Listener == listener && h.Protocol == protocol && h.Target == target
	})
	switch {
	case i >= 0 && asked[i].Healthy:
		return cloud.HealthHealthy
	case i >= 0 && asked[i].Failed:
		return cloud.HealthUnhealthy
	}
	return cloud.HealthUnknown
}

// addressAndPort is where clients reach a listener; the zero value where it has no address. With c.mu held.
func (c *Cloud) addressAndPort(listener *Object) netip.AddrPort {
	balancer := c.ofKind(listener.Refs, KindBalancer)
	if balancer == nil {
		return netip.AddrPort{}
	}
	address, err := netip.ParseAddr(c.addressOf(balancer, listener.Fields["family"]))
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(address, uint16(number(listener.Fields["port"])))
}

var _ cloud.HealthReader = (*Provider)(nil)

// TargetHealth implements cloud.HealthReader.
func (p *Provider) TargetHealth(ctx context.Context, _ cloud.Owner, resources []cloud.Resource) ([]cloud.TargetHealth, error) {
	ids := make([]string, len(resources))
	for i := range resources {
		ids[i] = resources[i].ID
	}
	states, err := p.api.DescribeTargets(ctx, ids)
	if err != nil {
		return nil, err
	}
	healths := make([]cloud.TargetHealth, len(states))
	for i, s := range states {
		healths[i] = cloud.TargetHealth{Resource: s.Set, Target: s.Target, Health: s.Health}
	}
	return healths, nil
}

func (c counted) DescribeTargets(ctx context.Context, ids []string) ([]TargetState, error) {
	if err := cloud.Wait(ctx, cloud.Read); err != nil {
		return nil, err
	}
	return c.API.DescribeTargets(ctx, ids)
}

// DescribeTargets implements API.
func (c *Client) DescribeTargets(ctx context.Context, ids []string) ([]TargetState, error) {
	var states []TargetState
	err := c.call(ctx, "describe-targets", ids, &states)
	return states, err
}
