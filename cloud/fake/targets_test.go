package fake

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// listening makes a balancer with one listener on a set of addresses with ports, and returns the cloud and the set.
func listening(t *testing.T, options Options) (*Cloud, Object) {
	t.Helper()
	c := New(options)
	create := func(o Object) Object {
		t.Helper()
		made, err := c.Create(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	probe := check("c")
	probe.Fields["port"], probe.Fields["intervalSeconds"], probe.Fields["threshold"] = "0", "3", "2"
	pods := set("s", create(probe).ID)
	pods.Fields["port"] = "0"
	pods = create(pods)
	balancer := create(Object{Kind: KindBalancer, Name: "b", Refs: []string{create(address("a")).ID}})
	create(Object{Kind: KindListener, Name: "l", Refs: []string{balancer.ID, pods.ID}, Fields: map[string]string{
		"protocol": "TCP", "port": "80", "family": "IPv4", "sourceRanges": "", "affinitySeconds": "0"}})
	return c, pods
}

// TestPodTargets: a set has either one port for all or one for each, and never changes over.
func TestPodTargets(t *testing.T) {
	c, pods := listening(t, Options{})
	probe, err := c.Create(t.Context(), check("other"))
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := c.Create(t.Context(), set("nodes", probe.ID))
	if err != nil {
		t.Fatal(err)
	}
	add := func(set Object, target string) error {
		return c.SyncTargets(t.Context(), []TargetsRequest{{ID: set.ID, Add: []string{target}}})
	}
	port := func(set Object, to string) error {
		_, err := c.Update(t.Context(), Object{ID: set.ID, Kind: set.Kind, Fields: map[string]string{"port": to}})
		return err
	}
	cases := map[string]struct {
		err  error
		want Code
	}{
		"Address":          {add(nodes, "10.0.0.1"), ""},
		"AddressWithPort":  {add(pods, "10.0.0.1:8080"), ""},
		"PortTooMuch":      {add(nodes, "10.0.0.1:8080"), CodeInvalidParameter},
		"NoPort":           {add(pods, "10.0.0.1"), CodeInvalidParameter},
		"PortZero":         {add(pods, "10.0.0.1:0"), CodeInvalidParameter},
		"OtherFamily":      {add(pods, "[2001:db8::1]:8080"), CodeInvalidParameter},
		"AnotherPort":      {port(nodes, "2"), ""},
		"FromNodesToPods":  {port(nodes, "0"), CodeInvalidParameter},
		"FromPodsToNodes":  {port(pods, "80"), CodeInvalidParameter},
		"NoSuchSet":        {describe(t, c, "nothing"), CodeNotFound},
		"NoSetOfTargets":   {describe(t, c, probe.ID), CodeNotFound},
		"SetNobodyListens": {describe(t, c, nodes.ID), ""},
	}
	for name, tc := range cases {
		if got := code(tc.err); got != tc.want || (tc.err == nil) != (tc.want == "") {
			t.Errorf("%s: %v, want %q", name, tc.err, tc.want)
		}
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:8080")}
	if got := c.Balancers()[0].Listeners[0].Targets; !cmp.Equal(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
		t.Errorf("the hardware is to send to %v, want %v", got, want)
	}
}

func describe(t *testing.T, c *Cloud, id string) error {
	_, err := c.DescribeTargets(t.Context(), []string{id})
	return err
}

// asked is hardware that found something out.
type asked []hardware.TargetHealth

func (asked) Program(context.Context, []hardware.Balancer) error { return nil }
func (a asked) Health() []hardware.TargetHealth                  { return a }

// TestTargetHealth: without hardware in due time, with hardware by what that found.
func TestTargetHealth(t *testing.T) {
	clock := NewClock()
	c, pods := listening(t, Options{Now: clock.Now})
	if err := c.SyncTargets(t.Context(), []TargetsRequest{{ID: pods.ID, Add: []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}}}); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...cloud.Health) {
		t.Helper()
		states, err := c.DescribeTargets(t.Context(), []string{pods.ID})
		if err != nil {
			t.Fatal(err)
		}
		var got []cloud.Health
		for _, s := range states {
			got = append(got, s.Health)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	c.SetAnswering("10.0.0.3:80", false)
	clock.Advance(5 * time.Second)
	expect("before two checks", cloud.HealthUnknown, cloud.HealthUnknown, cloud.HealthUnhealthy)
	if err := c.SyncTargets(t.Context(), []TargetsRequest{{ID: pods.ID, Add: []string{"10.0.0.4:80"}}}); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	expect("after them", cloud.HealthHealthy, cloud.HealthHealthy, cloud.HealthUnhealthy, cloud.HealthUnknown)

	listener := netip.AddrPortFrom(netip.MustParseAddr(c.Objects()[0].Address), 80)
	found := func(target string, healthy, failed bool) hardware.TargetHealth {
		return hardware.TargetHealth{Listener: listener, Protocol: "TCP", Target: netip.MustParseAddrPort(target), Healthy: healthy, Failed: failed}
	}
	c.SetHardware(asked{found("10.0.0.1:80", true, false), found("10.0.0.2:80", false, true), found("10.0.0.3:80", false, false)})
	expect("with hardware", cloud.HealthHealthy, cloud.HealthUnhealthy, cloud.HealthUnknown, cloud.HealthUnknown)
}
