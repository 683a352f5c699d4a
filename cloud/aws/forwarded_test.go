package aws

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// found is hardware that found something out.
type found []hardware.TargetHealth

func (*found) Program(context.Context, []hardware.Balancer) error { return nil }
func (f *found) Health() []hardware.TargetHealth                  { return *f }

// twoZones is a network with two subnets and a machine in each zone.
func twoZones() awstest.Options {
	options := awstest.Options{VPC: "vpc-0a1b2c3d", Public: netip.MustParsePrefix("192.0.2.0/24"), Inside: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")}, Pace: 10}
	for i, zone := range []string{"a", "b"} {
		for j, role := range []string{"elb", "internal-elb"} {
			options.Subnets = append(options.Subnets, awstest.Subnet{ID: fmt.Sprintf("subnet-%d%d", i, j), Zone: zone, CIDR: fmt.Sprintf("172.30.%d.0/24", 10*i+j),
				CIDR6: fmt.Sprintf("fd00:%d:%d::/64", i, j), Tags: map[string]string{"kubernetes.io/role/" + role: "1"}})
		}
		options.Machines = append(options.Machines, awstest.Machine{ID: fmt.Sprintf("i-%017d", i+1), Subnet: fmt.Sprintf("subnet-%d1", i),
			Address: netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i+1))})
	}
	return options
}

// TestForwarded: what the emulator has its hardware do follows zones, the scheme, groups of clients and what listeners say; and
// its hardware says how targets are.
func TestForwarded(t *testing.T) {
	options := twoZones()
	external := map[string]string{"scheme": "internet-facing"}
	cases := map[string]struct {
		annotations map[string]string
		ranges      []string
		want        []string // protocol, address, where clients are, targets
	}{
		"zones": {external, nil, []string{"TCP 192.0.2.4:80 [] [10.0.0.1:30080]", "TCP 192.0.2.5:80 [] [10.0.0.2:30080]",
			"UDP 192.0.2.4:53 [] [10.0.0.1:30053]", "UDP 192.0.2.5:53 [] [10.0.0.2:30053]"}},
		"all zones": {map[string]string{"scheme": "internet-facing", "cross-zone-load-balancing-enabled": "true"}, nil,
			[]string{"TCP 192.0.2.4:80 [] [10.0.0.1:30080 10.0.0.2:30080]", "TCP 192.0.2.5:80 [] [10.0.0.1:30080 10.0.0.2:30080]",
				"UDP 192.0.2.4:53 [] [10.0.0.1:30053 10.0.0.2:30053]", "UDP 192.0.2.5:53 [] [10.0.0.1:30053 10.0.0.2:30053]"}},
		"all zones of one port": {map[string]string{"scheme": "internet-facing", "subnets": "subnet-00", "target-group-attributes.80": "load_balancing.cross_zone.enabled=true"}, nil,
			[]string{"TCP 192.0.2.4:80 [] [10.0.0.1:30080 10.0.0.2:30080]", "UDP 192.0.2.4:53 [] [10.0.0.1:30053]"}},
		"internal": {map[string]string{"subnets": "subnet-01"}, nil, []string{"TCP 172.30.1.4:80 [172.30.0.0/16] [10.0.0.1:30080]", "UDP 172.30.1.4:53 [172.30.0.0/16] [10.0.0.1:30053]"}},
		"clients": {map[string]string{"scheme": "internet-facing", "subnets": "subnet-00"}, []string{"203.0.113.0/24"},
			[]string{"TCP 192.0.2.4:80 [203.0.113.0/24] [10.0.0.1:30080]", "UDP 192.0.2.4:53 [203.0.113.0/24] [10.0.0.1:30053]"}},
		"clients inside": {map[string]string{"subnets": "subnet-01"}, []string{"172.30.4.0/24", "203.0.113.0/24"},
			[]string{"TCP 172.30.1.4:80 [172.30.4.0/24] [10.0.0.1:30080]", "UDP 172.30.1.4:53 [172.30.4.0/24] [10.0.0.1:30053]"}},
		"a prefix list": {map[string]string{"scheme": "internet-facing", "subnets": "subnet-00", "security-group-prefix-lists": "pl-01"}, nil,
			[]string{"TCP 192.0.2.4:80 [255.255.255.255/32] [10.0.0.1:30080]", "UDP 192.0.2.4:53 [255.255.255.255/32] [10.0.0.1:30053]"}},
		"what cannot be forwarded": {map[string]string{"scheme": "internet-facing", "subnets": "subnet-00", "ssl-cert": testCertificate, "proxy-protocol-per-target-group": "53"}, nil, nil},
		"given": {map[string]string{"scheme": "internet-facing", "subnets": "subnet-00", "eip-allocations": "eipalloc-02", "disable-nlb-sg": "true"}, nil,
			[]string{"TCP 198.51.100.2:80 [] [10.0.0.1:30080]", "UDP 198.51.100.2:53 [] [10.0.0.1:30053]"}},
	}
	for name, c := range cases {
		server := awstest.New(options)
		changed := 0
		server.OnChange(func() { changed++ })
		p := testProvider(server, unlimited)
		s := spec("uid-1", 2)
		s.Annotations = map[string]string{}
		for key, value := range c.annotations {
			s.Annotations[AnnotationPrefix+key] = value
		}
		for _, text := range c.ranges {
			s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(text))
		}
		observed := settled(t, p, s.Owner, &s).Observed
		var got []string
		balancers := server.Balancers()
		for _, l := range balancers[0].Listeners {
			if l.Protocol != "TCP" || l.HealthCheck.Interval.Seconds() == 1 { // ten times as often as every ten seconds
				got = append(got, fmt.Sprint(l.Protocol, " ", l.Address, " ", l.SourceRanges, " ", l.Targets))
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: the hardware is to forward (-want +got):\n%s", name, diff)
		}
		if changed == 0 {
			t.Errorf("%s: the hardware is not told", name)
		}
		if name == "zones" {
			judged(t, server, p, observed)
		}
	}
}

// judged: one target answers, one does not, and the name leads to the zone of the first.
func judged(t *testing.T, server *awstest.Server, p *Provider, observed []cloud.Resource) {
	t.Helper()
	a, b := netip.MustParseAddrPort("192.0.2.4:80"), netip.MustParseAddrPort("192.0.2.5:80")
	server.SetHardware(&found{{Listener: a, Protocol: "TCP", Target: netip.MustParseAddrPort("10.0.0.1:30080"), Healthy: true},
		{Listener: b, Protocol: "TCP", Target: netip.MustParseAddrPort("10.0.0.2:30080"), Failed: true}})
	group := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Name() == "TargetGroup/80" })
	healths, err := p.TargetHealth(t.Context(), cloud.Owner{}, observed[group:group+1])
	if err != nil {
		t.Fatal(err)
	}
	if len(healths) != 2 || healths[0].Health != cloud.HealthHealthy || healths[1].Health != cloud.HealthUnhealthy {
		t.Errorf("targets are %+v", healths)
	}
	name := cloud.Ingresses(observed)[0].Hostname
	if got := server.Resolve(name); !slices.Equal(got, []netip.Addr{a.Addr()}) {
		t.Errorf("the name leads to %v", got)
	}
	server.SetHardware(&found{})
	if got := server.Resolve(name); !slices.Equal(got, []netip.Addr{a.Addr(), b.Addr()}) {
		t.Errorf("with no healthy target the name leads to %v", got)
	}
}

// TestForwardedFamilies: no address sends to a target of the other family, which no hardware can do, and a machine without IPv6 is no
// target there.
func TestForwardedFamilies(t *testing.T) {
	options := twoZones()
	server := awstest.New(options)
	s := spec("uid-1", 2)
	s.Families = []cloud.Family{cloud.IPv6}
	if _, err := onePass(t, testProvider(server, unlimited), s, cloud.Options{}); err == nil || !strings.Contains(err.Error(), "missing primary IPv6 addresses") {
		t.Errorf("machines with IPv4 alone: %v", err)
	}
	for i := range options.Machines {
		options.Machines[i].IPv6 = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))
	}
	server = awstest.New(options)
	settled(t, testProvider(server, unlimited), s.Owner, &s)
	var got []string
	for _, l := range server.Balancers()[0].Listeners {
		got = append(got, fmt.Sprint(l.Protocol, " ", l.Address, " ", l.Targets))
	}
	want := []string{"TCP [fd00:0:1::4]:80 [[2001:db8::1]:30080]", "TCP [fd00:1:1::4]:80 [[2001:db8::2]:30080]",
		"UDP [fd00:0:1::4]:53 [[2001:db8::1]:30053]", "UDP [fd00:1:1::4]:53 [[2001:db8::2]:30053]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hardware is to forward (-want +got):\n%s", diff)
	}
}

// TestAddressesAreHadOnce: an address that another balancer has, by choice or by chance, is refused until that is gone, and none is
// given from beyond the subnet.
func TestAddressesAreHadOnce(t *testing.T) {
	options := twoZones()
	options.Public = netip.MustParsePrefix("192.0.2.0/29") // with four that can be given
	server := awstest.New(options)
	p := testProvider(server, unlimited)
	at := func(uid string, annotations map[string]string) cloud.Spec {
		s := spec(uid, 1)
		s.Annotations = map[string]string{}
		for key, value := range annotations {
			s.Annotations[AnnotationPrefix+key] = value
		}
		return s
	}
	chosen := map[string]string{"subnets": "subnet-01", "private-ipv4-addresses": "172.30.1.9"}
	one, two := at("uid-1", chosen), at("uid-2", chosen)
	given := at("uid-3", map[string]string{"subnets": "subnet-01"}) // the first that is free
	four := at("uid-4", map[string]string{"subnets": "subnet-01", "private-ipv4-addresses": "172.30.1.4"})
	settled(t, p, one.Owner, &one)
	settled(t, p, given.Owner, &given)
	for _, s := range []cloud.Spec{two, four} {
		if _, err := onePass(t, p, s, cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Pending {
			t.Errorf("%s: an address that another has: %v", s.Owner.ServiceUID, err)
		}
	}
	settled(t, p, one.Owner, nil)
	settled(t, p, two.Owner, &two)

	for i := range 3 {
		s := at(fmt.Sprint("uid-out-", i), map[string]string{"scheme": "internet-facing"})
		if _, err := onePass(t, p, s, cloud.Options{}); (err == nil) != (i < 2) || err != nil && p.Classify(err).Class != cloud.UserError {
			t.Errorf("balancer %d of two that fit: %v", i+1, err)
		}
	}
}
