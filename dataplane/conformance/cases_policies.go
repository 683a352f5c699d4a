package conformance

// policyCases are about traffic policies, and about addresses that nobody serves.
var policyCases = []Case{
	{
		Name: "internalTrafficPolicy Local", Config: standard,
		Reason: "local endpoints only; none local but some elsewhere: drop; none anywhere: reject",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, internalLocal)
			clients := []Client{Here, Outside, Node}
			return []Step{
				{
					Name:  "local and others",
					Apply: f.served(svc, "a", "b", "c"),
					Probes: append(probes(f.clusterIP(1), Reach(Own, "a", "b"), Here, There),
						probes(f.clusterIP(1), Reach(Masqueraded, "a", "b"), Outside, Node)...),
				},
				{Name: "elsewhere only", Apply: f.served(svc, "c"), Probes: probes(f.clusterIP(1), Dropped, clients...)},
				{Name: "nowhere", Apply: f.served(svc), Probes: probes(f.clusterIP(1), Rejected, clients...)},
			}
		},
	},
	{
		Name: "externalTrafficPolicy Local", Config: standard,
		Reason: "local endpoints only, which see the client; none local but some elsewhere: drop; none anywhere: reject",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2), externalLocal)
			all := func(want Outcome) []Probe {
				var all []Probe
				for _, to := range []Target{f.primary(1), f.balancer(1), f.externalIP(2)} {
					all = append(all, probes(to, want, Outside, Stranger)...)
				}
				return all
			}
			return []Step{
				{
					Name: "local and others", Apply: f.served(svc, "a", "b", "c"),
					Probes: append(all(Reach(Own, "a", "b")), probe(Here, f.clusterIP(1), Reach(Own, "a", "b", "c"))),
				},
				{
					Name: "elsewhere only", Apply: f.served(svc, "c"),
					Probes: append(all(Dropped), probe(Here, f.clusterIP(1), Reach(Own, "c"))),
				},
				{Name: "nowhere", Apply: f.served(svc), Probes: all(Rejected)},
			}
		},
	},
	{
		Name: "externalTrafficPolicy Local from inside", Config: standard,
		Reason: "Pods and the host itself reaching an external address of a Local Service use the Cluster endpoints",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2), externalLocal)
			all := func(pods, host Outcome) []Probe {
				var all []Probe
				for _, to := range []Target{f.primary(1), f.balancer(1), f.externalIP(2)} {
					all = append(all, probe(Here, to, pods), probe(There, to, pods), probe(Node, to, host))
				}
				return all
			}
			// The node's own address on the way to c is its first one.
			host := Reach(Masqueraded, "a").And(Own, "c")
			return []Step{
				{Name: "here and elsewhere", Apply: f.served(svc, "a", "c"), Probes: all(Reach(Own, "a", "c"), host)},
				{Name: "elsewhere only", Apply: f.served(svc, "c"), Probes: all(Reach(Own, "c"), Reach(Own, "c"))},
				{Name: "nowhere", Apply: f.served(svc), Probes: all(Rejected, Rejected)},
			}
		},
	},
	{
		Name: "no endpoints", Config: standard,
		Reason: "without an endpoint anywhere connections are rejected, by all addresses",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2))
			var all []Probe
			for _, to := range []Target{f.clusterIP(1), f.primary(1), f.balancer(1), f.externalIP(2)} {
				all = append(all, probes(to, Rejected, Here, There, Node, Outside)...)
			}
			return []Step{
				{Name: "no slice", Apply: []Object{svc}, Probes: all},
				{Name: "an empty slice", Apply: f.served(svc), Probes: all},
			}
		},
	},
	{
		Name: "unused port of a cluster IP", Config: standard,
		Reason: "an unused port of an active cluster IP rejects; of one that is gone it is dropped",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			unused := f.clusterIP(1).port("unused port of a cluster IP", 81)
			return []Step{
				{Apply: f.served(svc, "a"), Probes: probes(unused, Rejected, Here, There, Node, Outside)},
				{Name: "the Service goes", Delete: []Object{svc}, Probes: probes(unused, Dropped, Here, Node)},
			}
		},
	},
	{
		Name: "cluster IP of no Service", Config: standard,
		Reason: "an address of a ServiceCIDR that no Service has is dropped; other addresses pass",
		Steps: func(f Family) []Step {
			return []Step{{
				Probes: append(probes(f.clusterIP(9), Dropped, Here, There, Node, Outside),
					probes(f.externalIP(9), Beyond, Here, Node, Outside)...),
			}}
		},
	},
	{
		Name: "ServiceCIDR comes and goes", Config: standard,
		Reason: "a changed ServiceCIDR acts at once",
		Steps: func(f Family) []Step {
			fresh := target("address of a new ServiceCIDR", f.newAddr(9), servicePort)
			return []Step{
				{Name: "before", Probes: probes(fresh, Beyond, Here, Node)},
				{Name: "it comes", Eventually: true, Apply: []Object{f.serviceCIDR("more")}, Probes: probes(fresh, Dropped, Here, Node)},
				{Name: "it goes", Eventually: true, Delete: []Object{f.serviceCIDR("more")}, Probes: probes(fresh, Beyond, Here, Node)},
			}
		},
	},
}
