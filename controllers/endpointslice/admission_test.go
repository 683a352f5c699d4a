package endpointslice

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAdmissionLabels: where an admission policy adds a label to all slices, a change writes the slice that it concerns
// and no other.
func TestAdmissionLabels(t *testing.T) {
	w := newWorld(t)
	w.Admit(`[JSONPatch{op: "add", path: "/metadata/labels/policy", value: "was-here"}]`,
		func(s *discoveryv1.EndpointSlice) bool { return s.Labels["policy"] == "was-here" })
	w.start(&Reconciler{MaxEndpointsPerSlice: 1, MaxBatchDelay: -1})
	n := w.node("a", "zone-a")
	w.service(nil)
	pods := map[string]*corev1.Pod{}
	want := []shown{}
	for name, ip := range map[string]string{"one": "10.244.0.1", "two": "10.244.0.2", "three": "10.244.0.3"} {
		pods[name] = w.pod(name, n.Name, ip)
		want = append(want, shown{ip, name, "zone-a", up, ""})
	}
	w.expect(want...)
	before := w.versions()
	// Later by more than a second, so that each slice that is written gets another time, and a version with it.
	two := pods["two"]
	two.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(time.Minute)),
	}}
	if err := w.Status().Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if want[i].Pod == "two" {
			want[i].Conditions = down
		}
	}
	w.expect(want...)
	after := w.versions()
	changed := 0
	for uid, version := range after {
		if before[uid] != version {
			changed++
		}
	}
	if len(after) != 3 || changed != 1 {
		t.Errorf("of %d slices %d were written, not 1 of 3", len(after), changed)
	}
}
