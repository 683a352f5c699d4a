package conformance

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/model"
)

// filterCases are about Services and slices that are not to be served.
var filterCases = []Case{
	{
		Name: "headless and ExternalName", Config: standard,
		Reason: "headless Services and those of type ExternalName are not served, by none of their addresses",
		Steps: func(f Family) []Step {
			headless := f.service("headless", 1, withExternalIP(1))
			headless.Spec.ClusterIP = corev1.ClusterIPNone
			headless.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
			elsewhere := newService(f.name("elsewhere"))
			elsewhere.Spec.Type, elsewhere.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example.com"
			elsewhere.Spec.ExternalIPs = []string{f.externalAddr(2).String()}
			return []Step{{
				Apply: append(f.served(headless, "a"), f.served(elsewhere, "a")...),
				Probes: append(probes(f.externalIP(1), Beyond, Here, Outside),
					probes(f.externalIP(2), Beyond, Here, Outside)...),
			}}
		},
	},
	{
		Name: "Services of another proxy", Config: standard,
		Reason: "a Service with the label of another proxy is not served",
		Steps: func(f Family) []Step {
			theirs := f.service("web", 1, withNodePort(1), withExternalIP(1), withLabel(model.LabelProxyName, "another"))
			anybodys := f.service("web", 1, withNodePort(1), withExternalIP(1))
			return []Step{
				{
					Name: "theirs", Apply: f.served(theirs, "a"),
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Dropped), closed(Outside, f.primary(1)), probe(Outside, f.externalIP(1), Beyond),
					},
				},
				{
					Name: "the label goes", Apply: []Object{anybodys},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Reach(Own, "a")), probe(Outside, f.primary(1), Reach(Masqueraded, "a")),
						probe(Outside, f.externalIP(1), Reach(Masqueraded, "a")),
					},
				},
				{
					Name: "the label comes back", Apply: []Object{theirs},
					Probes: []Probe{
						probe(Here, f.clusterIP(1), Dropped), closed(Outside, f.primary(1)), probe(Outside, f.externalIP(1), Beyond),
					},
				},
			}
		},
	},
	{
		Name: "Services with our label", Config: standard,
		Reason:   "a Service with our label is served",
		OursOnly: "the label keeps kube-proxy away",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1, withLabel(model.LabelProxyName, model.ProxyName))
			return []Step{{Apply: f.served(svc, "a"), Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here)}}
		},
	},
	{
		Name: "slices of a headless Service", Config: standard,
		Reason: "slices with the label of headless Services are not looked at",
		Steps: func(f Family) []Step {
			svc := f.service("web", 1)
			labelled := f.slice(svc, 2, f.ready("b")...)
			labelled.Labels[corev1.IsHeadlessService] = ""
			return []Step{
				{Name: "one has it", Apply: append(f.served(svc, "a"), labelled), Probes: probes(f.clusterIP(1), Reach(Own, "a"), Here)},
				{Name: "it is the only one", Delete: []Object{f.slice(svc, 1)}, Probes: probes(f.clusterIP(1), Rejected, Here)},
			}
		},
	},
	{
		Name: "coexist", Config: Config{Detection: ClusterCIDR, Coexist: true},
		Reason:   "beside another proxy only Services with our label are touched, and no other address",
		OursOnly: "kube-proxy does not coexist",
		Steps: func(f Family) []Step {
			ours := f.service("ours", 1, withNodePort(1), withLabel(model.LabelProxyName, model.ProxyName))
			theirs := f.service("theirs", 2, withNodePort(2), withExternalIP(2))
			return []Step{{
				Apply: append(f.served(ours, "a"), f.served(theirs, "b")...),
				Probes: append([]Probe{
					probe(Here, f.clusterIP(1), Reach(Own, "a")),
					probe(Outside, f.primary(1), Reach(Masqueraded, "a")),
					probe(Here, f.clusterIP(1).port("unused port of our cluster IP", 81), Rejected),
					closed(Outside, f.primary(2)),
					probe(Outside, f.externalIP(2), Beyond),
				}, append(probes(f.clusterIP(2), Beyond, Here, Node, Outside), probes(f.clusterIP(9), Beyond, Here, Node, Outside)...)...),
			}}
		},
	},
}
