package endpointslice

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOwnership tells stories of foreign writes, each a slice, a manager and the seconds since the start.
func TestOwnership(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type write struct {
		slice, manager string
		after          time.Duration
	}
	cases := map[string]struct {
		reason string
		writes []write
		// at is when the question is asked, rest the answer, other whom the conflict is with.
		at, rest time.Duration
		other    string
	}{
		"None":  {reason: "Nobody else, no rest."},
		"One":   {reason: "One foreign edit is repaired.", writes: []write{{"a", "kubectl", 0}}},
		"Two":   {reason: "So are two.", writes: []write{{"a", "m", 0}, {"a", "m", time.Second}}, at: time.Second},
		"Three": {reason: "Three are a conflict.", writes: []write{{"a", "m", 0}, {"a", "m", time.Second}, {"a", "m", 59 * time.Second}}, at: 59 * time.Second, rest: conflictRest, other: "m"},
		"Slow":  {reason: "Three within more than a minute are none.", writes: []write{{"a", "m", 0}, {"a", "m", time.Second}, {"a", "m", time.Minute}}, at: time.Minute},
		"SlowThenFast": {
			reason: "What is too old does not count, what is not does.",
			writes: []write{{"a", "m", 0}, {"a", "m", 50 * time.Second}, {"a", "m", 70 * time.Second}, {"a", "m", 100 * time.Second}},
			at:     100 * time.Second, rest: conflictRest, other: "m",
		},
		"AllAtOnce": {
			reason: "One command that edits every slice of a Service is one edit.",
			writes: []write{{"a", "kubectl", 0}, {"b", "kubectl", 0}, {"c", "kubectl", 0}, {"d", "kubectl", 0}},
		},
		"ManyTwice": {
			reason: "Other slices do not add up.",
			writes: []write{{"a", "m", 0}, {"b", "m", 0}, {"a", "m", time.Second}, {"b", "m", time.Second}}, at: time.Second,
		},
		"Deletions": {
			reason: "Deletions count, and who deletes leaves no name.",
			writes: []write{{"a", "", 0}, {"a", "", time.Second}, {"a", "", 2 * time.Second}},
			at:     2 * time.Second, rest: conflictRest, other: someone,
		},
		"TwoOthers": {
			reason: "The last one is named.",
			writes: []write{{"a", "m", 0}, {"a", "n", time.Second}, {"a", "o", 2 * time.Second}},
			at:     3 * time.Second, rest: conflictRest - time.Second, other: "o",
		},
		"BusyOther": {
			reason: "The rest is not made longer by what happens in it.",
			writes: []write{{"a", "m", 0}, {"a", "m", 0}, {"a", "m", 0}, {"a", "m", time.Minute}, {"a", "m", time.Minute}, {"a", "m", time.Minute}},
			at:     5 * time.Minute, rest: 5 * time.Minute, other: "m",
		},
		"Over": {
			reason: "Then it is over.",
			writes: []write{{"a", "m", 0}, {"a", "m", 0}, {"a", "m", 0}}, at: conflictRest, other: "m",
		},
		"OverAndOne": {
			reason: "And it takes three again.",
			writes: []write{{"a", "m", 0}, {"a", "m", 0}, {"a", "m", 0}, {"a", "m", conflictRest}, {"a", "m", conflictRest}}, at: conflictRest, other: "m",
		},
		"Again": {
			reason: "Three again are a conflict again.",
			writes: []write{{"a", "m", 0}, {"a", "m", 0}, {"a", "m", 0}, {"a", "n", conflictRest}, {"a", "n", conflictRest}, {"a", "n", conflictRest}},
			at:     conflictRest, rest: conflictRest, other: "n",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var o ownership
			for _, w := range tc.writes {
				o.foreign(w.slice, w.manager, start.Add(w.after))
			}
			if rest := o.rest(start.Add(tc.at)); rest != tc.rest || o.other != tc.other {
				t.Errorf("%s Want %s of rest and %q, got %s and %q", tc.reason, tc.rest, tc.other, rest, o.other)
			}
		})
	}
}

func TestForeignWriter(t *testing.T) {
	entry := func(manager string, second int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC))
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Time: &at}
	}
	type entries = []metav1.ManagedFieldsEntry
	applied := entry("kubectl", 3)
	applied.Operation = metav1.ManagedFieldsOperationApply
	cases := map[string]struct {
		reason        string
		before, after entries
		want          string
	}{
		"Joined":     {"Someone new wrote.", entries{entry("us", 1)}, entries{entry("us", 1), entry("them", 2)}, "them"},
		"SameSecond": {"Someone new wrote within the second of ours.", entries{entry("us", 1)}, entries{entry("us", 1), entry("them", 1)}, "them"},
		"Renewed":    {"One that had written wrote again.", entries{entry("us", 3), entry("them", 2)}, entries{entry("us", 3), entry("them", 4)}, "them"},
		"OldLeader":  {"Another manager of ours wrote.", entries{entry("us", 1)}, entries{entry("us", 2)}, "us"},
		"OldLeaderAfterOther": {
			"Another manager of ours wrote, after someone whose annotation is still there.",
			entries{entry("us", 1), entry("kubectl", 2)}, entries{entry("us", 3), entry("kubectl", 2)}, "us",
		},
		"TheySecondWeFirst": {
			"Both wrote since, they last.",
			entries{entry("us", 1)}, entries{entry("us", 2), entry("them", 3)}, "them",
		},
		"BothInOneSecond": {"Both wrote in one second: it was not only us.", entries{entry("us", 1)}, entries{entry("us", 2), entry("them", 2)}, "them"},
		"TakenWhole":      {"They took all fields, and ours are gone.", entries{entry("us", 1)}, entries{entry("them", 1)}, "them"},
		"AgainInOneSecond": {
			"They wrote twice in one second, which no time shows.",
			entries{entry("us", 1), entry("them", 1)}, entries{entry("us", 1), entry("them", 1)}, "them",
		},
		"WeAgain":     {"We, as an earlier leader, wrote twice in one second.", entries{entry("us", 1)}, entries{entry("us", 1)}, "us"},
		"ByOperation": {"Update and apply are entries of their own.", entries{entry("us", 4), entry("kubectl", 3)}, entries{entry("us", 4), entry("kubectl", 3), applied}, "kubectl"},
		"Unknown":     {"A slice of which nothing was known.", nil, entries{entry("them", 1)}, "them"},
		"NoFields":    {"Whoever takes out managedFields stays unnamed, and so is taken for us.", entries{entry("us", 1)}, nil, "us"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := foreignWriter(tc.before, tc.after, "us"); got != tc.want {
				t.Errorf("%s Want %q, got %q", tc.reason, tc.want, got)
			}
		})
	}
}
