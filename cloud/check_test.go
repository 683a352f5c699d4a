package cloud

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// checking is a provider with one owner's resources, which looks before something goes.
type checking struct {
	Provider
	observed []Resource
	refusal  error
	creating map[string]error // by key
	asked    []string
	deleted  int
	synced   int
}

func (c *checking) Capabilities() Capabilities                         { return Capabilities{} }
func (c *checking) Observe(context.Context, Owner) ([]Resource, error) { return c.observed, nil }
func (c *checking) Classify(err error) *Error                          { return Classify(err) }
func (c *checking) Create(_ context.Context, _ Owner, r Resource) (Resource, error) {
	return r, c.creating[r.Key]
}
func (c *checking) SyncTargets(context.Context, []TargetChange) []error { c.synced++; return nil }
func (c *checking) Delete(context.Context, Owner, Resource) error       { c.deleted++; return nil }
func (c *checking) Check(_ context.Context, _ Owner, desired Resource, replaced []Resource) error {
	names := []string{desired.Name()}
	for _, r := range replaced {
		names = append(names, r.ID)
	}
	c.asked = append(c.asked, List(names))
	return c.refusal
}

func TestRefused(t *testing.T) {
	square := []Resource{want("A", "1", fixed, attribute("shape", "square")), want("B", "1", on("A", "1", true), targets("x", "y"))}
	round := []Resource{have("A", "1"), have("B", "1", on("A", "1", true), targets("x"))}
	for name, tc := range map[string]struct {
		reason      string
		refusal     error
		replacement v1alpha1.Replacement
		asked       []string
		left        []string
		class       Class
		deleted     int
	}{
		"Allowed":   {"what can be had replaces what there is", nil, v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, nil, "", 2},
		"Mistake":   {"what cannot be had replaces nothing, and targets follow", Errorf(UserError, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, []string{"SyncTargets B/1: targets +1 -0", "blocked A/1 Refused"}, "", 0},
		"Taken":     {"nor does what is another's", Errorf(Conflict, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, []string{"SyncTargets B/1: targets +1 -0", "blocked A/1 Refused"}, "", 0},
		"Full":      {"nor what there is no room for", Errorf(Quota, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, []string{"SyncTargets B/1: targets +1 -0", "blocked A/1 Refused"}, "", 0},
		"Unknown":   {"what could not be looked at is tried again, and targets follow", Errorf(Retry, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, []string{"SyncTargets B/1: targets +1 -0"}, Retry, 0},
		"NoRight":   {"so is what nobody may look at", Errorf(RetryAfter, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, []string{"SyncTargets B/1: targets +1 -0"}, RetryAfter, 0},
		"Throttled": {"a cloud that throttles is asked for nothing", Errorf(Throttled, "no"), v1alpha1.ReplacementRecreate, []string{"A/1,a-1,b-1"}, nil, Throttled, 0},
		"Forbidden": {"nobody asks for what is not allowed", Errorf(UserError, "no"), v1alpha1.ReplacementNever, nil, []string{"SyncTargets B/1: targets +1 -0", "blocked A/1 Replacement"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &checking{observed: round, refusal: tc.refusal}
			out, err := Converge(t.Context(), Limited(p, Limits{}), us, square, Options{Replacement: tc.replacement})
			if (tc.class != "") != IsClass(err, tc.class) || tc.class == "" && err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
			if tc.left != nil {
				if diff := cmp.Diff(tc.left, lines(out.Left)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
			}
			if (tc.class == Throttled) == (p.synced > 0) {
				t.Errorf("%s: targets were changed %d times", tc.reason, p.synced)
			}
			slices.Sort(p.asked)
			if asked := slices.Compact(p.asked); !slices.Equal(tc.asked, asked) || p.deleted/max(1, tc.deleted) > 1 || (p.deleted > 0) != (tc.deleted > 0) {
				t.Errorf("%s: asked %q and deleted %d", tc.reason, p.asked, p.deleted)
			}
		})
	}
}

// TestFailedIsNotReplaced: what has failed goes, whether or not what takes its place can be had: nobody is asked, and nothing is held.
func TestFailedIsNotReplaced(t *testing.T) {
	wants := []Resource{want("A", "1", fixed), want("B", "1", on("A", "1", true), targets("x"))}
	p := &checking{observed: []Resource{have("A", "1", in(StateFailed)), have("B", "1", on("A", "1", true), targets("x"))}, refusal: Errorf(UserError, "no")}
	out, err := Converge(t.Context(), p, us, wants, Options{Replacement: v1alpha1.ReplacementRecreate})
	if err != nil || len(p.asked) > 0 || len(out.Left.Blocked) > 0 || p.deleted != 2 {
		t.Errorf("%v, asked %q, blocked %+v, deleted %d", err, p.asked, out.Left.Blocked, p.deleted)
	}
}

// TestAllowed: what a replacement would do is known where it is not allowed, and where that would help.
func TestAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		have Resource
		want []string
	}{
		"Own":  {have("A", "1"), []string{"Delete A/1 a-1", "Create A/1"}},
		"Lent": {have("A", "1", lent("a-1")), nil},
		"Same": {have("A", "1", attribute("shape", "square")), nil},
	} {
		out, err := Compare(us, []Resource{want("A", "1", fixed, attribute("shape", "square"))}, []Resource{tc.have}, Options{})
		if diff := cmp.Diff(tc.want, lines(Plan{Operations: out.Allowed})); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestMessages(t *testing.T) {
	blocked := []Block{{Subject: "A/1 (size)", Message: "A/1 (size) cannot change"}, {Subject: "B/1", Message: "B/1 is there"},
		{Subject: "A/2 (size)", Message: "A/2 (size) cannot change"}, {Message: "x is not adopted"}, {Subject: "A/3", Message: "A/3 cannot change"}}
	if got, want := Messages(blocked), "A/1 (size), A/2 (size) and A/3 cannot change; B/1 is there; x is not adopted"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWorking: whatever fails, it is told that something else is not done yet.
func TestWorking(t *testing.T) {
	mistake, pending := Errorf(UserError, "no"), Errorf(Pending, "gathered")
	for name, tc := range map[string]struct {
		creating map[string]error
		class    Class
		want     bool
	}{
		"Mistake": {map[string]error{"1": mistake}, UserError, false},
		"Both":    {map[string]error{"1": mistake, "2": pending}, UserError, true},
		"Pending": {map[string]error{"2": pending}, Pending, true},
	} {
		out, err := Converge(t.Context(), &checking{creating: tc.creating}, us, []Resource{want("A", "1"), want("A", "2")}, Options{})
		if !IsClass(err, tc.class) || out.Working != tc.want {
			t.Errorf("%s: %v, working: %t", name, err, out.Working)
		}
	}
}
