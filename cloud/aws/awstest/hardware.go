package awstest

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

var _ hardware.Cloud = (*Server)(nil)

// SetHardware implements hardware.Cloud. With hardware it is that which says how targets are; Options.Public is needed.
func (s *Server) SetHardware(h hardware.Hardware) { s.hardware = h }

// OnChange implements hardware.Cloud.
func (s *Server) OnChange(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

// NextTransition implements hardware.Cloud.
func (s *Server) NextTransition() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := time.Hour
	for _, b := range s.state.balancers {
		if wait := b.readyAt.Sub(s.now()); wait > 0 {
			next = min(next, wait)
		}
	}
	return next
}

// Balancers implements hardware.Cloud. A balancer has an address in each of its subnets, which sends to the targets of its
// zone, or to all where the attribute for cross-zone balancing says so. Listeners that the hardware cannot do are left out:
// of TLS and QUIC, with the PROXY protocol, with checks of HTTPS, and those that hide the client's address.
func (s *Server) Balancers() []hardware.Balancer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forwarded()
}

func (s *Server) forwarded() []hardware.Balancer {
	var all []hardware.Balancer
	for _, b := range sortedBy(s.state.balancers, func(b *balancer) string { return *b.LoadBalancerArn }) {
		if s.show(b).State.Code != types.LoadBalancerStateEnumActive {
			continue
		}
		one := hardware.Balancer{ID: *b.LoadBalancerArn, Name: *b.LoadBalancerName}
		for _, l := range sortedBy(s.state.listeners, func(l *types.Listener) string { return *l.ListenerArn }) {
			if *l.LoadBalancerArn == one.ID {
				one.Listeners = append(one.Listeners, s.forwardedListeners(b, l)...)
			}
		}
		slices.SortFunc(one.Listeners, func(x, y hardware.Listener) int {
			return cmp.Or(cmp.Compare(x.Protocol, y.Protocol), x.Address.Compare(y.Address))
		})
		all = append(all, one)
	}
	return all
}

// forwardedListeners are those of one listener: for each of its addresses and protocols.
func (s *Server) forwardedListeners(b *balancer, l *types.Listener) []hardware.Listener {
	g := s.state.groups[forwardsTo(l)]
	if g == nil {
		return nil
	}
	attributes := s.state.attributes[*g.TargetGroupArn]
	if l.Protocol == types.ProtocolEnumTls || isQUIC(l.Protocol) || attributes["proxy_protocol_v2.enabled"] == "true" || attributes["preserve_client_ip.enabled"] != "true" ||
		g.HealthCheckProtocol == types.ProtocolEnumHttps {
		return nil
	}
	check := hardware.HealthCheck{Protocol: string(g.HealthCheckProtocol), Path: aws.ToString(g.HealthCheckPath), Threshold: int(*g.UnhealthyThresholdCount),
		Interval: time.Duration(*g.HealthCheckIntervalSeconds) * time.Second / time.Duration(max(1, s.options.Pace))}
	if number, err := strconv.ParseUint(*g.HealthCheckPort, 10, 16); err == nil { // else it is the target's
		check.Port = uint16(number)
	}
	four := g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv4
	var all []hardware.Listener
	for _, zone := range b.AvailabilityZones {
		for _, address := range b.addresses[*zone.SubnetId] {
			if address.Is4() != four {
				continue
			}
			for protocol := range strings.SplitSeq(string(l.Protocol), "_") {
				one := hardware.Listener{ID: *l.ListenerArn, Protocol: protocol, Address: netip.AddrPortFrom(address, uint16(*l.Port)), HealthCheck: check,
					SourceRanges: s.sources(b, four, strings.ToLower(protocol), *l.Port), Targets: s.places(b, g, *zone.ZoneName, four)}
				if attributes["stickiness.enabled"] == "true" {
					one.Affinity = time.Hour // nobody is told for how long
				}
				all = append(all, one)
			}
		}
	}
	return all
}

// places are where the targets of a group are that the addresses of a zone send to.
func (s *Server) places(b *balancer, g *targetGroup, zone string, four bool) []netip.AddrPort {
	cross := s.state.attributes[*g.TargetGroupArn]["load_balancing.cross_zone.enabled"]
	if cross == "use_load_balancer_configuration" {
		cross = s.state.attributes[*b.LoadBalancerArn]["load_balancing.cross_zone.enabled"]
	}
	var all []netip.AddrPort
	for _, t := range g.targets {
		at, in := s.whereIs(t, four)
		if t.until.IsZero() && at.IsValid() && at.Addr().Is4() == four && (in == "" || in == zone || cross == "true") {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}

// whereIs is where a target of a group of one family is, and in which zone; an empty one: in no subnet, and so the same to all.
func (s *Server) whereIs(t target, four bool) (at netip.AddrPort, zone string) {
	port := uint16(t.port)
	if address, err := netip.ParseAddr(t.id); err == nil {
		return netip.AddrPortFrom(address, port), s.zoneOf(t)
	}
	i := slices.IndexFunc(s.options.Machines, func(m Machine) bool { return m.ID == t.id })
	if i < 0 {
		return netip.AddrPort{}, ""
	}
	m := s.options.Machines[i]
	address := m.Address
	if !four {
		address = m.IPv6
	}
	if !address.IsValid() {
		return netip.AddrPort{}, ""
	}
	return netip.AddrPortFrom(address, port), s.zoneOf(t)
}

// zoneOf is that of a target; empty: it is in no subnet, or not known.
func (s *Server) zoneOf(t target) string {
	if address, err := netip.ParseAddr(t.id); err == nil {
		return s.zoneAt(address)
	}
	for _, m := range s.options.Machines {
		if m.ID == t.id {
			subnet, _ := s.subnet(m.Subnet)
			return subnet.Zone
		}
	}
	return ""
}

// nobody is a source that there is not.
var nobody = netip.MustParsePrefix("255.255.255.255/32")

// sources are the ranges that a balancer's security groups let in to an address of one family, of an internal one those of
// them that are inside; none is everyone. Prefix lists and groups are not resolved: what they let in is left out.
func (s *Server) sources(b *balancer, four bool, protocol string, port int32) []netip.Prefix {
	allowed := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	if len(b.SecurityGroups) > 0 {
		allowed = nil
	}
	for _, id := range b.SecurityGroups {
		for r := range s.state.security[id].rules {
			prefix, err := netip.ParsePrefix(r.source)
			if err == nil && (r.protocol == "-1" || r.protocol == protocol && r.from <= port && port <= r.to) {
				allowed = append(allowed, prefix)
			}
		}
	}
	if b.Scheme == types.LoadBalancerSchemeEnumInternal {
		allowed = common(allowed, s.options.Inside)
	} else if slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() == four }) {
		return nil
	}
	if len(allowed) == 0 {
		return []netip.Prefix{nobody}
	}
	slices.SortFunc(allowed, netip.Prefix.Compare)
	return slices.Compact(allowed)
}

// common are the ranges that are in both.
func common(a, b []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) {
				if y.Bits() > x.Bits() {
					x, y = y, x
				}
				all = append(all, x)
			}
		}
	}
	return all
}

// reserved is how many addresses of each subnet AWS keeps.
const reserved = 4

// allot gives a balancer its addresses in a subnet: those that are asked for, else those that it had, else the first that are
// free. Without hardware there are none.
func (s *Server) allot(b *balancer, subnet Subnet, zone types.AvailabilityZone, had []netip.Addr) ([]netip.Addr, error) {
	if !s.options.Public.IsValid() {
		return nil, nil
	}
	texts := []string{subnet.CIDR}
	if b.Scheme == types.LoadBalancerSchemeEnumInternetFacing {
		texts[0] = s.options.Public.String()
	}
	if b.IpAddressType != types.IpAddressTypeIpv4 {
		texts = append(texts, subnet.CIDR6)
	}
	asked := askedFor(zone)
	var all []netip.Addr
	for _, text := range texts {
		prefix := netip.MustParsePrefix(text)
		same := func(a netip.Addr) bool { return a.Is4() == prefix.Addr().Is4() }
		if i := slices.IndexFunc(asked, same); i >= 0 {
			all = append(all, asked[i])
		} else if i := slices.IndexFunc(had, same); i >= 0 {
			all = append(all, had[i])
		} else {
			free := s.free(prefix, b)
			if !prefix.Contains(free) {
				return nil, refuse("InvalidSubnet", "Not enough IP space available in subnet '%s'", subnet.ID)
			}
			all = append(all, free)
		}
	}
	return all, nil
}

// askedFor are the addresses that a balancer's maker chose for a zone.
func askedFor(zone types.AvailabilityZone) (asked []netip.Addr) {
	for _, a := range zone.LoadBalancerAddresses {
		for _, text := range []*string{a.IpAddress, a.PrivateIPv4Address, a.IPv6Address} {
			if address, err := netip.ParseAddr(aws.ToString(text)); err == nil {
				asked = append(asked, address)
			}
		}
	}
	return asked
}

// free is the first address of a prefix that nobody has, or one behind the prefix.
func (s *Server) free(prefix netip.Prefix, b *balancer) netip.Addr {
	taken := s.taken(func(*balancer) bool { return true })
	for _, list := range b.addresses {
		for _, a := range list {
			taken[a] = true
		}
	}
	for _, text := range s.options.Elastic {
		taken[netip.MustParseAddr(text)] = true
	}
	address := prefix.Addr()
	for range reserved {
		address = address.Next()
	}
	for taken[address] {
		address = address.Next()
	}
	return address
}

// taken are the addresses of balancers, whether they were chosen or given.
func (s *Server) taken(of func(*balancer) bool) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, b := range s.state.balancers {
		if !of(b) {
			continue
		}
		for _, list := range b.addresses {
			for _, a := range list {
				taken[a] = true
			}
		}
		for _, zone := range b.AvailabilityZones {
			for _, a := range askedFor(zone) {
				taken[a] = true
			}
		}
	}
	return taken
}

// verdicts are what the hardware found out of a group's targets. With s.mu held.
func (s *Server) verdicts(arn string) map[netip.AddrPort]types.TargetHealthStateEnum {
	states := map[netip.AddrPort]types.TargetHealthStateEnum{}
	mine := map[netip.AddrPort]bool{}
	for _, b := range s.forwarded() {
		for _, l := range b.Listeners {
			mine[l.Address] = mine[l.Address] || forwardsTo(s.state.listeners[l.ID]) == arn
		}
	}
	for _, h := range s.hardware.Health() {
		switch {
		case !mine[h.Listener]:
		case h.Healthy:
			states[h.Target] = types.TargetHealthStateEnumHealthy
		case h.Failed && states[h.Target] == "":
			states[h.Target] = types.TargetHealthStateEnumUnhealthy
		}
	}
	return states
}

// Resolve returns the addresses of a balancer's name: those that have a healthy target, or all where none has.
func (s *Server) Resolve(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all, serving []netip.Addr
	for _, b := range s.state.balancers {
		if *b.DNSName != name {
			continue
		}
		for _, list := range b.addresses {
			all = append(all, list...)
		}
	}
	if s.hardware != nil {
		for _, h := range s.hardware.Health() {
			if h.Healthy && slices.Contains(all, h.Listener.Addr()) {
				serving = append(serving, h.Listener.Addr())
			}
		}
	}
	if len(serving) == 0 {
		serving = all
	}
	slices.SortFunc(serving, netip.Addr.Compare)
	return slices.Compact(serving)
}
