package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// The hints of a Service as newHinted makes it: ours, and none.
const (
	own  = "x>x 4, y>y 4, z>z 3"
	none = "x>- 4, y>- 4, z>- 3"
)

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

// expectNobodyServes waits until all ready endpoints have hints, and none for a zone.
func (h *hinted) expectNobodyServes(zone string) {
	h.Helper()
	eventually(h.T, waitFor, "hints without zone "+zone, func() error {
		got, _, err := h.hints()
		if err == nil && (strings.Contains(got, ">"+zone) || strings.Contains(got, ">-")) {
			err = fmt.Errorf("they are %s", got)
		}
		return err
	})
}

// sync has upstream write the slices, by a label of the Service that it copies.
func (h *hinted) sync(label string) {
	h.Helper()
	h.change(func(s *corev1.Service) { s.Labels["sync"] = label })
	eventually(h.T, waitFor, "a sync", func() error {
		_, all, err := h.hints()
		if err == nil && all[0].Labels["sync"] != label {
			err = fmt.Errorf("the label is %q", all[0].Labels["sync"])
		}
		return err
	})
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
