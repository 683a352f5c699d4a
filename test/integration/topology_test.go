package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// zoned makes nodes of 4 CPUs in zones x, y and z, until the test ends.
func zoned(t *testing.T) map[string]*corev1.Node {
	t.Helper()
	nodes := map[string]*corev1.Node{}
	for _, zone := range []string{"x", "y", "z"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "zoned-" + zone, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
		create(t, node)
		t.Cleanup(func() { remove(t, node) })
		nodes[zone] = node
		node.Spec.Taints = nil // Every new node has one (TaintNodesByCondition), and nobody is here to take it off.
		if err := suite.admin.Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		setNode(t, node, corev1.ConditionTrue, "4")
	}
	return nodes
}

// setNode writes the readiness and the CPUs of a node, as its kubelet would.
func setNode(t *testing.T, node *corev1.Node, ready corev1.ConditionStatus, cpu string) {
	t.Helper()
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	if err := suite.admin.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// hinted is a Service with Pods in zones, of which upstream's topology mode Auto makes nothing: 4/4/3 over three.
type hinted struct {
	*testing.T
	applied
	// pods are those of the zones x, y and z.
	pods map[string][]*corev1.Pod
}

func newHinted(t *testing.T) *hinted {
	t.Helper()
	h := &hinted{T: t, applied: applied{namespace: namespace(t)}, pods: map[string][]*corev1.Pod{}}
	h.service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "web", Labels: map[string]string{fairleadv1alpha1.LabelTopologyHints: "true"},
			Annotations: map[string]string{corev1.AnnotationTopologyMode: "Auto"}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}}},
	}
	create(t, h.service)
	for zone, n := range map[string]int{"x": 4, "y": 4, "z": 3} {
		template := corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}
		h.pods[zone] = runPods(t, h.namespace, template, n, "", "zoned-"+zone)
	}
	return h
}

// hints returns how many of the ready endpoints are in one zone and hinted to another, as "x>y 4"; a dash is no hint.
func (h *hinted) hints() (string, []discoveryv1.EndpointSlice, error) {
	all, err := slicesOf(h.Context(), h.namespace, h.service.Name)
	if err != nil {
		return "", nil, err
	}
	return describeHints(all...), all, nil
}

func describeHints(all ...discoveryv1.EndpointSlice) string {
	counts := map[string]int{}
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			if !*e.Conditions.Ready {
				continue
			}
			to := "-"
			if e.Hints != nil && len(e.Hints.ForZones) == 1 {
				to = e.Hints.ForZones[0].Name
			}
			counts[*e.Zone+">"+to]++
		}
	}
	var texts []string
	for is, n := range counts {
		texts = append(texts, fmt.Sprint(is, " ", n))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// expect waits for hints as hints gives them.
func (h *hinted) expect(want string) []discoveryv1.EndpointSlice {
	h.Helper()
	var found []discoveryv1.EndpointSlice
	eventually(h.T, waitFor, "hints "+want, func() error {
		got, all, err := h.hints()
		if found = all; err == nil && got != want {
			err = fmt.Errorf("they are %s", got)
		}
		return err
	})
	return found
}

// expectCondition waits for the condition of the Service; an empty reason means that there is none.
func (h *hinted) expectCondition(status metav1.ConditionStatus, reason string) *metav1.Condition {
	h.Helper()
	var is *metav1.Condition
	eventually(h.T, waitFor, "condition "+reason, func() error {
		get(h.T, h.namespace, h.service.Name, h.service)
		is = meta.FindStatusCondition(h.service.Status.Conditions, fairleadv1alpha1.ConditionTopologyHints)
		if is == nil && reason == "" || is != nil && is.Status == status && is.Reason == reason {
			return nil
		}
		return fmt.Errorf("it is %+v", is)
	})
	return is
}

// change changes the Service.
func (h *hinted) change(mutate func(*corev1.Service)) {
	h.Helper()
	get(h.T, h.namespace, h.service.Name, h.service)
	before := h.service.DeepCopy()
	mutate(h.service)
	if err := suite.admin.Patch(h.Context(), h.service, client.MergeFrom(before)); err != nil {
		h.Fatal(err)
	}
}

// expectEvent waits for an event on the Service that says something.
func (h *hinted) expectEvent(reason, says string) {
	h.Helper()
	eventually(h.T, waitFor, "event "+reason, func() error {
		var list eventsv1.EventList
		if err := suite.admin.List(h.Context(), &list, client.InNamespace(h.namespace)); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Kind == "Service" && e.Reason == reason && strings.Contains(e.Note, says) {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(list.Items))
	})
}

const own = "x>x 4, y>y 4, z>z 3"

// TestTopology: the manager as it is installed gives hints to 4/4/3 endpoints over three zones, says so, and says why
// not where a value is wrong.
func TestTopology(t *testing.T) {
	needsAPIServer(t)
	nodes := zoned(t)
	m := startManager(t, "--leader-elect=false")
	h := newHinted(t)
	h.expect(own)
	// An endpoint of zone z gets 22% more than an even share, and it cannot be less.
	if c := h.expectCondition(metav1.ConditionTrue, "BoundRaised"); !strings.Contains(c.Message, "22.2%") || strings.Contains(c.Message, "\n") {
		t.Errorf("the message is %q", c.Message)
	}
	h.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/auto.bound-30" })
	h.expectCondition(metav1.ConditionTrue, "BoundMet")
	labels := fmt.Sprintf(`{namespace=%q,service="web"} `, h.namespace)
	token := scraper(t, h.namespace)
	eventually(t, waitFor, "figures", func() error {
		_, body, err := scrape(t, m.metrics, token)
		if err != nil {
			return err
		}
		for _, want := range []string{
			"fairlead_topology_cross_zone_ratio" + labels + "0\n", "fairlead_topology_overload_ratio" + labels + "0.2",
			`fairlead_topology_services{reason="BoundMet"} 1`, `fairlead_topology_nodes_left_out{reason="NotReady"} 0`,
		} {
			if !strings.Contains(body, want) {
				return fmt.Errorf("there is no %s", want)
			}
		}
		return nil
	})

	// Figures change with every endpoint, the reason does not, and nothing is written on the Service.
	get(t, h.namespace, h.service.Name, h.service)
	version := h.service.ResourceVersion
	setReady(t, h.pods["x"][0], corev1.ConditionFalse)
	h.expect("x>x 3, y>y 4, z>z 3")
	get(t, h.namespace, h.service.Name, h.service)
	if h.service.ResourceVersion != version {
		t.Error("the Service was written though the reason is the same")
	}
	setReady(t, h.pods["x"][0], corev1.ConditionTrue)
	h.expect(own)

	// A zone whose nodes are gone has no clients, and its endpoints serve the others.
	setNode(t, nodes["z"], corev1.ConditionFalse, "4")
	eventually(t, waitFor, "hints without zone z", func() error {
		got, _, err := h.hints()
		if err == nil && (strings.Contains(got, ">z") || strings.Contains(got, ">-")) {
			err = fmt.Errorf("they are %s", got)
		}
		return err
	})
	setNode(t, nodes["z"], corev1.ConditionTrue, "4")
	h.expect(own)

	h.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/outo" })
	h.expect("x>- 4, y>- 4, z>- 3")
	if c := h.expectCondition(metav1.ConditionFalse, "UnknownMode"); !strings.Contains(c.Message, "outo") {
		t.Errorf("the message %q does not name the value", c.Message)
	}
	h.expectEvent("TopologyHintsOff", "outo")
	h.change(func(s *corev1.Service) {
		s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/auto.bound-30.by-nodes"
	})
	h.expect(own)
	h.expectCondition(metav1.ConditionTrue, "BoundMet")
	h.expectEvent("TopologyHintsSet", "BoundMet")
	h.change(func(s *corev1.Service) { delete(s.Annotations, corev1.AnnotationTopologyMode) })
	h.expect("x>- 4, y>- 4, z>- 3")
	h.expectCondition("", "")
}

// installWebhook applies the webhooks of config/overlays/coexist, which are reached at an address, until the test ends or
// remove is called.
func installWebhook(t *testing.T, address string) (removeWebhook func()) {
	t.Helper()
	objects, err := kustomize("config/overlays/coexist")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() != "MutatingWebhookConfiguration" {
			continue
		}
		hooks := &admissionv1.MutatingWebhookConfiguration{}
		convert(t, object, hooks)
		for i := range hooks.Webhooks {
			c := &hooks.Webhooks[i].ClientConfig
			url := "https://" + address + *c.Service.Path
			c.Service, c.URL = nil, &url
		}
		create(t, hooks)
		removeWebhook = func() { remove(t, hooks) }
		t.Cleanup(removeWebhook)
	}
	return removeWebhook
}

// ourWrites counts the updates of slices that the manager made so far.
func ourWrites(t *testing.T, ns string) int {
	t.Helper()
	n := 0
	for _, e := range asked(t, "fairlead-system:fairlead-manager") {
		if ref := e.ObjectRef; e.Verb == "update" && ref != nil && ref.Resource == "endpointslices" && ref.Namespace == ns && e.ResponseStatus.Code == http.StatusOK {
			n++
		}
	}
	return n
}

// TestTopologyBesideUpstream: the real kube-controller-manager writes the slices, at every sync without the hints, and
// they stay. Neither makes the other write without end.
func TestTopologyBesideUpstream(t *testing.T) {
	needsAPIServer(t)
	nodes := zoned(t)
	address := freeAddress(t)
	removeWebhook := installWebhook(t, address)
	upstream := startUpstream(t, "endpointslice-controller", "endpoint_slice")
	startManager(t, "--leader-elect=false", "--mode=Coexist", "--webhook-bind-address="+address)
	h := newHinted(t)
	h.expect(own)
	h.expectCondition(metav1.ConditionTrue, "BoundRaised")
	upstream.idle(t, 1)

	// Each change of a label has every slice written.
	before := ourWrites(t, h.namespace)
	watch := h.watch()
	const syncs = 20
	for i := range syncs {
		want := fmt.Sprint("n", i)
		h.change(func(s *corev1.Service) { s.Labels["sync"] = want })
		eventually(t, waitFor, "a sync", func() error {
			all, err := slicesOf(t.Context(), h.namespace, "web")
			if err == nil && all[0].Labels["sync"] != want {
				err = fmt.Errorf("the label is %q", all[0].Labels["sync"])
			}
			return err
		})
	}
	upstream.idle(t, 1)
	for _, seen := range watch() {
		if seen != own {
			t.Errorf("hints were %s for a while", seen)
		}
	}
	if n := ourWrites(t, h.namespace) - before; n > 0 {
		t.Errorf("we wrote %d times for %d syncs", n, syncs)
	}

	// An endpoint that goes costs one write of ours at most, one that comes back too.
	watch = h.watch()
	setReady(t, h.pods["z"][0], corev1.ConditionFalse)
	eventually(t, waitFor, "help for zone z", func() error {
		got, _, err := h.hints()
		if err == nil && !strings.Contains(got, "x>z 1") && !strings.Contains(got, "y>z 1") {
			err = fmt.Errorf("hints are %s", got)
		}
		return err
	})
	setReady(t, h.pods["z"][0], corev1.ConditionTrue)
	h.expect(own)
	upstream.idle(t, 1)
	if n := ourWrites(t, h.namespace) - before; n > 2 {
		t.Errorf("we wrote %d times for two changes", n)
	}
	// kube-controller-manager owns the list again with the first write after ours, which is one more version.
	versions := watch()
	if len(versions) > 6 {
		t.Errorf("two changes made %d versions: %v", len(versions), versions)
	}
	for _, seen := range versions {
		if strings.Contains(seen, ">-") {
			t.Errorf("endpoints were without hints for a while: %s", seen)
		}
	}

	// Capacity that goes is followed, too, and then there is peace.
	setNode(t, nodes["z"], corev1.ConditionFalse, "4")
	eventually(t, waitFor, "hints without zone z", func() error {
		got, _, err := h.hints()
		if err == nil && (strings.Contains(got, ">z") || strings.Contains(got, ">-")) {
			err = fmt.Errorf("they are %s", got)
		}
		return err
	})
	upstream.idle(t, 1)
	all, err := slicesOf(t.Context(), h.namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	upstream.idle(t, 1)
	later, err := slicesOf(t.Context(), h.namespace, "web")
	if err != nil || later[0].ResourceVersion != all[0].ResourceVersion {
		t.Errorf("the slice is written on and on (%v)", err)
	}
	setNode(t, nodes["z"], corev1.ConditionTrue, "4")
	h.expect(own)

	t.Run("WithoutLabel", func(t *testing.T) {
		h.T = t
		h.change(func(s *corev1.Service) {
			delete(s.Labels, fairleadv1alpha1.LabelTopologyHints)
			s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/auto"
		})
		h.expect("x>- 4, y>- 4, z>- 3")
		if c := h.expectCondition(metav1.ConditionFalse, "NotLabelled"); !strings.Contains(c.Message, fairleadv1alpha1.LabelTopologyHints) {
			t.Errorf("the message %q does not say what to do", c.Message)
		}
		h.change(func(s *corev1.Service) { s.Labels[fairleadv1alpha1.LabelTopologyHints] = "true" })
		h.expect(own)
		h.expectCondition(metav1.ConditionTrue, "BoundRaised")
	})
	t.Run("WithoutWebhook", func(t *testing.T) {
		h.T = t
		upstream.idle(t, 1)
		removeWebhook()
		before := ourWrites(t, h.namespace)
		h.change(func(s *corev1.Service) { s.Labels["sync"] = "end" })
		h.expectCondition(metav1.ConditionFalse, "HintsRemoved")
		h.expectEvent("TopologyHintsOff", "webhook")
		upstream.idle(t, 1)
		if n := ourWrites(t, h.namespace) - before; n > 12 {
			t.Errorf("we wrote %d times against kube-controller-manager", n)
		}
	})
}

// watch notes the hints of every version of the Service's only slice from now on; the function that it returns ends that
// once the newest version has come, and returns them.
func (h *hinted) watch() (end func() []string) {
	h.Helper()
	all, err := slicesOf(h.Context(), h.namespace, h.service.Name)
	if err != nil || len(all) != 1 {
		h.Fatalf("%d slices: %v", len(all), err)
	}
	c, err := client.NewWithWatch(suite.config, client.Options{Scheme: suite.admin.Scheme()})
	if err != nil {
		h.Fatal(err)
	}
	name := all[0].Name
	versions, err := c.Watch(h.Context(), &discoveryv1.EndpointSliceList{}, client.InNamespace(h.namespace),
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: all[0].ResourceVersion}}, client.MatchingFields{"metadata.name": name})
	if err != nil {
		h.Fatal(err)
	}
	return func() []string {
		h.Helper()
		defer versions.Stop()
		slice := &discoveryv1.EndpointSlice{}
		get(h.T, h.namespace, name, slice)
		var seen []string
		for last := all[0].ResourceVersion; last != slice.ResourceVersion; {
			select {
			case event, open := <-versions.ResultChan():
				is, ok := event.Object.(*discoveryv1.EndpointSlice)
				if !open || !ok {
					h.Fatalf("the watch ended: %+v", event)
				}
				last = is.ResourceVersion
				seen = append(seen, describeHints(*is))
			case <-time.After(waitFor):
				h.Fatal("the watch does not bring the newest version")
			}
		}
		return seen
	}
}
