package cloud

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

var (
	us   = Owner{ClusterID: "c", ServiceUID: "u", Namespace: "shop", Name: "cart"}
	them = Owner{ClusterID: "c", ServiceUID: "v"}

	earlier = Owner{ClusterID: "c", ServiceUID: "a"}
)

// want makes a desired resource; have an observed one of ours, with the id "kind-key".
func want(kind, key string, edit ...func(*Resource)) Resource {
	r := Resource{Kind: kind, Key: key, Attributes: map[string]string{"size": "1", "shape": "round"}, Immutable: []string{"shape"}}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func have(kind, key string, edit ...func(*Resource)) Resource {
	r := want(kind, key)
	r.Immutable, r.ID, r.State, r.Owners = nil, strings.ToLower(kind)+"-"+key, StateReady, []OwnerID{us.ID()}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func on(kind, key string, parent bool) func(*Resource) {
	return func(r *Resource) {
		ref := Ref{Kind: kind, Key: key, Parent: parent}
		if r.ID != "" {
			ref.ID = strings.ToLower(kind) + "-" + key
		}
		r.DependsOn = append(r.DependsOn, ref)
	}
}

func excludes(names ...string) func(*Resource) { return func(r *Resource) { r.Excludes = names } }

func attribute(name, value string) func(*Resource) {
	return func(r *Resource) { r.Attributes[name] = value }
}

func targets(ids ...string) func(*Resource) {
	return func(r *Resource) {
		r.HasTargets = true
		for _, id := range ids {
			r.Targets = append(r.Targets, Target{ID: id})
		}
	}
}

func in(state State) func(*Resource) { return func(r *Resource) { r.State = state } }
func follows(names ...string) func(*Resource) {
	return func(r *Resource) { r.Follows = names }
}
func id(id string) func(*Resource)       { return func(r *Resource) { r.ID = id } }
func of(owners ...Owner) func(*Resource) { return func(r *Resource) { r.Owners = ownerIDs(owners) } }
func fixed(r *Resource)                  { r.Fixed = true }
func beside(r *Resource)                 { r.Beside = true }
func shared(r *Resource)                 { r.Shared = true }
func ownerIDs(owners []Owner) (ids []OwnerID) {
	for _, o := range owners {
		ids = append(ids, o.ID())
	}
	return ids
}

// lines describes a plan in short.
func lines(p Plan) []string {
	var out []string
	for _, op := range p.Operations {
		line := fmt.Sprintf("%s %s", op.Action, op.Resource.Name())
		if op.Action == ActionDelete || op.Action == ActionUpdate {
			line += " " + op.Resource.ID
		}
		if op.Action != ActionCreate && op.Action != ActionDelete {
			line += ": " + op.Reason
		}
		out = append(out, line)
	}
	for _, b := range p.Blocked {
		out = append(out, "blocked "+b.Resource+" "+string(b.Reason))
	}
	for _, w := range p.Waiting {
		out = append(out, "waiting "+w)
	}
	return out
}

func TestDiff(t *testing.T) {
	cases := map[string]struct {
		reason      string
		desired     []Resource
		observed    []Resource
		replacement v1alpha1.Replacement
		want        []string
	}{
		"Same": {
			reason:  "nothing differs; attributes that nobody wants are the cloud's own business",
			desired: []Resource{want("A", "1"), want("B", "1", on("A", "1", false), targets("x"))},
			observed: []Resource{have("B", "1", on("A", "1", false), targets("x")),
				have("A", "1", attribute("created", "yesterday"))},
		},
		"Create": {
			reason:  "dependencies first, whatever the order given; targets before what comes after",
			desired: []Resource{want("A", "2", on("B", "1", false)), want("B", "1", targets("y", "x"))},
			want:    []string{"Create B/1", "SyncTargets B/1: targets +2 -0", "Create A/2"},
		},
		"Update": {
			reason:   "what can change in place does",
			desired:  []Resource{want("A", "1", attribute("size", "2"))},
			observed: []Resource{have("A", "1")},
			want:     []string{"Update A/1 a-1: changing size"},
		},
		"Targets": {
			reason:   "targets alone are no update",
			desired:  []Resource{want("A", "1", targets("y", "z"))},
			observed: []Resource{have("A", "1", targets("x", "y"))},
			want:     []string{"SyncTargets A/1: targets +1 -1"},
		},
		"Delete": {
			reason:   "dependents first",
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", false)), have("C", "1", on("B", "1", true))},
			want:     []string{"Delete C/1 c-1", "Delete B/1 b-1", "Delete A/1 a-1"},
		},
		"Replace": {
			reason:   "created, then what points to it is moved, then the old one is deleted",
			desired:  []Resource{want("A", "1", attribute("shape", "square")), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", false))},
			want:     []string{"Create A/1", "Update B/1 b-1: changing A/1", "Delete A/1 a-1"},
		},
		"ReplaceResumed": {
			reason:  "after a crash between the steps there are two: the right one stays",
			desired: []Resource{want("A", "1", attribute("shape", "square")), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1"), have("A", "1", attribute("shape", "square"), id("a-new")),
				have("B", "1", on("A", "1", false))},
			want: []string{"Update B/1 b-1: changing A/1", "Delete A/1 a-1"},
		},
		"ReplacePending": {
			reason:  "the old one stays as long as the new one is not ready",
			desired: []Resource{want("A", "1", attribute("shape", "square")), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1"), have("A", "1", attribute("shape", "square"), id("a-new"), in(StatePending)),
				have("B", "1", on("A", "1", false))},
			want: []string{"waiting A/1"},
		},
		"ChildOfReplaced": {
			reason:   "what lives inside is made anew inside the new one",
			desired:  []Resource{want("A", "1", attribute("shape", "square")), want("B", "1", on("A", "1", true))},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", true))},
			want:     []string{"Create A/1", "Create B/1", "Delete B/1 b-1", "Delete A/1 a-1"},
		},
		"Fixed": {
			reason: "the address is not given up, and nothing else changes, is made or goes, whatever its place in the order",
			desired: []Resource{want("A", "1", fixed, attribute("shape", "square"), attribute("size", "2")), want("B", "1", on("A", "1", false), attribute("size", "3")),
				want("0", "new"), want("C", "new")},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", false)), have("0", "old"), have("C", "old")},
			want:     []string{"blocked A/1 Replacement"},
		},
		"FixedFollowsNodes": {
			reason: "targets of what is there follow the nodes; what is broken is not made anew before the rest is",
			desired: []Resource{want("A", "1", fixed, attribute("shape", "square")), want("S", "1", targets("y")), want("S", "2", targets("y")),
				want("S", "3", targets("y"))},
			observed: []Resource{have("A", "1", on("S", "1", false)), have("S", "1", targets("x")), have("S", "3", in(StateFailed))},
			want:     []string{"SyncTargets S/1: targets +1 -1", "blocked A/1 Replacement"},
		},
		"FixedFollowsCluster": {
			reason: "what has to follow the cluster does, also of what is blocked itself, and nothing else of the same resources",
			desired: []Resource{want("A", "1", fixed, follows("probe"), attribute("shape", "square"), attribute("size", "2"), attribute("probe", "y")),
				want("H", "1", follows("size", "none"), attribute("size", "2"), attribute("none", "1")), want("H", "2", follows("probe"), attribute("size", "2"))},
			observed: []Resource{have("A", "1", attribute("probe", "x")), have("H", "1"), have("H", "2")},
			want:     []string{"Update A/1 a-1: changing probe", "Update H/1 h-1: changing size", "blocked A/1 Replacement"},
		},
		"FixedFollowsZones": {
			reason: "sets of nodes that are all Services' are made and pointed to, beside what was pointed to",
			desired: []Resource{want("A", "1", fixed, attribute("shape", "square"), on("S", "1", false), on("S", "2", false), on("B", "2", false)),
				want("S", "1", shared, targets("y")), want("S", "2", shared, targets("y")), want("B", "2")},
			observed: []Resource{have("A", "1", on("S", "3", false)), have("S", "1", shared, of(them), targets("y")), have("S", "3", shared, targets("x"))},
			want: []string{"Update S/1 s-1: changing owners", "Create S/2", "SyncTargets S/2: targets +1 -0", "Update A/1 a-1: changing S/1, S/2",
				"blocked A/1 Replacement"},
		},
		"FixedForgetsZones": {
			reason:  "sets that are wanted no more, beside others that are, keep no nodes, once what comes is there",
			desired: []Resource{want("A", "1", fixed, attribute("shape", "square"), on("S", "1", false)), want("S", "1", shared, targets("y"))},
			observed: []Resource{have("A", "1", on("S", "1", false), on("S", "2", false)), have("S", "1", shared, targets("y")), have("S", "2", shared, targets("x")),
				have("S", "3", shared), have("S", "4", shared, of(them), targets("z")), have("S", "5", targets("z")), have("T", "1", shared, targets("z"))},
			want: []string{"SyncTargets S/2: targets +0 -1", "blocked A/1 Replacement"},
		},
		"FixedRecreate": {
			reason:      "with consent it is deleted first, with what depends on it",
			desired:     []Resource{want("A", "1", fixed, attribute("shape", "square")), want("B", "1", on("A", "1", false))},
			observed:    []Resource{have("A", "1"), have("B", "1", on("A", "1", false))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"Delete B/1 b-1", "Delete A/1 a-1", "Create A/1", "Create B/1"},
		},
		"FixedBeside": {
			reason:   "without consent it stays, whether another one could stand beside it or not",
			desired:  []Resource{want("A", "1", fixed, beside, attribute("shape", "square")), want("B", "1", on("A", "1", true))},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", true))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"FixedBesideRecreate": {
			reason:      "with consent the other one is made first",
			desired:     []Resource{want("A", "1", fixed, beside, attribute("shape", "square")), want("B", "1", on("A", "1", true))},
			observed:    []Resource{have("A", "1"), have("B", "1", on("A", "1", true))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"Create A/1", "Create B/1", "Delete B/1 b-1", "Delete A/1 a-1"},
		},
		"FixedBesidePending": {
			reason:  "and nothing goes before it is ready",
			desired: []Resource{want("A", "1", fixed, beside, attribute("shape", "square")), want("B", "1", on("A", "1", true))},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", true)),
				have("A", "1", attribute("shape", "square"), id("a-new"), in(StatePending))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"waiting A/1"},
		},
		"FixedBesideFailed": {
			reason:  "where it fails it is made again",
			desired: []Resource{want("A", "1", fixed, beside, attribute("shape", "square"))},
			observed: []Resource{have("A", "1"),
				have("A", "1", attribute("shape", "square"), id("a-new"), in(StateFailed))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"Delete A/1 a-new", "Create A/1", "Delete A/1 a-1"},
		},
		"SharedFixedBeside": {
			reason:      "what others use is not replaced under them",
			desired:     []Resource{want("A", "1", fixed, beside, shared, attribute("shape", "square"))},
			observed:    []Resource{have("A", "1", shared, of(us, them))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"blocked A/1 Replacement"},
		},
		"Foreign": {
			reason:   "what is somebody else's is left alone, and so is what would need it",
			desired:  []Resource{want("A", "1"), want("B", "1", on("A", "1", false)), want("C", "1")},
			observed: []Resource{have("A", "1", of(them)), have("D", "1", of(them)), have("E", "1", of())},
			want:     []string{"Create C/1", "blocked A/1 Foreign"},
		},
		"SharedJoin": {
			reason:   "a shared resource is joined",
			desired:  []Resource{want("A", "1", shared)},
			observed: []Resource{have("A", "1", of(them))},
			want:     []string{"Update A/1 a-1: changing owners"},
		},
		"SharedOfAnotherCluster": {
			reason:   "but never that of another cluster",
			desired:  []Resource{want("A", "1", shared)},
			observed: []Resource{have("A", "1", of(them, Owner{ClusterID: "d", ServiceUID: "w"}))},
			want:     []string{"blocked A/1 Foreign"},
		},
		"SharedFollower": {
			reason:   "whoever comes later takes it as it is, and is told",
			desired:  []Resource{want("A", "1", shared, attribute("size", "2"))},
			observed: []Resource{have("A", "1", of(earlier))},
			want:     []string{"Update A/1 a-1: changing owners", "blocked A/1 Shared"},
		},
		"SharedLeader": {
			reason:   "the first of its owners decides",
			desired:  []Resource{want("A", "1", shared, attribute("size", "2"))},
			observed: []Resource{have("A", "1", of(us, them))},
			want:     []string{"Update A/1 a-1: changing size"},
		},
		"SharedReferences": {
			reason:   "what it points to for others stays",
			desired:  []Resource{want("A", "1", shared), want("B", "1", shared, on("A", "1", false))},
			observed: []Resource{have("A", "1", of(us, them)), have("A", "2", of(them)), have("B", "1", of(us, them), on("A", "1", false), on("A", "2", false))},
		},
		"SharedReferencesOfItsOwn": {
			reason:  "what it had alone, and wants no more, goes: nothing may point to it",
			desired: []Resource{want("A", "1", shared), want("B", "1", shared, on("A", "1", false))},
			observed: []Resource{have("A", "1", of(us, them)), have("A", "2", shared), have("A", "3", shared, of()),
				have("B", "1", of(us, them), on("A", "1", false), on("A", "2", false), on("A", "3", false))},
			want: []string{"Update B/1 b-1: changing A/2, A/3", "Delete A/2 a-2", "Delete A/3 a-3"},
		},
		"SharedByNobody": {
			reason:   "the last two left at once, each to the other: whoever sees it deletes it",
			observed: []Resource{have("A", "1", shared, of())},
			want:     []string{"Delete A/1 a-1"},
		},
		"SharedJoinedByNobody": {
			reason:   "or joins it",
			desired:  []Resource{want("A", "1", shared)},
			observed: []Resource{have("A", "1", shared, of())},
			want:     []string{"Update A/1 a-1: changing owners"},
		},
		"SharedFailed": {
			reason:   "broken for one is broken for all",
			desired:  []Resource{want("A", "1", shared)},
			observed: []Resource{have("A", "1", shared, of(us, them), in(StateFailed))},
			want:     []string{"Delete A/1 a-1", "Create A/1"},
		},
		"SharedFixedJoin": {
			reason:   "joining a group is another address",
			desired:  []Resource{want("A", "1", fixed, shared, attribute("shape", "group"))},
			observed: []Resource{have("A", "1"), have("A", "1", shared, of(them), attribute("shape", "group"), id("a-group"))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"SharedFixedJoinByNobody": {
			reason:   "nor is one that nobody has any more joined without consent",
			desired:  []Resource{want("A", "1", fixed, shared, attribute("shape", "group"))},
			observed: []Resource{have("A", "1"), have("A", "1", shared, of(), attribute("shape", "group"), id("a-group"))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"SharedFixedJoinRecreate": {
			reason:      "with consent it joins first, then gives up its own",
			desired:     []Resource{want("A", "1", fixed, shared, attribute("shape", "group"))},
			observed:    []Resource{have("A", "1"), have("A", "1", shared, of(them), attribute("shape", "group"), id("a-group"))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"Update A/1 a-group: changing owners", "Delete A/1 a-1"},
		},
		"SharedFixedRecreate": {
			reason:      "what others use is not replaced under them",
			desired:     []Resource{want("A", "1", fixed, shared, attribute("shape", "square"))},
			observed:    []Resource{have("A", "1", shared, of(us, them))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"blocked A/1 Replacement"},
		},
		"SharedLeave": {
			reason:   "left to its other owners",
			observed: []Resource{have("A", "1", of(us, them))},
			want:     []string{"Update A/1 a-1: leaving it to its other owners"},
		},
		"Failed": {
			reason:   "half made: away, then anew",
			desired:  []Resource{want("A", "1")},
			observed: []Resource{have("A", "1", in(StateFailed))},
			want:     []string{"Delete A/1 a-1", "Create A/1"},
		},
		"Deleting": {
			reason:   "nothing takes its place before it is gone",
			desired:  []Resource{want("A", "1"), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1", in(StateDeleting)), have("C", "1", in(StateDeleting))},
			want:     []string{"waiting A/1", "waiting C/1"},
		},
		"DeletingDependent": {
			reason:   "the cloud would refuse: what is still being deleted points to it",
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", false)), have("C", "1", on("B", "1", true), in(StateDeleting)), have("D", "1")},
			want:     []string{"Delete D/1 d-1", "waiting A/1", "waiting B/1", "waiting C/1"},
		},
		"Excluded": {
			reason: "what has its place whole stays as it is, and is told once",
			desired: []Resource{want("A", "1", fixed, attribute("shape", "square")), want("A", "2", fixed, attribute("shape", "oval")),
				want("A", "3", fixed, attribute("size", "2"))},
			observed: []Resource{have("A", "4", attribute("shape", "any"), excludes("size")), have("B", "1")},
			want:     []string{"blocked A/1 Replacement"},
		},
		"ExcludedByWhatIsWanted": {
			reason:   "one that is as it should be is in the way of another",
			desired:  []Resource{want("A", "1", fixed), want("A", "2", fixed)},
			observed: []Resource{have("A", "1", excludes("size"))},
			want:     []string{"blocked A/2 Replacement"},
		},
		"ExcludedRecreate": {
			reason:      "with consent it goes first, with what is on it",
			desired:     []Resource{want("A", "1", fixed), want("A", "2", fixed)},
			observed:    []Resource{have("A", "1", excludes("size")), have("B", "1", on("A", "1", false))},
			replacement: v1alpha1.ReplacementRecreate,
			want:        []string{"Delete B/1 b-1", "Delete A/1 a-1", "Create A/1", "Create A/2"},
		},
		"ExcludedTogether": {
			reason:   "what goes with what has to be replaced is not told of by itself",
			desired:  []Resource{want("A", "1", fixed, attribute("shape", "square")), want("B", "1", fixed, on("A", "1", true))},
			observed: []Resource{have("A", "1"), have("B", "2", on("A", "1", true), excludes("size"))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"ExcludedByWhatGoes": {
			reason:   "nothing comes before it is gone",
			desired:  []Resource{want("A", "1", fixed)},
			observed: []Resource{have("A", "2", excludes("size"), in(StateDeleting))},
			want:     []string{"waiting A/1", "waiting A/2"},
		},
		"NotExcludedByOthers": {
			reason:   "what is somebody else's is not ours to replace",
			desired:  []Resource{want("A", "1", fixed)},
			observed: []Resource{have("A", "2", excludes("size"), of(them))},
			want:     []string{"Create A/1"},
		},
		"PendingReplacement": {
			reason:  "what runs keeps what it runs on until it can have the other",
			desired: []Resource{want("A", "2"), want("B", "1", on("A", "2", false))},
			observed: []Resource{have("A", "2", in(StatePending)), have("B", "1", on("A", "1", false)), have("A", "1", on("Z", "1", false)), have("Z", "1"),
				have("A", "3")},
			want: []string{"Delete A/3 a-3", "waiting A/2"},
		},
		"Pending": {
			reason:   "it is neither changed nor used",
			desired:  []Resource{want("A", "1", attribute("size", "2")), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1", in(StatePending))},
			want:     []string{"waiting A/1"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			plan, err := Diff(us, tc.desired, tc.observed, tc.replacement)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, lines(plan)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			// The same in any order.
			for range 5 {
				desired, observed := slices.Clone(tc.desired), slices.Clone(tc.observed)
				rand.Shuffle(len(desired), func(i, j int) { desired[i], desired[j] = desired[j], desired[i] })
				rand.Shuffle(len(observed), func(i, j int) { observed[i], observed[j] = observed[j], observed[i] })
				again, _ := Diff(us, desired, observed, tc.replacement)
				if diff := cmp.Diff(plan, again); diff != "" {
					t.Fatalf("another order gives another plan:\n%s", diff)
				}
			}
		})
	}
}

func TestDiffRefusesNonsense(t *testing.T) {
	cases := map[string]struct {
		reason  string
		desired []Resource
		want    string
	}{
		"Twice":   {"two of one key", []Resource{want("A", "1"), want("A", "1")}, "wants A/1 twice"},
		"Missing": {"a reference to nothing", []Resource{want("A", "1", on("B", "1", false))}, "depends on B/1, which it does not want"},
		"Circle":  {"no order would do", []Resource{want("A", "1", on("B", "1", false)), want("B", "1", on("A", "1", false))}, "depends on itself"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := Diff(us, tc.desired, nil, ""); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestName(t *testing.T) {
	round, square := want("A", "tcp-80"), want("A", "tcp-80", attribute("shape", "square"))
	bigger := want("A", "tcp-80", attribute("size", "9"))
	if Name(us, round, 63) == Name(us, square, 63) || Name(us, round, 63) == Name(them, round, 63) || Name(us, round, 63) == Name(us, want("B", "tcp-80"), 63) {
		t.Error("different things have one name")
	}
	if Name(us, round, 63) != Name(us, bigger, 63) {
		t.Error("a change in place changes the name")
	}
	for _, length := range []int{19, 20, 24, 32, 63} {
		name := Name(Owner{ClusterID: "c", ServiceUID: "u", Namespace: "Ünder_scored", Name: strings.Repeat("x", 80)}, round, length)
		if len(name) > length || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasSuffix(name, "-") {
			t.Errorf("%q is no name of at most %d", name, length)
		}
	}
}

// TestLeavingGivesUpWhatIsItsOwn: what only the leaving Service needs goes with it, so nothing that stays may point to it.
func TestLeavingGivesUpWhatIsItsOwn(t *testing.T) {
	observed := []Resource{have("A", "1", of(us, them)), have("A", "2"),
		have("B", "1", of(us, them), on("A", "1", false), on("A", "2", false))}
	plan, err := Diff(us, nil, observed, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Update B/1 b-1: leaving it to its other owners", "Update A/1 a-1: leaving it to its other owners", "Delete A/2 a-2"}
	if diff := cmp.Diff(want, lines(plan)); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Ref{{Kind: "A", Key: "1", ID: "a-1"}}, plan.Operations[0].Resource.DependsOn); diff != "" {
		t.Errorf("what B/1 points to afterwards (-want +got):\n%s", diff)
	}
	if len(observed[2].DependsOn) != 2 {
		t.Error("the argument was changed")
	}
}

// TestRemedies: what somebody is told to do about what may not be replaced is what would help.
func TestRemedies(t *testing.T) {
	for name, tc := range map[string]struct {
		want, have Resource
		remedy     string
	}{
		"Own":    {want("A", "1", fixed, attribute("shape", "square")), have("A", "1"), v1alpha1.AnnotationReplacement},
		"Shared": {want("A", "1", fixed, shared, attribute("shape", "square")), have("A", "1", shared, of(us, them)), "leave the group"},
		"Others": {want("A", "1", fixed, shared, attribute("shape", "square")), have("A", "1", shared, of(them)), "leave the group"},
		"Lent":   {want("A", "1", fixed, attribute("shape", "square")), have("A", "1", lent("a-1")), "ask for what it has"},
		"Beside": {want("A", "2", fixed), have("A", "1", excludes("size"), lent("a-1")), "ask for what it has"},
	} {
		plan, err := Diff(us, []Resource{tc.want}, []Resource{tc.have}, v1alpha1.ReplacementNever)
		if err != nil || len(plan.Operations) > 0 || len(plan.Blocked) != 1 || !strings.Contains(plan.Blocked[0].Message, tc.remedy) ||
			strings.HasSuffix(plan.Blocked[0].Message, ": ") {
			t.Errorf("%s: %+v (%v), want to hear of %q", name, plan, err, tc.remedy)
		}
	}
}
