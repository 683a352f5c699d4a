package conformance

import (
	corev1 "k8s.io/api/core/v1"
)

func outside(f Family) string { return f.outsideNet().String() }

// balancerCases are about load balancers' addresses, their source ranges, and external IPs.
var balancerCases = []Case{
	{
		Name: "ipMode", Config: standard,
		Reason: "a load balancer's address of ipMode nil or VIP is served, of Proxy it is not",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), withBalancer(2, new(corev1.LoadBalancerIPModeVIP)),
				withBalancer(3, new(corev1.LoadBalancerIPModeProxy)))
			return []Step{{
				Apply: f.served(svc, "a"),
				Probes: append(append(probes(f.balancer(1), Reach(Masqueraded, "a"), Here, Node, Outside),
					probes(f.balancer(2), Reach(Masqueraded, "a"), Here, Node, Outside)...),
					probes(f.balancer(3), Beyond, Here, Node, Outside)...),
			}}
		},
	},
	{
		Name: "source ranges", Config: standard,
		Reason: "source ranges guard load balancer addresses only, not node ports, external IPs or cluster IPs",
		Steps: func(f Family) []Step {
			with := func(ranges ...string) *corev1.Service {
				return f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2), withRanges(ranges...))
			}
			open := func() []Probe {
				return append(append(probes(f.primary(1), Reach(Masqueraded, "a"), Here, Outside),
					probes(f.externalIP(2), Reach(Masqueraded, "a"), Here, Outside)...),
					probe(Here, f.clusterIP(1), Reach(Own, "a")))
			}
			return []Step{
				{
					Name: "with the outside client", Apply: f.served(with(outside(f)), "a"),
					Probes: append(open(), append(probes(f.balancer(1), Reach(Masqueraded, "a"), Outside),
						probes(f.balancer(1), Dropped, Here, There, Stranger, Node)...)...),
				},
				{
					Name: "with nobody here", Apply: []Object{with(f.nowhere().String())},
					Probes: append(open(), probes(f.balancer(1), Dropped, Here, Stranger, Node, Outside)...),
				},
				{
					Name: "none any more", Apply: []Object{with()},
					Probes: append(open(), probes(f.balancer(1), Reach(Masqueraded, "a"), Here, Stranger, Node, Outside)...),
				},
			}
		},
	},
	{
		Name: "source ranges of several Services", Config: standard,
		Reason: "source ranges guard the addresses of their own Service",
		Steps: func(f Family) []Step {
			return []Step{{
				Apply: append(f.served(f.service("web", 1, withBalancer(1, nil), withRanges(outside(f), f.nowhere().String())), "a"),
					f.served(f.service("more", 2, withBalancer(2, nil), withRanges(f.clusterCIDR().String())), "a")...),
				Probes: []Probe{
					probe(Outside, f.balancer(1), Reach(Masqueraded, "a")), probe(Here, f.balancer(1), Dropped),
					probe(Outside, f.balancer(2), Dropped), probe(Here, f.balancer(2), Reach(Masqueraded, "a")),
				},
			}}
		},
	},
	{
		Name: "source ranges and policy Local", Config: standard,
		Reason: "source ranges guard the addresses of a Local Service",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), externalLocal, withRanges(outside(f)))
			return []Step{{
				Apply: f.served(svc, "a", "c"),
				Probes: append(probes(f.balancer(1), Dropped, Here, Stranger, Node),
					probe(Outside, f.balancer(1), Reach(Own, "a"))),
			}}
		},
	},
	{
		Name: "source range of everything", Config: standard,
		Reason: "a zero CIDR means open",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), withRanges(f.nowhere().String(), f.everything().String()))
			return []Step{{Apply: f.served(svc, "a"), Probes: probes(f.balancer(1), Reach(Masqueraded, "a"), Here, Node, Outside)}}
		},
	},
	{
		Name: "source ranges with blanks", Config: standard,
		Reason: "blanks around source ranges are trimmed",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), withRanges("  "+outside(f)+" "))
			return []Step{{
				Apply:  f.served(svc, "a"),
				Probes: []Probe{probe(Outside, f.balancer(1), Reach(Masqueraded, "a")), probe(Here, f.balancer(1), Dropped)},
			}}
		},
	},
	{
		Name: "source ranges with the node", Config: standard,
		Reason: "a node inside the range may reach the address, even where it has the address itself",
		Steps: func(f Family) []Step {
			with := func(ranges string) *corev1.Service {
				return f.service("web", 1, withBalancer(1, nil), withBalancer(localExternal, nil), withRanges(ranges))
			}
			node := f.prefix("172.30.0.0/24", "fd00:172:30::/64").String()
			return []Step{
				{
					Name: "inside", Apply: f.served(with(node), "a"),
					Probes: append(probes(f.balancer(1), Reach(Masqueraded, "a"), Node),
						probe(Node, f.balancer(localExternal), Reach(Masqueraded, "a")), probe(Outside, f.balancer(localExternal), Dropped)),
				},
				{
					Name: "outside", Apply: []Object{with(outside(f))},
					Probes: append(probes(f.balancer(1), Dropped, Node),
						probe(Node, f.balancer(localExternal), Dropped), probe(Outside, f.balancer(localExternal), Reach(Masqueraded, "a"))),
				},
			}
		},
	},
	{
		Name: "source ranges of the other family", Config: standard,
		Reason: "ranges of one family alone close the addresses of the other",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), withNodePort(1), withRanges(outside(f.other())))
			return []Step{{
				Apply: f.served(svc, "a"),
				Probes: append(probes(f.balancer(1), Dropped, Here, Node, Outside),
					probe(Outside, f.primary(1), Reach(Masqueraded, "a"))),
			}}
		},
	},
	{
		Name: "zero CIDR of the other family", Config: standard,
		Reason: "a zero CIDR means open, whatever its family, where the other has no ranges",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), withRanges(f.other().everything().String()))
			return []Step{{Apply: f.served(svc, "a"), Probes: probes(f.balancer(1), Reach(Masqueraded, "a"), Here, Outside)}}
		},
	},
	{
		Name: "external IPs", Config: standard,
		Reason: "external IPs are served, those of the other family are not",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withExternalIP(1))
			svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, f.externalAddr(2).String(), f.other().externalAddr(3).String())
			return []Step{{
				Apply: f.served(svc, "a", "c"),
				Probes: append(append(probes(f.externalIP(1), Reach(Masqueraded, "a", "c"), Here, Outside),
					probes(f.externalIP(2), Reach(Masqueraded, "a", "c"), Here, Outside)...),
					probe(Outside, f.externalIP(3), Beyond), closed(Outside, f.externalIP(1).port("another port of an external IP", servicePort+1))),
			}}
		},
	},
	{
		Name: "external IPs switched off", Config: Config{Detection: ClusterCIDR, IgnoreExternalIPs: true},
		Reason:   "external IPs are behind a switch",
		OursOnly: "kube-proxy has no such switch",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withExternalIP(1), withBalancer(2, nil))
			return []Step{{
				Apply:  f.served(svc, "a"),
				Probes: []Probe{probe(Outside, f.externalIP(1), Beyond), probe(Outside, f.balancer(2), Reach(Masqueraded, "a"))},
			}}
		},
	},
}
