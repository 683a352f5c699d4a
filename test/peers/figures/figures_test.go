package figures

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLatency(t *testing.T) {
	upTo := func(n int) []time.Duration {
		values := make([]time.Duration, 0, n)
		for i := n; i >= 1; i-- {
			values = append(values, time.Duration(i)*time.Second)
		}
		return values
	}
	for name, tc := range map[string]struct {
		values []time.Duration
		want   Latency
	}{
		"None":    {},
		"One":     {values: upTo(1), want: Latency{Count: 1, P50: 1, P99: 1, Max: 1}},
		"Two":     {values: upTo(2), want: Latency{Count: 2, P50: 1, P99: 2, Max: 2}},
		"Hundred": {values: upTo(100), want: Latency{Count: 100, P50: 50, P99: 99, Max: 100}},
		"More":    {values: upTo(101), want: Latency{Count: 101, P50: 51, P99: 100, Max: 101}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Summarize(tc.values)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []int
		want   int
	}{{[]int{7}, 7}, {[]int{9, 1}, 1}, {[]int{5, 9, 1}, 5}, {[]int{4, 3, 2, 1}, 2}} {
		if got := Median(tc.values); got != tc.want {
			t.Errorf("of %v: %d, want %d", tc.values, got, tc.want)
		}
	}
}
