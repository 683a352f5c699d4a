package endpoints

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TriggerTimes finds out, for one Service, when the change happened that the next write publishes. It remembers the
// Pods' times between calls; its zero value has seen nothing. Like upstream's it sees states, not events: of several
// changes of one Pod between two calls only the last counts.
type TriggerTimes struct {
	known   bool
	service time.Time
	pods    map[string]time.Time
}

// Next returns the earliest time among what changed since the last call: the Ready transitions of Pods, the creation
// of the Service. On the first call it is the Service's creation. Zero: nothing known has changed.
func (t *TriggerTimes) Next(service *corev1.Service, pods []*corev1.Pod) time.Time {
	var earliest time.Time
	consider := func(now, before time.Time) {
		if now.After(before) && (earliest.IsZero() || now.Before(earliest)) {
			earliest = now
		}
	}
	seen := make(map[string]time.Time, len(pods))
	for _, pod := range pods {
		if now := readySince(pod); !now.IsZero() {
			seen[pod.Name] = now
			consider(now, t.pods[pod.Name])
		}
	}
	created := service.CreationTimestamp.Time
	consider(created, t.service)
	first := !t.known
	t.known, t.service, t.pods = true, created, seen
	if first {
		return created
	}
	return earliest
}

// readySince returns when a Pod's Ready condition last changed, or zero.
func readySince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}
