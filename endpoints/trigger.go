package endpoints

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TriggerTimes finds out, for one Service, when the change happened that the next write publishes. Its zero value has
// seen nothing. Like upstream's it sees states, not events: of several changes of one Pod between two calls of Note
// only the last counts.
type TriggerTimes struct {
	known    bool
	service  time.Time
	pods     map[string]time.Time
	earliest time.Time
}

// Note notes the state of a Pod that the Service has.
func (t *TriggerTimes) Note(pod *corev1.Pod) {
	now := readySince(pod)
	if now.IsZero() {
		t.Gone(pod.Name)
		return
	}
	t.consider(now, t.pods[pod.Name])
	if t.pods == nil {
		t.pods = map[string]time.Time{}
	}
	t.pods[pod.Name] = now
}

// Gone forgets a Pod that the Service does not have any more. If it comes back, it counts again.
func (t *TriggerTimes) Gone(podName string) { delete(t.pods, podName) }

// Only forgets all Pods but these, after the Service's selector has changed.
func (t *TriggerTimes) Only(pods []*corev1.Pod) {
	keep := make(map[string]struct{}, len(pods))
	for _, pod := range pods {
		keep[pod.Name] = struct{}{}
	}
	maps.DeleteFunc(t.pods, func(name string, _ time.Time) bool {
		_, kept := keep[name]
		return !kept
	})
}

func (t *TriggerTimes) consider(now, before time.Time) {
	if now.After(before) && (t.earliest.IsZero() || now.Before(t.earliest)) {
		t.earliest = now
	}
}

// Next returns the earliest time among what was noted since the last call: the Ready transitions of Pods, the creation
// of the Service. On the first call it is the Service's creation. Zero: nothing known has changed.
func (t *TriggerTimes) Next(service *corev1.Service) time.Time {
	created := service.CreationTimestamp.Time
	t.consider(created, t.service)
	next := t.earliest
	if !t.known {
		next = created
	}
	t.known, t.service, t.earliest = true, created, time.Time{}
	return next
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
