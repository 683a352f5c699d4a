package apiserver

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Passes counts the passes of controllers so far, in all tests, by how they ended: success, requeue_after, error.
func Passes(t *testing.T, result string) float64 {
	t.Helper()
	return Metric(t, "controller_runtime_reconcile_total", result)
}

// Metric is the sum of a counter or gauge, over those of its samples that have a label with this value, or over all
// where it is empty.
func Metric(t *testing.T, name, value string) (sum float64) {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			found := value == ""
			for _, label := range m.GetLabel() {
				found = found || label.GetValue() == value
			}
			if found {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
