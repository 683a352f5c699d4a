package conformance

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpointCases are about which endpoints serve, before hints and policies.
var endpointCases = []Case{
	{
		Name: "conditions that are not set", Config: standard,
		Reason: "nil ready and nil serving mean true, nil terminating means false",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			unset := func(e *discoveryv1.Endpoint) { e.Conditions = discoveryv1.EndpointConditions{} }
			// Serving, by default, but not ready and not terminating, by default: no endpoint.
			waiting := func(e *discoveryv1.Endpoint) {
				e.Conditions = discoveryv1.EndpointConditions{Ready: new(false)}
			}
			leaving := func(e *discoveryv1.Endpoint) {
				e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Terminating: new(true)}
			}
			return []Step{
				{
					Name:   "none set",
					Apply:  []Object{svc, f.slice(svc, 1, f.endpoint("a", unset), f.endpoint("c", unset))},
					Probes: probes(f.clusterIP(1), Reach(Own, "a", "c"), Here, There),
				},
				{
					Name:   "ready false alone",
					Apply:  []Object{f.slice(svc, 1, f.endpoint("a", waiting))},
					Probes: probes(f.clusterIP(1), Rejected, Here),
				},
				{
					Name:   "serving not set while terminating",
					Apply:  []Object{f.slice(svc, 1, f.endpoint("a", leaving), f.endpoint("b", waiting))},
					Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here),
				},
			}
		},
	},
	{
		Name: "several addresses of an endpoint", Config: standard,
		Reason: "only the first address of an endpoint serves",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			both := f.endpoint("a")
			both.Addresses = append(both.Addresses, f.endpointAddr("b").String())
			return []Step{{
				Apply:  []Object{svc, f.slice(svc, 1, both)},
				Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here),
			}}
		},
	},
	{
		Name: "slice ports without a number", Config: standard,
		Reason: "ports of a slice that have no number are skipped",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			numberless := f.slice(svc, 2, f.ready("b")...)
			for i := range numberless.Ports {
				numberless.Ports[i].Port = nil
			}
			return []Step{{
				Apply:  append(f.served(svc, "a"), numberless),
				Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here),
			}}
		},
	},
	{
		Name: "one address in two slices", Config: standard,
		Reason: "of two endpoints with the same address and port the one that is not terminating wins",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{
				{
					Apply: []Object{
						svc,
						// A third one, or else all would be terminating, and serve as such.
						f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("b"), f.endpoint("c")),
						f.slice(svc, 2, f.endpoint("a"), f.endpoint("b", terminating)),
					},
					Probes: probes(f.clusterIP(1), Reach(Own, "a", "b", "c"), Here),
				},
				{
					Name:   "one of the two goes",
					Delete: []Object{f.slice(svc, 2)},
					Probes: probes(f.clusterIP(1), Reach(Own, "b", "c"), Here),
				},
			}
		},
	},
	{
		Name: "fallback to terminating endpoints", Config: standard,
		Reason: "without a ready endpoint those serve that are serving and terminating, and no others",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1))
			wants := func(source Source, names ...string) []Probe {
				return append(probes(f.clusterIP(1), Reach(Own, names...), Here),
					probe(Outside, f.primary(1), Reach(source, names...)))
			}
			return []Step{
				{
					Name: "none is ready",
					Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("b", terminated),
						f.endpoint("c", terminating), f.endpoint("d", unready))},
					Probes: wants(Masqueraded, "a", "c"),
				},
				{
					Name: "one is ready",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("b", terminated),
						f.endpoint("c", terminating), f.endpoint("d"))},
					Probes: wants(Masqueraded, "d"),
				},
				{
					Name:   "none is left",
					Apply:  []Object{f.slice(svc, 1, f.endpoint("a", terminated), f.endpoint("b", unready))},
					Probes: append(probes(f.clusterIP(1), Rejected, Here), probe(Outside, f.primary(1), Rejected)),
				},
			}
		},
	},
	{
		Name: "fallback of policy Local", Config: standard,
		Reason: "Cluster and Local fall back to terminating endpoints each by itself",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), externalLocal, internalLocal)
			return []Step{
				{
					Name:  "here a terminating one, elsewhere a ready one",
					Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("b", terminated), f.endpoint("c"))},
					Probes: []Probe{
						probe(Outside, f.balancer(1), Reach(Own, "a")),
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						probe(Here, f.balancer(1), Reach(Own, "c")),
					},
				},
				{
					Name:  "here a ready one, elsewhere a terminating one",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("b"), f.endpoint("c", terminating))},
					Probes: []Probe{
						probe(Outside, f.balancer(1), Reach(Own, "b")),
						probe(Here, f.clusterIP(1), Reach(Own, "b")),
						probe(Here, f.balancer(1), Reach(Own, "b")),
					},
				},
				{
					Name:  "terminating ones everywhere",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", terminating), f.endpoint("c", terminating))},
					Probes: []Probe{
						probe(Outside, f.balancer(1), Reach(Own, "a")),
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						probe(Here, f.balancer(1), Reach(Own, "a", "c")),
					},
				},
			}
		},
	},
	{
		Name: "several ports", Config: standard,
		Reason: "each port of a Service leads to the port of its name",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withSecondPort)
			fewer := f.service("web", 1)
			second := f.clusterIP(1).port("second port", secondPort)
			return []Step{
				{
					Apply: f.served(svc, "a", "c"),
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a", "c")),
						probe(Here, second, Reach(Own, "a:8443", "c:8443")),
					},
				},
				{
					Name:  "one port goes",
					Apply: []Object{fewer},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a", "c")),
						probe(Here, second, Rejected),
					},
				},
			}
		},
	},
	{
		Name: "dual stack", Config: standard,
		Reason: "a Service of both families serves each with endpoints of its own",
		Steps: func(f Family) []Step {
			svc := f.dualService("dual", 1, withNodePort(1), func(_ Family, svc *corev1.Service) {
				for _, g := range Families {
					withExternalIP(1)(g, svc)
				}
			})
			names := pick(f, []string{"a", "b", "c"}, []string{"a", "d"})
			nodePort := target("node port", f.nodeAddr(), Families[0].nodePort(1))
			return []Step{
				{
					Apply: []Object{svc, f.slice(svc, 1, f.ready(names...)...)},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, names...)),
						probe(Outside, nodePort, Reach(Masqueraded, names...)),
						probe(Outside, f.externalIP(1), Reach(Masqueraded, names...)),
					},
				},
				{
					Name:  "no endpoint of one family",
					Apply: []Object{f.slice(svc, 1, f.ready(pick(f, []string{"b"}, nil)...)...)},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), pick(f, Reach(Own, "b"), Rejected)),
						probe(Outside, nodePort, pick(f, Reach(Masqueraded, "b"), Rejected)),
					},
				},
			}
		},
	},
	{
		Name: "a Service comes, changes and goes", Config: standard,
		Reason: "what is served follows the objects",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withExternalIP(1))
			smaller := f.service("web", 1)
			return []Step{
				{
					Name:  "the slice before the Service",
					Apply: []Object{f.slice(svc, 1, f.ready("a")...)},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Dropped),
						closed(Outside, f.primary(1)),
						probe(Outside, f.externalIP(1), Beyond),
					},
				},
				{
					Name:  "the Service",
					Apply: []Object{svc},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						probe(Outside, f.primary(1), Reach(Masqueraded, "a")),
						probe(Outside, f.externalIP(1), Reach(Masqueraded, "a")),
					},
				},
				{
					Name:  "it becomes one of type ClusterIP",
					Apply: []Object{smaller},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						closed(Outside, f.primary(1)),
						probe(Outside, f.externalIP(1), Beyond),
					},
				},
				{
					Name:   "it goes, its slice stays",
					Delete: []Object{smaller},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Dropped),
						probe(Node, f.clusterIP(1), Dropped),
					},
				},
			}
		},
	},
}
