package conformance

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const refused = "an API server refuses the objects"

// malformedCases are objects that an API server refuses, but may have kept since older days.
var malformedCases = []Case{
	{
		Name: "slice ports without a name, or with number 0", Config: standard, InProcess: refused,
		Reason: "ports of a slice that have no name or the number 0 are skipped",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			nameless, zero := f.slice(svc, 2, f.ready("b")...), f.slice(svc, 3, f.ready("c")...)
			for i := range nameless.Ports {
				nameless.Ports[i].Name = nil
				zero.Ports[i].Port = new(int32(0))
			}
			return []Step{{
				Apply:  append(f.served(svc, "a"), nameless, zero),
				Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here),
			}}
		},
	},
	{
		Name: "malformed objects", Config: standard, InProcess: refused,
		Reason: "what is malformed is left out, all else is served, and no other Service is harmed",
		Steps: func(f Family) []Step {
			bad := f.service("bad", 2, withNodePort(2), withBalancer(2, nil), withRanges("203.0.113.0/33", f.outsideNet().String()))
			bad.Spec.ExternalIPs = []string{"not an address", "0.0.0.0", f.loopbackAddr().String(), f.externalAddr(3).String()}
			bad.Spec.Ports = append(bad.Spec.Ports, corev1.ServicePort{Name: "zero", Port: 0}, corev1.ServicePort{Name: "odd", Port: 82, Protocol: "ICMP"})
			slice := f.slice(bad, 1, append(f.ready("a"),
				discoveryv1.Endpoint{}, discoveryv1.Endpoint{Addresses: []string{"10.0.0"}},
				discoveryv1.Endpoint{Addresses: []string{f.other().podAddr(3).String()}},
				discoveryv1.Endpoint{Addresses: []string{f.loopbackAddr().String()}})...)
			return []Step{{
				Apply: append(f.served(f.service("web", 1, withNodePort(1)), "a", "b"), bad, slice),
				Probes: []Probe{
					probe(Here, f.clusterIP(1), Reach(Own, "a", "b")), probe(Outside, f.primary(1), Reach(Masqueraded, "a", "b")),
					probe(Here, f.clusterIP(2), Reach(Own, "a")), probe(Outside, f.primary(2), Reach(Masqueraded, "a")),
					probe(Outside, f.externalIP(3), Reach(Masqueraded, "a")),
					probe(Outside, f.balancer(2), Reach(Masqueraded, "a")), probe(Here, f.balancer(2), Dropped),
				},
			}}
		},
	},
	{
		Name: "two Services on one address", Config: standard, InProcess: "which of the two kube-proxy serves is not defined",
		Reason: "what the cluster gave to a Service comes before another one's external IPs, by which anybody could claim it",
		Steps: func(f Family) []Step {
			web := f.service("web", 1, withBalancer(1, nil))
			thief := f.service("thief", 2, withExternalIP(1))
			thief.Spec.ExternalIPs = append(thief.Spec.ExternalIPs, f.clusterAddr(1).String())
			return []Step{
				{
					Name: "both", Apply: append(f.served(web, "a"), f.served(thief, "b")...),
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")), probe(Outside, f.balancer(1), Reach(Masqueraded, "a")),
						probe(Here, f.clusterIP(2), Reach(Own, "b")),
					},
				},
				{
					Name: "the owner goes", Delete: []Object{web},
					Probes: []Probe{probe(Outside, f.externalIP(1), Reach(Masqueraded, "b")), probe(Here, f.clusterIP(2), Reach(Own, "b"))},
				},
			}
		},
	},
}
