package sync

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/model"
)

func TestLatencies(t *testing.T) {
	server := newAPIServer(t)
	r := start(t, server)
	r.eventually(t, "the first sync", func() bool { return len(r.syncs) == 1 })
	for name, at := range map[string]time.Time{"now": time.Now(), "long-ago": time.Now().Add(-time.Hour)} {
		s := endpointSlice(name, "web", "10.244.1.1")
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
		server.put("endpointslices", s)
	}
	server.put("endpointslices", endpointSlice("none", "web"))
	server.put("services", service("web", "10.96.0.1"))
	r.eventually(t, "the Service", r.serves("10.96.0.1:80"))
	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "a write that no slice is the reason of", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	var all []time.Duration
	for _, result := range see(r, func() []Result { return slices.Clone(r.results) }) {
		all = append(all, result.Latencies[4]...)
	}
	if len(all) != 1 || all[0] < 0 || all[0] >= time.Hour {
		t.Errorf("latencies %v, want one, of the change after the start", all)
	}
}

// TestTriggersAreBounded: while nothing can be written, what waits to be reported does not grow for ever.
func TestTriggersAreBounded(t *testing.T) {
	l := New(Options{Model: model.Options{NodeName: "n1"}})
	s := endpointSlice("web-1", "web", "10.244.1.1")
	s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
	for range maxTriggers + 10 {
		l.trigger(s)
	}
	if n := len(l.triggers[4]); n != maxTriggers {
		t.Errorf("%d latencies wait, want %d", n, maxTriggers)
	}
}
