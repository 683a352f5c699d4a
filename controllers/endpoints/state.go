package endpoints

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Service between passes. But for the inbox only one pass at a time touches it.
type state struct {
	inbox inbox

	pace    endpoints.Pace
	trigger endpoints.TriggerTimes
	backoff work.Backoff
	failing bool
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

// news says that a pass is wanted.
func (b *inbox) news() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
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
	if b.version != "" && !endpoints.Newer(version, b.version) {
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
	if b.seen == "" || endpoints.Newer(made.ResourceVersion, b.seen) {
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
