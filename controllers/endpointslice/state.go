package endpointslice

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Service between passes. Losing it costs a full pass and nothing else. But for the
// inbox and the known slices only one pass at a time touches it, since the queue never hands out a Service twice.
type state struct {
	inbox inbox
	// mail is what the inbox held when the pass at work began.
	mail mail

	pace      endpoints.Pace
	trigger   endpoints.TriggerTimes
	ownership ownership
	// set is what the slices should hold, and version the demand that it was made for. Nil: nothing is known yet.
	set     *endpoints.Set
	version string
	// layout is what the slices hold, which managedBy marks. Nil: nothing is known yet.
	layout    *endpoints.Layout
	managedBy string
	// hints are those that depend on all endpoints.
	hints hinting
	// named says that EndpointSelectors may name the Service.
	named bool
	// chosen is the EndpointSelector that has the Service; nil: none has.
	chosen *chosen
	known  knownSlices
	// changed is when an endpoint last changed.
	changed time.Time
	// rerouted says that something is not written yet that changes where traffic goes, and idleSince when the first of
	// what is not written and changes nothing there came; zero: nothing did.
	rerouted  bool
	idleSince time.Time
	// unpublished is the trigger time of what could not be written; zero: there is none.
	unpublished time.Time
	// conditions are what was last applied while the cache had the Service at conditionsAt. They stand for what the
	// cache does not show yet.
	conditions   []metav1.Condition
	conditionsAt string
	refusals     work.Refusals
	backoff      work.Backoff
	// failing says that the last pass failed, so that only the first of several failures makes an event.
	failing bool
	share   share
}

// nextTrigger returns the trigger time of what the next write publishes.
func (s *state) nextTrigger(service *corev1.Service) time.Time {
	trigger := s.trigger.Next(service)
	if s.unpublished.IsZero() || !trigger.IsZero() && trigger.Before(s.unpublished) {
		s.unpublished = trigger
	}
	return s.unpublished
}

// busyFor returns for how much longer the Service is expected to change again. Zero: it is quiet.
func (s *state) busyFor(now time.Time) time.Duration { return max(0, s.changed.Add(busy).Sub(now)) }

// idleFor returns for how much longer a plan may wait for changes that matter more. Zero: it is to be written now.
func (s *state) idleFor(plan endpoints.Plan, now time.Time) time.Duration {
	if s.set == nil || len(plan.Writes) == 0 || s.pace.Max <= 0 {
		return 0
	}
	if s.rerouted = s.set.Rerouted() || s.rerouted; s.rerouted {
		return 0
	}
	if s.idleSince.IsZero() {
		s.idleSince = now
	}
	return max(0, s.idleSince.Add(idle).Sub(now))
}

// wrote notes that everything is written.
func (s *state) wrote() {
	s.rerouted, s.idleSince, s.unpublished = false, time.Time{}, time.Time{}
}

// countRefusal notes whether the API server knew more than a pass.
func (s *state) countRefusal(refused bool) {
	if s.refusals.Count(refused) {
		s.drop()
		s.inbox.forgetWrites()
	}
}

// drop forgets what slices hold and what they should hold.
func (s *state) drop() {
	s.set, s.layout, s.hints, s.trigger = nil, nil, hinting{}, endpoints.TriggerTimes{}
	s.known.forgetAll()
}

// inbox gathers what a Service has to look at. It is filled by event handlers and emptied by each pass.
type inbox struct {
	mu sync.Mutex
	mail
	// renamed says that the EndpointSelectors that name the Service have changed. They have for a Service not seen before.
	renamed bool
	// byCapacities says that the Service's hints go by the capacities of zones.
	byCapacities bool
	// wrote are our writes whose events have not come, by the resourceVersion that they made; "" where we delete.
	wrote map[types.UID]string
}

// mail is what an inbox held.
type mail struct {
	// waiting says that something in it wants a pass.
	waiting bool
	// service: the Service itself has changed, or its selection.
	service bool
	// pods are the names of the Pods to look at.
	pods map[string]struct{}
	// slices are events, in their order.
	slices []sliceEvent
}

type sliceEvent struct {
	slice   *discoveryv1.EndpointSlice
	deleted bool
}

// news says that something wants a pass.
func (b *inbox) news() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// take empties the inbox.
func (b *inbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}

// rename notes that other EndpointSelectors name the Service.
func (b *inbox) rename() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renamed = true
}

// takeRenamed says whether rename was called since it was last asked.
func (b *inbox) takeRenamed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.renamed
	b.renamed = false
	return was
}

// want says that there is something to do, and whether that is news.
func (b *inbox) want() (news bool) {
	news = !b.waiting
	b.waiting = true
	return news
}

// mark notes a Pod, or the Service where pod is empty. News says that the Service has to be queued.
func (b *inbox) mark(pod string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pod == "" {
		b.service = true
		return b.want()
	}
	if b.pods == nil {
		b.pods = map[string]struct{}{}
	}
	b.pods[pod] = struct{}{}
	return b.want()
}

// goByCapacities notes whether the Service is to be woken when capacities change.
func (b *inbox) goByCapacities(is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byCapacities = is
}

// measure notes that capacities have changed, and says whether the Service has to be queued.
func (b *inbox) measure() (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byCapacities && b.want()
}

// event notes an event of a slice. The events of our own writes, and older ones, wake nobody.
func (b *inbox) event(e sliceEvent) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	version, wrote := b.wrote[e.slice.UID]
	switch {
	case wrote && version == "":
		if e.deleted {
			delete(b.wrote, e.slice.UID)
		}
		b.slices = append(b.slices, e)
		return false
	case wrote && !e.deleted && !endpoints.Newer(e.slice.ResourceVersion, version):
		if e.slice.ResourceVersion == version {
			delete(b.wrote, e.slice.UID)
		}
		return false
	}
	delete(b.wrote, e.slice.UID)
	b.slices = append(b.slices, e)
	return b.want()
}

// written notes a write of ours: the resourceVersion that it made, or "" before a deletion.
func (b *inbox) written(uid types.UID, version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wrote == nil {
		b.wrote = map[types.UID]string{}
	}
	b.wrote[uid] = version
}

// forgetWrites forgets all writes of ours.
func (b *inbox) forgetWrites() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrote = nil
}

// unwritten takes back that a slice is being deleted.
func (b *inbox) unwritten(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.wrote, uid)
}
