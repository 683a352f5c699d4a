package endpoints

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// DefaultMaxEndpoints is how many endpoints a slice holds where nothing else is said, as upstream.
const DefaultMaxEndpoints = 100

// Options say how slices are written.
type Options struct {
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by.
	ManagedBy string
	// MaxEndpoints is how many endpoints a slice may hold, 1 to 1000. 0: DefaultMaxEndpoints.
	MaxEndpoints int
	// Taken says whether an object of this name exists that is not among the slices given. Nil: none does.
	Taken func(name string) bool
}

// Pass is what is said of one plan.
type Pass struct {
	// Trigger is when the change happened that is being written (TriggerTimes); consumers measure their delay from
	// it. Zero: not known, and the annotation is removed from what is written.
	Trigger time.Time
	// Busy says that the Service's endpoints have changed within the last seconds and so probably will again: endpoints
	// that come are then kept together, and slices are emptied into others only where that makes no write more.
	// Plan.More says that there is more to empty once it is quiet.
	Busy bool
}

// Verb is what to do with a slice.
type Verb string

// What a Write does.
const (
	Create Verb = "Create"
	Update Verb = "Update"
	Delete Verb = "Delete"
)

// Write is one change of one slice.
type Write struct {
	Verb Verb
	// Slice is the whole object to write. For Update and Delete it carries the UID and the resourceVersion that the
	// plan was made from. It shares memory with sets, layouts and other slices: a client that decodes its answer into
	// the object that it was given, as those do that speak JSON, must be given a deep copy.
	Slice *discoveryv1.EndpointSlice
	// Moves says that this write takes endpoints away that earlier writes of the plan put elsewhere: it must not be
	// done when one of those failed, or endpoints that serve would vanish for a while.
	Moves bool
}

// Plan is what makes slices hold a set.
type Plan struct {
	// Writes are to be done in this order. It keeps every endpoint that stays, with the ports it has, in at least one
	// slice at any time.
	Writes []Write
	// Endpoints is how many the slices hold once all is written; Slices is how many slices that are.
	Endpoints, Slices int
	// Added and Removed are how many endpoints they then have more, and less; those that are moved count as neither.
	Added, Removed int
	// Ideal is how few slices could hold them all; at least one.
	Ideal int
	// More says that slices remain that compaction can empty, in another plan, once this one is written.
	More bool
}

// Pack returns the writes after which slices hold a set, as few and as small as upstream's, and more than upstream's
// where this frees a slice: once the free room reaches a whole slice, slices are emptied into the others, each into few,
// and at most one slice's worth of endpoints a plan.
//
// Slices are all of the Service that ManagedBy marks, or used to mark; those that are being deleted are ignored
// (kubernetes/kubernetes#108267), and those of an earlier Service of this name are deleted, not adopted. A Service
// that is being deleted itself gets no new slices. A Service without endpoints has one empty slice a family.
//
// It is a fresh Layout that observes the slices and plans once.
func Pack(set *Set, existing []*discoveryv1.EndpointSlice, opts Options) Plan {
	layout := NewLayout(opts)
	for _, slice := range existing {
		layout.Observe(slice)
	}
	return layout.Plan(set, Pass{})
}

// Release returns the writes that delete the slices of a Service that has no selector any more. Slices of others, by
// owner, are left alone.
func Release(service *corev1.Service, existing []*discoveryv1.EndpointSlice) Plan {
	var plan Plan
	for _, slice := range sortedByName(existing) {
		if slice.DeletionTimestamp == nil && OwnedBy(slice, service) {
			plan.Writes = append(plan.Writes, Write{Verb: Delete, Slice: slice})
		}
	}
	return plan
}

func compareKeys(a, b groupKey) int {
	return compareAll(strings.Compare(string(a.family), string(b.family)), strings.Compare(a.ports, b.ports))
}

func sortedByName(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(all), func(a, b *discoveryv1.EndpointSlice) int {
		return strings.Compare(a.Name, b.Name)
	})
}
