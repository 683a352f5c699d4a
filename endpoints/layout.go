package endpoints

import (
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Layout is the slices of one Service as they are, our own writes included, and knows which of them holds each
// endpoint, so that a plan costs what has changed and not what there is. It is kept from one plan to the next, whatever
// becomes of the Service: a new Set makes the next plan a full one. It is not safe for concurrent use.
//
// A cache that is behind does no harm: what a write returned counts until something newer comes, and a slice that was
// deleted does not come back. It rests on resourceVersions of one resource being ordered (guaranteed since Kubernetes
// 1.35, KEP-5504, and true of every API server on etcd before).
type Layout struct {
	opts Options
	// slices by name.
	slices map[string]*discoveryv1.EndpointSlice
	// deleted are slices that we deleted and have not yet been seen deleted.
	deleted map[types.UID]struct{}
}

// Observation is what a Layout found in a slice that it was shown.
type Observation string

const (
	// Stale: no newer than what the layout holds, and ignored.
	Stale Observation = "Stale"
	// Unchanged: newer, and the same in all that we write.
	Unchanged Observation = "Unchanged"
	// Changed: new to the layout, or not the same.
	Changed Observation = "Changed"
)

// Pass is what is said of one plan.
type Pass struct {
	// Trigger is when the change happened that is being written (TriggerTimes); consumers measure their delay from
	// it. Zero: not known, and the annotation is removed from what is written.
	Trigger time.Time
	// Busy says that the Service's endpoints have changed within the last seconds and so probably will again: slices
	// are then emptied into others only where that makes no write more. Plan.More says that there is more to do.
	Busy bool
}

// NewLayout returns a layout without slices.
func NewLayout(opts Options) *Layout {
	if opts.MaxEndpoints == 0 {
		opts.MaxEndpoints = DefaultMaxEndpoints
	}
	return &Layout{opts: opts, slices: map[string]*discoveryv1.EndpointSlice{}, deleted: map[types.UID]struct{}{}}
}

// Observe takes over a slice of the Service that came from a watch or a list. It must be one that ManagedBy marks, or
// used to mark. The layout keeps it; it must not change any more.
func (l *Layout) Observe(slice *discoveryv1.EndpointSlice) Observation {
	if _, gone := l.deleted[slice.UID]; gone {
		return Stale
	}
	held := l.slices[slice.Name]
	if held != nil && !newer(slice.ResourceVersion, held.ResourceVersion) {
		return Stale
	}
	l.slices[slice.Name] = slice
	return Changed
}

// Remove takes out a slice that was seen deleted, or that is not to be kept any more.
func (l *Layout) Remove(uid types.UID) {
	delete(l.deleted, uid)
	for name, slice := range l.slices {
		if slice.UID == uid {
			delete(l.slices, name)
		}
	}
}

// Wrote takes over what came of a write of a plan: the slice as the API server returned it, nil for one that was
// deleted. A write that failed is not told; the next plan makes it again.
func (l *Layout) Wrote(write Write, result *discoveryv1.EndpointSlice) {
	if write.Verb == Delete {
		l.Remove(write.Slice.UID)
		l.deleted[write.Slice.UID] = struct{}{}
		return
	}
	l.Observe(result)
}

// Plan returns the writes after which the slices hold a set. It may be called again at any time: what was not written
// is planned again.
func (l *Layout) Plan(set *Set, pass Pass) Plan {
	existing := make([]*discoveryv1.EndpointSlice, 0, len(l.slices))
	for _, slice := range l.slices {
		existing = append(existing, slice)
	}
	return pack(set, existing, l.opts, pass)
}

// newer says whether resourceVersion a is after b. An empty one is of a slice that was made up, and believed; so is
// what cannot be compared.
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}
