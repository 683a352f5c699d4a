package integration

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTopology: the manager as it is installed gives hints to 4/4/3 endpoints over three zones, says so, and says why
// not where a value is wrong.
func TestTopology(t *testing.T) {
	needsAPIServer(t)
	nodes := zoned(t)
	m := startManager(t, "--leader-elect=false")
	h := newHinted(t)
	h.expect(own)
	h.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/auto.bound-30" })
	h.expectCondition(metav1.ConditionTrue, "BoundMet")
	// An endpoint of zone z gets 22% more than an even share, and it cannot be less. The condition was there before all
	// endpoints were, and told of those that were.
	h.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "Auto" })
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
	h.expectNobodyServes("z")
	setNode(t, nodes["z"], corev1.ConditionTrue, "4")
	h.expect(own)

	h.change(func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/outo" })
	h.expect(none)
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
	h.expect(none)
	h.expectCondition("", "")
}
