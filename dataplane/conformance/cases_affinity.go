package conformance

import (
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// forever is the default timeout, in seconds, and longer than any case.
const forever = 10800

// affinityCases are about session affinity. Which endpoint a client gets first is chance, so a client first meets a
// Service of one endpoint, and others join later.
var affinityCases = []Case{
	{
		Name: "affinity over all addresses", Config: standard,
		Reason: "a client stays with its endpoint over all addresses of the Service port, over changes of other endpoints",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withBalancer(1, nil), withExternalIP(2), withAffinity(forever))
			// By the cluster IP first: a Pod keeps its address there, and is masqueraded elsewhere.
			other := []Target{f.balancer(1), f.externalIP(2)}
			return []Step{
				{
					Name: "one endpoint", Apply: f.served(svc, "a"),
					Probes: []Probe{probe(Here, f.clusterIP(1), Reach(Own, "a")), probe(Outside, f.clusterIP(1), Reach(Masqueraded, "a"))},
				},
				{
					Name: "two more", Apply: f.served(svc, "a", "b", "c"),
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						{From: Here, To: f.primary(1), Also: other, Want: Reach(Masqueraded, "a")},
						{From: Outside, To: f.primary(1), Also: append(other, f.clusterIP(1)), Want: Reach(Masqueraded, "a")},
					},
				},
				{
					Name: "one of the two goes", Apply: f.served(svc, "a", "c"),
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")),
						{From: Outside, To: f.primary(1), Also: append(other, f.clusterIP(1)), Want: Reach(Masqueraded, "a")},
					},
				},
			}
		},
	},
	{
		Name: "affinity of many clients", Config: standard,
		Reason: "each client is remembered by itself: together they use all endpoints, each stays with one",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withNodePort(1), withAffinity(forever))
			return []Step{{
				Apply: f.served(svc, "a", "b", "c"),
				Probes: []Probe{
					{From: Crowd, To: f.primary(1), Want: Reach(Masqueraded, "a", "b", "c"), Tries: crowdSize},
					{From: Outside, To: f.primary(1), Want: Reach(Masqueraded, "a", "b", "c").Sticky()},
					{From: Here, To: f.clusterIP(1), Want: Reach(Own, "a", "b", "c").Sticky()},
					{From: Stranger, To: f.primary(1), Want: Reach(Masqueraded, "a", "b", "c").Sticky()},
				},
			}}
		},
	},
	{
		Name: "affinity of many clients to an endpoint that leaves", Config: standard,
		Reason: "clients of an endpoint that left spread over those that took its place",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withAffinity(forever))
			return []Step{
				{
					Name: "one endpoint", Apply: f.served(svc, "a"),
					Probes: []Probe{{From: Crowd, To: f.clusterIP(1), Want: Reach(Masqueraded, "a"), Tries: crowdSize}},
				},
				{
					Name: "two others take its place", Apply: f.served(svc, "b", "c"),
					Probes: []Probe{{From: Crowd, To: f.clusterIP(1), Want: Reach(Masqueraded, "b", "c"), Tries: crowdSize}},
				},
			}
		},
	},
	{
		Name: "affinity by port", Config: standard,
		Reason: "the key is client and Service port: what is remembered of one port says nothing of another",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withSecondPort, withAffinity(forever))
			second := f.clusterIP(1).port("second port", secondPort)
			return []Step{
				{
					Name: "one endpoint", Apply: f.served(svc, "a"),
					Probes: []Probe{{From: Crowd, To: f.clusterIP(1), Want: Reach(Masqueraded, "a"), Tries: crowdSize}},
				},
				{
					Name: "two more", Apply: f.served(svc, "a", "b", "c"),
					Probes: []Probe{
						{From: Crowd, To: f.clusterIP(1), Want: Reach(Masqueraded, "a"), Tries: crowdSize},
						{From: Crowd, To: second, Want: Reach(Masqueraded, "a:8443", "b:8443", "c:8443"), Tries: crowdSize},
					},
				},
			}
		},
	},
	{
		Name: "affinity by Service", Config: standard,
		Reason: "the key is client and Service: what is remembered of one Service says nothing of another",
		Steps: func(f Family) []Step {
			first, second := f.service("web", 1, withAffinity(forever)), f.service("more", 2, withAffinity(forever))
			return []Step{
				{
					Name: "one endpoint", Apply: append(f.served(first, "a"), f.served(second, "c")...),
					Probes: []Probe{probe(Here, f.clusterIP(1), Reach(Own, "a")), probe(Here, f.clusterIP(2), Reach(Own, "c"))},
				},
				{
					Name: "the other", Apply: append(f.served(first, "a", "b", "c"), f.served(second, "a", "b", "c")...),
					Probes: []Probe{probe(Here, f.clusterIP(1), Reach(Own, "a")), probe(Here, f.clusterIP(2), Reach(Own, "c"))},
				},
			}
		},
	},
	{
		Name: "affinity to an endpoint that leaves", Config: standard,
		Reason: "a client leaves an endpoint that is gone or no longer ready, and does not come back to it by memory",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withAffinity(forever))
			slice := func(a discoveryv1.Endpoint) []Object {
				return []Object{svc, f.slice(svc, 1, a, f.endpoint("b"), f.endpoint("c"))}
			}
			stays := func(names ...string) []Probe {
				return []Probe{{From: Here, To: f.clusterIP(1), Want: Reach(Own, names...).Sticky()}}
			}
			return []Step{
				{Name: "one endpoint", Apply: f.served(svc, "a"), Probes: stays("a")},
				{Name: "others join", Apply: slice(f.endpoint("a")), Probes: stays("a")},
				{Name: "it is not ready", Apply: slice(f.endpoint("a", unready)), Probes: stays("b", "c")},
				{Name: "it is ready again", Apply: slice(f.endpoint("a")), Probes: stays("b", "c")},
				{Name: "it alone is left", Apply: f.served(svc, "a"), Probes: stays("a")},
				{Name: "others are back", Apply: slice(f.endpoint("a")), Probes: stays("a")},
				{Name: "it is terminating", Apply: slice(f.endpoint("a", terminating)), Probes: stays("b", "c")},
			}
		},
	},
	{
		Name: "affinity timeout", Config: standard,
		Reason: "a client is remembered for the timeout since its last new connection",
		Steps: func(f Family) []Step {
			const seconds = 8 // a machine may stand still for some of them between two connections
			svc := f.service("web", 1, withAffinity(seconds))
			// Of many clients that are remembered no longer, each endpoint gets some; one alone might come back by chance.
			crowd := func(after time.Duration, names ...string) Probe {
				return Probe{From: Crowd, To: f.clusterIP(1), Want: Reach(Masqueraded, names...), Tries: crowdSize, After: after}
			}
			return []Step{
				{Name: "one endpoint", Apply: f.served(svc, "a"), Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here)},
				{
					Name: "others join: new connections prolong it", Apply: f.served(svc, "a", "b", "c"),
					Probes: []Probe{{From: Here, To: f.clusterIP(1), Want: Reach(Own, "a"), Tries: 5, Every: seconds * time.Second * 2 / 7}},
				},
				{Name: "many clients", Apply: f.served(svc, "a"), Probes: []Probe{crowd(0, "a")}},
				{
					Name: "after a pause it is over", Apply: f.served(svc, "a", "b"),
					Probes: []Probe{crowd((seconds+1)*time.Second, "a", "b")},
				},
			}
		},
	},
	{
		Name: "affinity turned on and off", Config: standard,
		Reason: "affinity follows the Service",
		Steps: func(f Family) []Step {
			sticky, free := f.service("web", 1, withAffinity(forever)), f.service("web", 1)
			return []Step{
				{Name: "off", Apply: f.served(free, "a", "b"), Probes: probes(f.clusterIP(1), Reach(Own, "a", "b"), Here)},
				{Name: "on", Apply: []Object{sticky}, Probes: probes(f.clusterIP(1), Reach(Own, "a", "b").Sticky(), Here)},
				{Name: "off again", Apply: []Object{free}, Probes: probes(f.clusterIP(1), Reach(Own, "a", "b"), Here)},
			}
		},
	},
}
