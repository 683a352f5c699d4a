package oracle

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/endpoints"
)

// difference is something that upstream does not look at and we do, so that its slices lag behind ours until something
// else happens. The oracle tells upstream of it, so that the rest stays comparable; TestDifferences shows that without
// that help upstream would not know.
type difference struct {
	name, reason string
	// pod and node say whether a change is of this kind. Pods before and after are not nil.
	pod  func(old, now *corev1.Pod) bool
	node func(old, now *corev1.Node) bool
	// slice says whether a slice that upstream leaves as it is has to go.
	slice func(service *corev1.Service, slice *discoveryv1.EndpointSlice) bool
}

var differences = []difference{
	{
		name:   "Phase",
		reason: "A Pod that fails without ever having been ready stays published upstream until something else happens: its address may be another Pod's by then.",
		pod:    func(old, now *corev1.Pod) bool { return ended(old) != ended(now) },
	},
	{
		name:   "UID",
		reason: "A Pod that was replaced between two looks keeps the UID of the old one upstream, and targetRef names a Pod that is gone.",
		pod:    func(old, now *corev1.Pod) bool { return old.UID != now.UID },
	},
	{
		name:   "LateZone",
		reason: "A zone label that comes late leaves endpoints without zone and hints upstream, and then kube-proxy ignores all hints of the Service.",
		node: func(old, now *corev1.Node) bool {
			return old != nil && now != nil && !maps.Equal(old.Labels, now.Labels)
		},
	},
	{
		name:   "LateNode",
		reason: "Upstream publishes Pods with publishNotReadyAddresses before their Node is known, without a zone, and does not look at them again when it comes.",
		node:   func(old, now *corev1.Node) bool { return old == nil },
	},
	{
		name: "ReservedLabels",
		reason: "Upstream sets the labels that are reserved, such as the one for headless Services, when it makes a slice, and does not look at them again; " +
			"ours puts them right.",
		slice: func(service *corev1.Service, slice *discoveryv1.EndpointSlice) bool {
			_, labelled := slice.Labels[corev1.IsHeadlessService]
			return labelled != (service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.ClusterIP == "")
		},
	},
	{
		name: "OldPlaceholder",
		reason: "A Service that was deleted and made again keeps the empty slice of the one before it upstream, and has none once that is collected; " +
			"ours gets its own (a slice of another owner is deleted, not adopted).",
		slice: func(service *corev1.Service, slice *discoveryv1.EndpointSlice) bool {
			return !endpoints.OwnedBy(slice, service) && len(slice.Endpoints) == 0
		},
	},
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// scene shows a difference: before, then event, after which what upstream has holds one text, and what we have another.
type scene struct {
	before, event  func(c *cluster)
	upstream, ours string
}

var scenes = map[string]scene{
	"Phase": {
		before: func(c *cluster) {
			c.putService(newService())
			pod := newPod("pod")
			c.setReady(pod, false)
			c.putPod(pod)
		},
		event: func(c *cluster) {
			c.change("pod", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		},
		upstream: "[10.0.0.1] ready \"false\"", ours: "empty",
	},
	"UID": {
		before: func(c *cluster) {
			c.putService(newService())
			pod := newPod("pod")
			pod.UID = "before"
			c.putPod(pod)
		},
		event:    func(c *cluster) { c.change("pod", func(p *corev1.Pod) { p.UID = "after" }) },
		upstream: "UID:before", ours: "UID:after",
	},
	"LateZone": {
		before: func(c *cluster) {
			service := newService()
			service.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameZone)
			c.putService(service)
			c.putPod(newPod("pod"))
		},
		event:    func(c *cluster) { c.putNode(newNode("node-0", "zone-a")) },
		upstream: "zone nil", ours: "ForZones:[{Name:zone-a}]",
	},
	"LateNode": {
		before: func(c *cluster) {
			service := newService()
			service.Spec.PublishNotReadyAddresses = true
			c.putService(service)
			pod := newPod("pod")
			pod.Spec.NodeName = "node-1"
			c.putPod(pod)
		},
		event:    func(c *cluster) { c.putNode(newNode("node-1", "zone-a")) },
		upstream: "zone nil", ours: "zone \"zone-a\"",
	},
	"ReservedLabels": {
		before: func(c *cluster) {
			service := newService()
			service.Spec.ClusterIP = corev1.ClusterIPNone
			c.putService(service)
			c.putPod(newPod("pod"))
		},
		event:    func(c *cluster) { c.putService(newService()) },
		upstream: "service.kubernetes.io/headless=", ours: "service-name=service, v1",
	},
	"OldPlaceholder": {
		before: func(c *cluster) { c.putService(newService()) },
		event: func(c *cluster) {
			service := newService()
			service.UID = "after"
			c.putService(service)
		},
		upstream: "serviceuid", ours: "serviceafter",
	},
}

func newService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "service", UID: "serviceuid"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "a"}, ClusterIP: "10.96.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}},
		},
	}
}

var serviceKey = types.NamespacedName{Namespace: "one", Name: "service"}

// newPod returns a ready Pod on node-0, which is there; the address follows the number in the name.
func newPod(name string) *corev1.Pod {
	number := 1
	_, _ = fmt.Sscanf(name, "pod-%d", &number)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: name, Labels: map[string]string{"app": "a"}},
		Spec:       corev1.PodSpec{NodeName: "node-0"},
		Status: corev1.PodStatus{
			PodIPs:     []corev1.PodIP{{IP: fmt.Sprintf("10.0.%d.%d", number/250, number%250)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func newNode(name, zone string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if zone != "" {
		node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return node
}

// change changes a Pod.
func (c *cluster) change(name string, do func(*corev1.Pod)) {
	pod := c.pods[types.NamespacedName{Namespace: "one", Name: name}].DeepCopy()
	do(pod)
	c.putPod(pod)
}

// text shows slices in one line each endpoint.
func text(all []*discoveryv1.EndpointSlice) string {
	var b strings.Builder
	for f, lines := range contentOf(all) {
		fmt.Fprintf(&b, "%s %s %s, %s\n", f.family, f.ports, f.labels, f.owners)
		if len(lines) == 0 {
			b.WriteString("empty\n")
		}
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// quiet is a table on which nothing happens but what a test does.
func quiet(t *testing.T, limit int) *table {
	b := newTable(t, &choices{}, limit, true)
	b.cluster.putNode(newNode("node-0", ""))
	return b
}

// TestDifferences shows each difference: without help upstream has something else than we do, and with it the same.
func TestDifferences(t *testing.T) {
	if len(scenes) != len(differences) {
		t.Errorf("%d scenes for %d differences", len(scenes), len(differences))
	}
	for _, d := range differences {
		t.Run(d.name, func(t *testing.T) {
			s := scenes[d.name]
			b := quiet(t, 100)
			s.before(b.cluster)
			b.step(true)
			if t.Failed() {
				t.Fatal("the difference is there before the event")
			}
			b.upstream.helped = func(name string) bool { return name != d.name }
			s.event(b.cluster)
			b.scratch.wanted, b.incremental.wanted = nil, nil
			b.upstream.settle()
			b.scratch.settle()
			b.incremental.step(true)
			theirs := text(b.upstream.store.of(serviceKey, managedBy))
			if !strings.Contains(theirs, s.upstream) || strings.Contains(theirs, s.ours) {
				t.Errorf("upstream is not told, and has\n%swant %s and not %s\nThis difference is no more: %s", theirs, s.upstream, s.ours, d.reason)
			}
			for how, o := range map[string]*ours{"from scratch": b.scratch.ours, "incremental": b.incremental.ours} {
				if got := text(o.store.of(serviceKey, managedBy)); !strings.Contains(got, s.ours) || strings.Contains(got, s.upstream) {
					t.Errorf("%s: %s\nwant %s and not %s", how, got, s.ours, s.upstream)
				}
			}
		})
	}
}

// TestCleanup: a Service that loses its selector, or becomes an ExternalName, keeps its slices upstream for ever
// (kubernetes/kubernetes#118376); ours deletes those that it owns.
func TestCleanup(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){
		"Selectorless": func(s *corev1.Service) { s.Spec.Selector = nil },
		"ExternalName": func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
	} {
		t.Run(name, func(t *testing.T) {
			b := quiet(t, 100)
			b.cluster.putService(newService())
			b.cluster.putPod(newPod("pod"))
			b.step(true)
			service := newService()
			change(service)
			b.cluster.putService(service)
			b.step(true)
			if n := len(b.upstream.store.slices); n != 1 {
				t.Errorf("upstream has %d slices: this difference is no more", n)
			}
			if n, m := len(b.scratch.store.slices), len(b.incremental.store.slices); n+m > 0 {
				t.Errorf("%d and %d slices are left", n, m)
			}
		})
	}
}

// TestCompaction: upstream keeps every slice that has an endpoint; ours does not keep more free room than a slice.
func TestCompaction(t *testing.T) {
	b := quiet(t, 10)
	b.cluster.putService(newService())
	for i := range 100 {
		b.cluster.putPod(newPod(fmt.Sprint("pod-", i+1)))
	}
	b.step(true)
	for i := range 100 {
		if i%10 > 0 {
			b.cluster.deletePod(types.NamespacedName{Namespace: "one", Name: fmt.Sprint("pod-", i+1)})
		}
	}
	b.step(true)
	upstream := len(b.upstream.store.slices)
	for how, o := range map[string]*ours{"from scratch": b.scratch.ours, "incremental": b.incremental.ours} {
		if n := len(o.store.slices); n != 1 || upstream <= n {
			t.Errorf("%s: %d slices hold 10 endpoints, upstream %d; want 1, and more upstream", how, n, upstream)
		}
	}
}

// TestForeignEdits: what somebody else does to a slice is repaired at once; upstream repairs some of it, too.
func TestForeignEdits(t *testing.T) {
	for _, e := range edits {
		t.Run(strings.ReplaceAll(e.name, " ", "_"), func(t *testing.T) {
			b := quiet(t, 100)
			service := newService()
			service.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameZone)
			b.cluster.putService(service)
			for i := range 4 {
				pod := newPod(fmt.Sprint("pod-", i+1))
				b.cluster.setReady(pod, i > 0)
				b.cluster.putPod(pod)
			}
			b.step(true)
			want := text(b.upstream.ideal(service))
			for _, s := range []*store{b.upstream.store, b.scratch.store, b.incremental.store} {
				s.edit(serviceKey, e, 0)
				if text(s.of(serviceKey, managedBy)) == want {
					t.Fatal("the edit changes nothing")
				}
			}
			b.upstream.helped = func(string) bool { return false }
			b.upstream.settle()
			b.scratch.settle()
			b.incremental.step(true)
			if got := text(b.upstream.store.of(serviceKey, managedBy)); (got == want) == e.oursAlone {
				t.Errorf("upstream has\n%s, want\n%s but for what it does not repair (%v)", got, want, e.oursAlone)
			}
			for how, o := range map[string]*ours{"from scratch": b.scratch.ours, "incremental": b.incremental.ours} {
				if got := text(o.store.of(serviceKey, managedBy)); got != want {
					t.Errorf("%s: %s\nwant\n%s", how, got, want)
				}
			}
		})
	}
}

// TestLostNode: the Pods of a Node whose object is gone leave upstream's slices when anything else happens to their
// Service. Ours stay until something happens to themselves: a Node object that is replaced must not take them out.
func TestLostNode(t *testing.T) {
	b := quiet(t, 100)
	b.cluster.putService(newService())
	b.cluster.putPod(newPod("pod-1"))
	other := newPod("pod-2")
	other.Spec.NodeName = "node-1"
	b.cluster.putNode(newNode("node-1", ""))
	b.cluster.putPod(other)
	b.step(true)
	b.cluster.deleteNode("node-1")
	b.cluster.change("pod-1", func(p *corev1.Pod) { b.cluster.setReady(p, false) })
	b.upstream.settle()
	b.incremental.step(true)
	if got := text(b.upstream.store.of(serviceKey, managedBy)); strings.Contains(got, "10.0.0.2") {
		t.Errorf("upstream has\n%s: this difference is no more", got)
	}
	if got := text(b.incremental.store.of(serviceKey, managedBy)); !strings.Contains(got, "10.0.0.2") || !strings.Contains(got, `[10.0.0.1] ready "false"`) {
		t.Errorf("ours has\n%s", got)
	}
}

// TestClassicOfDeleted: upstream makes Endpoints for a Service that is being deleted, which nobody may be left to
// delete; ours does not.
func TestClassicOfDeleted(t *testing.T) {
	c := newCluster(&choices{})
	x := newClassic(t, c)
	service := newService()
	service.DeletionTimestamp = &metav1.Time{}
	c.putService(service)
	if x.ask(service) == nil {
		t.Error("upstream makes none: this difference is no more")
	}
	if got := endpoints.Classic(service, nil, nil, time.Time{}); got != nil {
		t.Errorf("ours makes %+v", got)
	}
}
