package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one resource that is not as it was left.
type Difference struct {
	Kind, Key string
	// What differs, in a few words, for people.
	What string
}

// Differences compares what one owner had when it was last left with what is there now. Pure, and sorted by kind and key;
// neither argument is changed. What the cloud still makes, changes or deletes is no difference, nor are the marks of other
// owners, who come and go.
//
// It says what happened, not what to do: that is Diff's business, which knows what is wanted.
func Differences(left, now []Resource) []Difference {
	type identity struct{ kind, id string }
	there := make(map[identity]*Resource, len(now))
	for i := range now {
		there[identity{now[i].Kind, now[i].ID}] = &now[i]
	}
	var all []Difference
	for i := range left {
		was := &left[i]
		id := identity{was.Kind, was.ID}
		is := there[id]
		delete(there, id)
		if what := difference(was, is); what != "" {
			all = append(all, Difference{Kind: was.Kind, Key: was.Key, What: what})
		}
	}
	for _, is := range there {
		if is.State != StateDeleting {
			all = append(all, Difference{Kind: is.Kind, Key: is.Key, What: "another one appeared"})
		}
	}
	slices.SortFunc(all, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key), cmp.Compare(a.What, b.What))
	})
	return all
}

// difference of one resource; empty: none. Nil: it is gone.
func difference(was, is *Resource) string {
	switch {
	case is == nil && was.State == StateDeleting:
		return ""
	case is == nil:
		return "gone"
	case is.State == StateFailed && was.State != StateFailed:
		return "failed"
	case is.State == StatePending, is.State == StateDeleting:
		return ""
	}
	var parts []string
	if names := changedAttributes(was.Attributes, is.Attributes); len(names) > 0 {
		parts = append(parts, strings.Join(names, ", ")+" changed")
	}
	if !sameReferences(was.DependsOn, is.DependsOn) {
		parts = append(parts, "it points to others")
	}
	if !slices.Equal(was.Ingress, is.Ingress) && (was.State == StateReady || was.State == "") {
		parts = append(parts, "its address changed")
	}
	if was.HasTargets {
		if missing, extra := subtract(was.Targets, is.Targets), subtract(is.Targets, was.Targets); len(missing)+len(extra) > 0 {
			parts = append(parts, fmt.Sprintf("%d targets missing, %d too many", len(missing), len(extra)))
		}
	}
	return strings.Join(parts, "; ")
}

// changedAttributes returns the names of those whose values differ, sorted.
func changedAttributes(was, is map[string]string) []string {
	changed := map[string]bool{}
	for name, value := range was {
		if is[name] != value {
			changed[name] = true
		}
	}
	for name, value := range is {
		if was[name] != value {
			changed[name] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}

func sameReferences(was, is []Ref) bool {
	id := func(refs []Ref) []string {
		ids := make([]string, len(refs))
		for i, ref := range refs {
			ids[i] = ref.ID
		}
		slices.Sort(ids)
		return ids
	}
	return slices.Equal(id(was), id(is))
}
