package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/dataplane/conntrack"
)

func TestFlowMetrics(t *testing.T) {
	h, _ := newHealth(t)
	h.FlowsCleaned(conntrack.Report{Family: 4, Took: 3 * time.Millisecond, Deleted: 5, Reset: 2})
	h.FlowsCleaned(conntrack.Report{Family: 4, Took: 3 * time.Millisecond, Deleted: 1, Err: errors.New("no")})
	h.FlowsCleaned(conntrack.Report{Family: 4, Took: 3 * time.Millisecond})
	text := get(t, loopback(t, h, Loopback{}), "/metrics").Body.String()
	for _, line := range []string{
		`kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 6`,
		`kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 0`,
		`kubeproxy_conntrack_reconciler_sync_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 3`,
		`fairlead_conntrack_resets_total{ip_family="IPv4"} 2`,
		`fairlead_conntrack_failures_total{ip_family="IPv4"} 1`,
		`fairlead_conntrack_failures_total{ip_family="IPv6"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}
