package cloud

import (
	"context"
	"slices"
	"testing"
)

// slow is a provider whose cloud takes its time for what it makes under one key.
type slow struct {
	Provider
	pending string
	asked   []string
}

func (s *slow) Create(_ context.Context, _ Owner, r Resource) (Resource, error) {
	r.ID, r.State = "new", StateReady
	if r.Key == s.pending {
		r.State = StatePending
	}
	return r, nil
}

func (s *slow) Update(_ context.Context, _ Owner, _, r Resource) error {
	s.asked = append(s.asked, "Update "+r.Name())
	return nil
}

func (s *slow) Delete(_ context.Context, _ Owner, r Resource) error {
	s.asked = append(s.asked, "Delete "+r.Name())
	return nil
}

// TestApplyWaits: what runs on something is not deprived of it while the cloud makes what it is to run on.
func TestApplyWaits(t *testing.T) {
	desired := []Resource{want("A", "2"), want("B", "1", on("A", "2", false)), want("C", "1", on("B", "1", false))}
	observed := []Resource{have("A", "1"), have("A", "3"), have("B", "1", on("A", "1", false)), have("C", "2", on("B", "1", false))}
	plan, err := Diff(us, desired, observed, "")
	if err != nil {
		t.Fatal(err)
	}
	for pending, want := range map[string][]string{
		"":  {"Update B/1", "Delete C/2", "Delete A/1", "Delete A/3"},
		"2": {"Delete C/2", "Delete A/3"},
	} {
		p := &slow{pending: pending}
		if _, err := Apply(t.Context(), p, us, plan); err != nil {
			t.Error(err)
		}
		if !slices.Equal(want, p.asked) {
			t.Errorf("with %q pending it did %q, want %q", pending, p.asked, want)
		}
	}
}
