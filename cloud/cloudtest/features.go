package cloudtest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// feature is something that a provider may declare.
type feature struct {
	name     string
	declared func(cloud.Capabilities) bool
	// edit makes a Spec with a TCP port and one family ask for it.
	edit func(h *Harness, spec *cloud.Spec)
	// check says what is wrong with where clients connect to; nil where there is nothing to see.
	check func(h *Harness, ingresses []cloud.Ingress) string
}

func protocol(name string) feature {
	return feature{
		name:     name,
		declared: func(c cloud.Capabilities) bool { return slices.Contains(c.Protocols, name) },
		edit:     func(_ *Harness, spec *cloud.Spec) { spec.Ports = []cloud.Port{port(name, 5000, 30500)} },
	}
}

func family(f cloud.Family) feature {
	return feature{
		name:     string(f),
		declared: func(c cloud.Capabilities) bool { return slices.Contains(c.Families, f) },
		edit: func(_ *Harness, spec *cloud.Spec) {
			spec.Families, spec.Ports = []cloud.Family{f}, []cloud.Port{port("TCP", 5000, 30500)}
		},
	}
}

var features = []feature{
	protocol("TCP"), protocol("UDP"), protocol("SCTP"), family(cloud.IPv4), family(cloud.IPv6),
	{
		name:     "MixedProtocols",
		declared: func(c cloud.Capabilities) bool { return c.MixedProtocols },
		edit: func(h *Harness, spec *cloud.Spec) {
			for i, protocol := range h.New().Capabilities().Protocols {
				spec.Ports = append(spec.Ports, port(protocol, int32(5000+i), int32(30500+i)))
			}
		},
	},
	{
		name:     "DualStack",
		declared: func(c cloud.Capabilities) bool { return c.DualStack },
		edit: func(h *Harness, spec *cloud.Spec) {
			spec.Families = slices.Clone(h.New().Capabilities().Families)
			slices.Reverse(spec.Families)
		},
	},
	{
		name:     "LocalHealthChecks",
		declared: func(c cloud.Capabilities) bool { return c.LocalHealthChecks },
		edit: func(h *Harness, spec *cloud.Spec) {
			spec.Ports = []cloud.Port{port(h.New().Capabilities().Protocols[0], 5000, 30500)}
			localOnly(spec)
		},
	},
	{
		name:     "SourceRanges",
		declared: func(c cloud.Capabilities) bool { return c.SourceRanges },
		edit: func(_ *Harness, spec *cloud.Spec) {
			spec.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
		},
	},
	{
		name:     "SessionAffinity",
		declared: func(c cloud.Capabilities) bool { return c.SessionAffinity },
		edit:     func(_ *Harness, spec *cloud.Spec) { spec.AffinitySeconds = 600 },
	},
	{
		name:     "RequestedAddress",
		declared: func(c cloud.Capabilities) bool { return c.RequestedAddress },
		edit:     func(h *Harness, spec *cloud.Spec) { spec.RequestedAddress = h.Address },
		check: func(h *Harness, ingresses []cloud.Ingress) string {
			if h.Address == "" {
				return "set Harness.Address to one that can be requested"
			}
			if !slices.ContainsFunc(ingresses, func(in cloud.Ingress) bool { return in.IP == h.Address }) {
				return "the address is not the one that was requested"
			}
			return ""
		},
	},
	{
		name:     "Share",
		declared: func(c cloud.Capabilities) bool { return c.Share },
		edit:     func(_ *Harness, spec *cloud.Spec) { spec.Owner.Group = "web" },
	},
}

// testFeature asks for a feature: the provider must want something else than without it, get it, and have nothing more
// to do then.
func testFeature(t *testing.T, h *Harness, f feature) {
	p := h.restart()
	without := Spec(p.Capabilities(), 2)
	without.Families = without.Families[:1]
	without.Ports = without.Ports[:0:0]
	if f.name != "MixedProtocols" {
		without.Ports = append(without.Ports, port(p.Capabilities().Protocols[0], 4999, 30499))
	}
	with := without
	f.edit(h, &with)
	without, with = h.adapt(without), h.adapt(with)
	plain, err := p.Desired(without)
	if err != nil {
		t.Fatal(err)
	}
	desired, err := p.Desired(with)
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(plain, desired) {
		t.Errorf("the provider declares %s, and wants the same resources with it as without", f.name)
	}
	out := settle(t, p, with.Owner, &with)
	ingresses := cloud.Ingresses(out.Observed)
	if len(ingresses) == 0 {
		t.Error("there is nothing that a client could connect to")
	}
	if p.Capabilities().Passthrough && slices.ContainsFunc(ingresses, func(in cloud.Ingress) bool { return in.IP == "" || in.IPMode == "Proxy" }) {
		t.Errorf("the provider declares Passthrough, and nodes would not serve what clients connect to, nor keep anybody out: %+v", ingresses)
	}
	if f.check != nil {
		if wrong := f.check(h, ingresses); wrong != "" {
			t.Errorf("%s: %+v", wrong, ingresses)
		}
	}
	again, err := pass(h.restart(), with.Owner, &with)
	if err != nil || len(again.Done) > 0 {
		t.Errorf("a pass without a change did %+v (%v)", again.Done, err)
	}
}
