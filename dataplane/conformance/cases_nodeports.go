package conformance

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// nodePortCases are about the addresses on which node ports are served, and about health checks.
func nodePortCases() []Case {
	// on is a case of one configuration: what clients get at the primary address, at another and at the gateway of Pods.
	on := func(name, reason string, addresses []string, served func(f Family) (primary, uplink, gateway bool)) Case {
		config := Config{Detection: ClusterCIDR, NodePortAddresses: addresses}
		return Case{Name: name, Reason: reason, Config: config, Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1))
			primary, uplink, gateway := served(f)
			port := f.nodePort(1)
			var all []Probe
			ask := func(to Target, served bool, from ...Client) {
				for _, c := range from {
					if served {
						all = append(all, probe(c, to, Reach(Masqueraded, "a", "b")))
					} else {
						all = append(all, closed(c, to))
					}
				}
			}
			ask(f.primary(1), primary, Here, There, Node, Outside)
			ask(target("node port on another address", f.uplinkAddr(), port), uplink, Here, Node, Outside)
			ask(target("node port on the Pods' gateway", f.podAddr(1), port), gateway, Here, Outside)
			ask(target("node port on loopback", f.loopbackAddr(), port), false, Node)
			ask(target("a node port's number beyond the node", f.externalAddr(5), port), false, Here, Outside)
			return []Step{{Apply: f.served(svc, "a", "b"), Probes: all}}
		}}
	}
	always := func(primary, uplink, gateway bool) func(Family) (bool, bool, bool) {
		return func(Family) (bool, bool, bool) { return primary, uplink, gateway }
	}
	uplink4, uplink6 := Families[0].uplinkNet().String(), Families[1].uplinkNet().String()
	return []Case{
		on("node port addresses by default", "node ports are served on the node's primary addresses", nil, always(true, false, false)),
		on("node port addresses primary", "the same by its name", []string{"primary"}, always(true, false, false)),
		on("node port addresses of CIDRs", "node ports are served on the addresses in the CIDRs, loopback never",
			[]string{uplink4, uplink6, "127.0.0.0/8"}, always(false, true, false)),
		on("node port addresses of everything", "zero CIDRs mean all addresses, loopback never",
			[]string{"0.0.0.0/0", "::/0"}, always(true, true, true)),
		on("node port addresses of one family", "a family without a CIDR means all of that family",
			[]string{uplink4}, func(f Family) (bool, bool, bool) { return f == 6, true, f == 6 }),
		on("node port addresses all", "all means all addresses, loopback never", []string{"all"}, always(true, true, true)),
		on("node port addresses localhost", "loopback is excluded: localhost alone is no address",
			[]string{"localhost"}, always(false, false, false)),
		{
			Name: "node ports of policy Local and Cluster", Config: standard,
			Reason: "several Services have node ports, each as it is",
			Steps: func(f Family) []Step {
				return []Step{{
					Apply: append(f.served(f.service("web", 1, withNodePort(1)), "a", "c"),
						f.served(f.service("local", 2, withNodePort(2), externalLocal), "a", "c")...),
					Probes: []Probe{
						probe(Outside, f.primary(1), Reach(Masqueraded, "a", "c")),
						probe(Outside, f.primary(2), Reach(Own, "a")),
						closed(Outside, f.primary(3)),
					},
				}}
			},
		},
		{
			Name: "the node gets another address", Config: standard,
			Reason: "the node's addresses act at once",
			Steps: func(f Family) []Step {
				svc := f.service("web", 1, withNodePort(1))
				other := target("node port on another address", f.uplinkAddr(), f.nodePort(1))
				return []Step{
					{
						Apply:  f.served(svc, "a"),
						Probes: []Probe{probe(Outside, f.primary(1), Reach(Masqueraded, "a")), closed(Outside, other)},
					},
					{
						Name: "another primary address", Eventually: true,
						Node:   func(n *corev1.Node) { setAddresses(n, func(f Family) netip.Addr { return f.uplinkAddr() }) },
						Probes: []Probe{closed(Outside, f.primary(1)), probe(Outside, other, Reach(Masqueraded, "a"))},
					},
				}
			},
		},
		{
			Name: "healthCheckNodePort", Config: standard,
			Reason:   "200 with local ready endpoints, whose distinct addresses are counted, else 503; terminating ones fail it",
			Programs: "the program answers, not the rules",
			Steps: func(f Family) []Step {
				svc := f.service("web", 1, withSecondPort, withBalancer(1, nil), externalLocal)
				check := func(status, local int) []Probe {
					return []Probe{{From: Outside, To: f.health(1), Health: true, Want: health(status, local, true)}}
				}
				return []Step{
					{Name: "two here", Eventually: true, Apply: f.served(svc, "a", "b", "c"), Probes: check(200, 2)},
					{Name: "one here", Eventually: true, Apply: f.served(svc, "a", "c"), Probes: check(200, 1)},
					{
						Name: "a terminating one here", Eventually: true,
						Apply: []Object{f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("c"))}, Probes: check(503, 0),
					},
					{Name: "none here", Eventually: true, Apply: f.served(svc, "c"), Probes: check(503, 0)},
					{
						Name: "the Service goes", Eventually: true, Delete: []Object{svc},
						Probes: []Probe{{From: Outside, To: f.health(1), Health: true, Want: Rejected}},
					},
				}
			},
		},
	}
}
