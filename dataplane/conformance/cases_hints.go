package conformance

import (
	corev1 "k8s.io/api/core/v1"
)

// hintCases are about topology hints.
var hintCases = []Case{
	{
		Name: "zone hints", Config: standard,
		Reason: "endpoints for this zone only if every ready one has hints and one names this zone; else all",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			want := func(names ...string) []Probe { return probes(f.clusterIP(1), Reach(Own, names...), Here) }
			return []Step{
				{
					Name: "all have hints",
					Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", forZones(zoneOfNode)),
						f.endpoint("b", forZones(otherZone)), f.endpoint("c", forZones(otherZone, zoneOfNode)))},
					Probes: want("a", "c"),
				},
				{
					Name: "one has none, but is not ready",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", forZones(zoneOfNode)),
						f.endpoint("b", forZones(otherZone)), f.endpoint("c", unready))},
					Probes: want("a"),
				},
				{
					Name: "a ready one has none",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", forZones(zoneOfNode)),
						f.endpoint("b", forZones(otherZone)), f.endpoint("c"))},
					Probes: want("a", "b", "c"),
				},
				{
					Name: "none names this zone",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", forZones(otherZone)),
						f.endpoint("c", forZones(otherZone)))},
					Probes: want("a", "c"),
				},
			}
		},
	},
	{
		Name: "node hints", Config: standard,
		Reason: "the same for nodes, which come before zones",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			want := func(names ...string) []Probe { return probes(f.clusterIP(1), Reach(Own, names...), Here) }
			return []Step{
				{
					Name: "all have hints of both kinds",
					Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", forNodes(NodeName), forZones(zoneOfNode)),
						f.endpoint("b", forNodes(otherNode), forZones(zoneOfNode)), f.endpoint("c", forNodes(otherNode), forZones(otherZone)))},
					Probes: want("a"),
				},
				{
					Name: "one has no hint for nodes",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", forNodes(NodeName), forZones(zoneOfNode)),
						f.endpoint("b", forZones(zoneOfNode)), f.endpoint("c", forNodes(otherNode), forZones(otherZone)))},
					Probes: want("a", "b"),
				},
				{
					Name: "none is for this node",
					Apply: []Object{f.slice(svc, 1, f.endpoint("a", forNodes(otherNode), forZones(otherZone)),
						f.endpoint("b", forNodes(otherNode), forZones(zoneOfNode)))},
					Probes: want("b"),
				},
			}
		},
	},
	{
		Name: "hints and the fallback", Config: standard,
		Reason: "the fallback to terminating endpoints ignores hints",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{{
				Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", terminating, forZones(zoneOfNode), forNodes(NodeName)),
					f.endpoint("b", terminating, forZones(otherZone), forNodes(otherNode)), f.endpoint("c", terminating))},
				Probes: probes(f.clusterIP(1), Reach(Own, "a", "b", "c"), Here),
			}}
		},
	},
	{
		Name: "hints and policy Local", Config: standard,
		Reason: "hints never touch Local",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), externalLocal, internalLocal)
			return []Step{{
				Apply: []Object{svc, f.slice(svc, 1, f.endpoint("a", forZones(zoneOfNode), forNodes(NodeName)),
					f.endpoint("b", forZones(otherZone), forNodes(otherNode)), f.endpoint("c", forZones(zoneOfNode), forNodes(NodeName)))},
				Probes: []Probe{
					probe(Here, f.clusterIP(1), Reach(Own, "a", "b")),
					probe(Outside, f.primary(1), Reach(Own, "a", "b")),
					probe(Here, f.primary(1), Reach(Own, "a", "c")), // of policy Cluster: see policies
				},
			}}
		},
	},
	{
		Name: "hints and the node's zone", Config: standard,
		Reason: "the node's labels act at once",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			return []Step{
				{
					Apply:  []Object{svc, f.slice(svc, 1, f.endpoint("a", forZones(zoneOfNode)), f.endpoint("c", forZones(otherZone)))},
					Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here),
				},
				{
					Name: "the node moves to another zone", Eventually: true,
					Node:   func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = otherZone },
					Probes: probes(f.clusterIP(1), Reach(Own, "c"), Here),
				},
				{
					Name: "the node has no zone", Eventually: true,
					Node:   func(n *corev1.Node) { delete(n.Labels, corev1.LabelTopologyZone) },
					Probes: probes(f.clusterIP(1), Reach(Own, "a", "c"), Here),
				},
			}
		},
	},
}
