package endpointslice

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// conflictWrites foreign writes of one slice within conflictWindow are a conflict: somebody undoes what we write.
	// One or two are a mistake that is repaired.
	conflictWrites = 3
	conflictWindow = time.Minute
	// conflictRest is for how long nothing is written then. Two who overwrite each other cost everyone who watches
	// slices more than slices of the other's content do.
	conflictRest = 10 * time.Minute
	// someone is the name of a writer that left none: a deletion leaves no trace of who did it.
	someone = "someone who deletes them"
)

// ownership tells from the foreign writes of a Service's slices whether another writer owns them, too. It decides
// alone: times and writes are put in, and what is to be done comes out. Its zero value has seen none.
//
// Writes count by slice, so that one command that edits or deletes all slices of a Service is one write and is
// repaired.
type ownership struct {
	// writes are the times of the foreign writes of each slice, by its name, none older than conflictWindow.
	writes map[string][]time.Time
	// until is when the rest ends; zero: there is no conflict.
	until time.Time
	// other is the field manager that the conflict is with.
	other string
}

// foreign notes that a field manager wrote or deleted (an empty manager) a slice. Writes while we rest count for
// nothing: the rest ends in its time however busy the other one is, and the next conflict is found again.
func (o *ownership) foreign(slice, manager string, now time.Time) {
	if o.resting(now) {
		return
	}
	recent := slices.DeleteFunc(o.writes[slice], func(at time.Time) bool { return now.Sub(at) >= conflictWindow })
	recent = append(recent, now)
	if len(recent) < conflictWrites {
		if o.writes == nil {
			o.writes = map[string][]time.Time{}
		}
		o.writes[slice] = recent
		return
	}
	o.writes, o.until, o.other = nil, now.Add(conflictRest), cmp.Or(manager, someone)
}

// rest returns for how much longer nothing may be written. Zero: writing is allowed.
func (o *ownership) rest(now time.Time) time.Duration { return max(0, o.until.Sub(now)) }

func (o *ownership) resting(now time.Time) bool { return o.rest(now) > 0 }

// foreignWriter returns the field manager that made after out of before, by their managedFields, or ours where it was
// us, perhaps as an earlier leader. The API server renews the time of an entry, whole seconds, when its manager changes
// a field. Before is nil where nothing was known of the slice.
func foreignWriter(before, after []metav1.ManagedFieldsEntry, ours string) string {
	known := map[writer]time.Time{}
	for _, e := range before {
		known[writerOf(e)] = timeOf(e)
	}
	var renewed, others []metav1.ManagedFieldsEntry
	for _, e := range after {
		at, before := known[writerOf(e)]
		if !before || timeOf(e).After(at) {
			renewed = append(renewed, e)
		}
		if e.Manager != ours {
			others = append(others, e)
		}
	}
	switch {
	case len(renewed) > 0:
		return latest(renewed, ours)
	case len(others) > 0:
		// Within one second of its last write, and of ours, one that owns a field wrote again.
		return latest(others, ours)
	}
	return ours
}

type writer struct {
	manager   string
	operation metav1.ManagedFieldsOperationType
}

func writerOf(e metav1.ManagedFieldsEntry) writer { return writer{e.Manager, e.Operation} }

func timeOf(e metav1.ManagedFieldsEntry) time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	return e.Time.Time
}

// latest returns the manager of the last entry. Of several of one second it is one that is not ours: what we wrote
// ourselves is known by its resourceVersion and does not come here.
func latest(entries []metav1.ManagedFieldsEntry, ours string) string {
	return slices.MaxFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		if order := timeOf(a).Compare(timeOf(b)); order != 0 {
			return order
		}
		if (a.Manager == ours) != (b.Manager == ours) {
			if a.Manager == ours {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Manager, b.Manager)
	}).Manager
}
