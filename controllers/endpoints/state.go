package endpoints

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Service between passes. But for the inbox only one pass at a time touches it.
type state struct {
	inbox inbox

	pace    endpoints.Pace
	trigger endpoints.TriggerTimes
	failing bool
}

// states holds the state of every Service with a selector that was worked on.
type states struct {
	maxPause time.Duration
	mu       sync.RWMutex
	byKey    map[types.NamespacedName]*state
}

func newStates(maxPause time.Duration) *states {
	return &states{maxPause: maxPause, byKey: map[types.NamespacedName]*state{}}
}

// get returns the state of a Service, a new one if there is none.
func (s *states) get(key types.NamespacedName) *state {
	if st := s.find(key); st != nil {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &state{pace: endpoints.Pace{Max: s.maxPause}}
	s.byKey[key] = st
	return st
}

// find returns the state of a Service, or nil.
func (s *states) find(key types.NamespacedName) *state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byKey[key]
}

// forget drops the state of a Service. A mark that comes to it meanwhile queues the Service, whose next pass begins
// with a new state.
func (s *states) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

// inbox is where event handlers say that a Service has to be looked at.
type inbox struct {
	mu sync.Mutex
	// waiting says that a pass is wanted.
	waiting bool
	// version is the resourceVersion of our last write, and written what it made, until the cache has it. Nil: the
	// cache has everything.
	version string
	written *corev1.Endpoints
	// seen is the resourceVersion of the last event.
	seen string
}

// take says that a pass begins, before it reads anything: what comes meanwhile wants another one.
func (b *inbox) take() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = false
}

// want says that a pass is wanted, and whether that is news.
func (b *inbox) want() (news bool) {
	news = !b.waiting
	b.waiting = true
	return news
}

// mark notes that the Service or its Pods have changed. News says that the Service has to be queued.
func (b *inbox) mark() (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.want()
}

// changed notes an event of the Endpoints; that of our own write, and older ones, want no pass.
func (b *inbox) changed(version string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = version
	if b.version != "" && !newer(version, b.version) {
		if version == b.version {
			b.written = nil
		}
		return false
	}
	b.written = nil
	return b.want()
}

// deleted notes that the Endpoints were deleted.
func (b *inbox) deleted(version string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen, b.written = version, nil
	return b.want()
}

// wrote notes what a write of ours made. Its event, and even that of a deletion after it, may have been faster.
func (b *inbox) wrote(made *corev1.Endpoints) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version, b.written = made.ResourceVersion, nil
	if b.seen == "" || newer(made.ResourceVersion, b.seen) {
		b.written = made
	}
}

// unseen returns what we wrote and the cache does not have yet, or nil.
func (b *inbox) unseen() *corev1.Endpoints {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.written
}

// refused forgets what we wrote: the API server knows better.
func (b *inbox) refused() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = nil
}

// newer says whether resourceVersion a is after b; what cannot be compared is.
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}
