package loadbalancer

import (
	"slices"
	"testing"
	"time"
)

// TestManagersListApart: managers that start at once in one account do not list everything at once, when they start or later.
func TestManagersListApart(t *testing.T) {
	t.Parallel()
	const managers = 100
	first, later := make([]time.Duration, 0, managers), make([]time.Duration, 0, managers)
	for range managers {
		r := &Reconciler{Providers: providers{}}
		r.prepare()
		r.wakeSweep = func(_ string, after time.Duration) { first = append(first, after) }
		for range 2 {
			r.sweepOnce(emptyCloud)
		}
		// Nobody has this provider, so that all that comes of it is when to look again.
		result, err := (&sweepReconciler{r}).Reconcile(t.Context(), named("", "nobody's"))
		if err != nil {
			t.Fatal(err)
		}
		later = append(later, result.RequeueAfter)
	}
	for name, tc := range map[string]struct {
		after       []time.Duration
		least, most time.Duration
	}{
		"First": {first, 0, time.Second},
		"Later": {later, 9 * time.Minute, 11 * time.Minute},
	} {
		least, most := slices.Min(tc.after), slices.Max(tc.after)
		if len(tc.after) != managers || least < tc.least || most > tc.most || most-least < (tc.most-tc.least)/2 {
			t.Errorf("%s: %d managers list %d times, after %v to %v", name, managers, len(tc.after), least, most)
		}
	}
}
