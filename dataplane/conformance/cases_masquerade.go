package conformance

// detection is a case of cluster IPs: who keeps its address, and who does not.
func detection(name, reason string, config Config, own, masqueraded []Client) Case {
	return Case{Name: name, Reason: reason, Config: config, Steps: func(f Family) []Step {
		svc := f.service("web", 1)
		return []Step{{
			Apply: f.served(svc, "a", "c"),
			Probes: append(probes(f.clusterIP(1), Reach(Own, "a", "c"), own...),
				probes(f.clusterIP(1), Reach(Masqueraded, "a", "c"), masqueraded...)...),
		}}
	}}
}

// masqueradeCases are about whose address endpoints see, and the ways to tell Pods from others.
var masqueradeCases = []Case{
	detection("local detection by ClusterCIDR",
		"clients outside the detected local range are masqueraded on their way to a cluster IP",
		standard, []Client{Here, Bridge, There}, []Client{Stranger, Outside}),
	detection("local detection by NodeCIDR", "the local range is that of this node's Pods",
		Config{Detection: NodeCIDR}, []Client{Here, Bridge}, []Client{There, Stranger, Outside}),
	detection("local detection by BridgeInterface", "Pods come in by one interface",
		Config{Detection: BridgeInterface}, []Client{Bridge}, []Client{Here, There, Stranger, Outside}),
	detection("local detection by InterfaceNamePrefix", "Pods come in by interfaces whose names begin so",
		Config{Detection: NamePrefix}, []Client{Here}, []Client{Bridge, There, Stranger, Outside}),
	detection("no local detection", "without local detection nobody is masqueraded on the way to a cluster IP",
		Config{Detection: NoDetection}, []Client{Here, Bridge, There, Stranger, Outside}, nil),
	detection("masqueradeAll", "everybody is masqueraded on the way to a cluster IP, if asked for",
		Config{Detection: ClusterCIDR, MasqueradeAll: true}, nil, []Client{Here, Bridge, There, Stranger, Outside}),
	{
		Name: "the node itself", Config: standard,
		Reason: "the node is outside of the local range",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{{Apply: f.served(svc, "a", "b"), Probes: probes(f.clusterIP(1), Reach(Masqueraded, "a", "b"), Node)}}
		},
	},
	{
		Name: "the node itself without local detection", Config: Config{Detection: NoDetection},
		Reason: "without local detection nobody is masqueraded on the way to a cluster IP",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{{Apply: f.served(svc, "a", "b"), Probes: probes(f.clusterIP(1), Reach(Own, "a", "b"), Node)}}
		},
	},
	{
		Name: "policy Local without local detection", Config: Config{Detection: NoDetection},
		Reason: "without local detection Pods count as outside clients of a Local Service, the node does not",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), externalLocal)
			return []Step{{
				Apply: f.served(svc, "a", "c"),
				Probes: append(probes(f.balancer(1), Reach(Own, "a"), Here, There, Outside),
					probe(Node, f.balancer(1), Reach(Masqueraded, "a").And(Own, "c"))),
			}}
		},
	},
	{
		Name: "policy Local and InterfaceNamePrefix", Config: Config{Detection: NamePrefix},
		Reason: "Pods, by whatever way they are told, use the Cluster endpoints of a Local Service",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withBalancer(1, nil), externalLocal)
			return []Step{{
				Apply: f.served(svc, "a", "c"),
				Probes: append(probes(f.balancer(1), Reach(Own, "a"), Bridge, There, Stranger, Outside),
					probe(Here, f.balancer(1), Reach(Own, "a", "c"))),
			}}
		},
	},
	{
		Name: "external traffic with policy Cluster", Config: standard,
		Reason: "external traffic with policy Cluster is masqueraded always",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2))
			var all []Probe
			for _, to := range []Target{f.primary(1), f.balancer(1), f.externalIP(2)} {
				all = append(all, probes(to, Reach(Masqueraded, "a", "c"), Here, There, Stranger, Outside)...)
				all = append(all, probe(Node, to, Reach(Masqueraded, "a").And(Own, "c")))
			}
			return []Step{{Apply: f.served(svc, "a", "c"), Probes: all}}
		},
	},
	{
		Name: "hairpin", Config: standard,
		Reason: "a client is masqueraded when the chosen endpoint is itself",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			local := f.service("local", 2, withBalancer(1, nil), externalLocal, internalLocal)
			return []Step{{
				Apply: append(f.served(svc, "a", "b", "c"), f.served(local, "a", "b", "c")...),
				Probes: []Probe{
					probe(podA, f.clusterIP(1), Reach(Own, "b", "c").And(Masqueraded, "a")),
					probe(podA, f.clusterIP(2), Reach(Own, "b").And(Masqueraded, "a")),
					probe(podA, f.balancer(1), Reach(Own, "b", "c").And(Masqueraded, "a")),
					// By a way that only a test has: back to the node the client came from.
					probe(podC, f.clusterIP(1), Reach(Own, "a", "b").And(Masqueraded, "c")),
				},
			}}
		},
	},
	{
		Name: "hairpin of an endpoint of two Services", Config: standard,
		Reason: "one of them may lose it: it still is the other's",
		Steps: func(f Family) []Step {
			first, second := f.service("first", 1), f.service("second", 2)
			back := probe(podA, f.clusterIP(1), Reach(Masqueraded, "a"))
			return []Step{
				{Name: "both have it", Apply: append(f.served(first, "a"), f.served(second, "a")...), Probes: []Probe{back}},
				{Name: "one of them goes", Delete: []Object{second}, Probes: []Probe{back}},
			}
		},
	},
	{
		Name: "hairpin without local detection", Config: Config{Detection: NoDetection},
		Reason: "a client is masqueraded when the chosen endpoint is itself, however Pods are told",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{{Apply: f.served(svc, "a"), Probes: probes(f.clusterIP(1), Reach(Masqueraded, "a"), podA)}}
		},
	},
}
