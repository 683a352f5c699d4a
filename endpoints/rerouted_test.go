package endpoints

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestRerouted says of each change of one Pod whether it may wait, since traffic goes where it went before.
func TestRerouted(t *testing.T) {
	pod := func(options ...podOption) *corev1.Pod { return newPod(1, options...) }
	cases := map[string]struct {
		reason string
		// others is whether another Pod is ready.
		others      bool
		publish     bool
		before, now *corev1.Pod
		want        bool
	}{
		"NotReadyYet":     {"A new Pod is not ready yet.", true, false, nil, pod(setReady(false)), false},
		"GetsReady":       {"It gets ready.", true, false, pod(setReady(false)), pod(), true},
		"FirstNotReady":   {"Nothing serves, this one neither.", false, false, nil, pod(setReady(false)), false},
		"StopsBeingReady": {"It stops being ready.", true, false, pod(), pod(setReady(false)), true},
		"Leaves":          {"It is deleted with grace.", true, false, pod(), pod(terminating), true},
		"Left":            {"It has been leaving and is gone.", true, false, pod(terminating), nil, false},
		"LastLeft":        {"It was leaving, but all that served.", false, false, pod(terminating), nil, true},
		"NeverReadyGone":  {"It never was ready and is gone.", true, false, pod(setReady(false)), nil, false},
		"Crashed":         {"It is gone at once.", true, false, pod(), nil, true},
		"Published":       {"With publishNotReadyAddresses every endpoint is ready.", true, true, nil, pod(setReady(false)), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			service := newService()
			service.Spec.PublishNotReadyAddresses = tc.publish
			set := NewSet(service, SetOptions{})
			if !set.Rerouted() {
				t.Error("a new set has nothing to say")
			}
			if tc.others {
				set.Put(newPod(2), Zone{})
			}
			if tc.before != nil {
				set.Put(tc.before, Zone{})
			}
			set.Rerouted()
			if set.Rerouted() {
				t.Error("what was told once is told again")
			}
			if tc.now != nil {
				set.Put(tc.now, Zone{})
			} else {
				set.Delete(pod().Name)
			}
			if got := set.Rerouted(); got != tc.want {
				t.Errorf("%s Want %v, got %v", tc.reason, tc.want, got)
			}
		})
	}
}
