// Package work is what controllers share that pass over one object after another: what they remember of each between
// passes, how soon they come again after a failure, how they follow what the cache sees, and how they write what is
// large. It is no controller and decides nothing.
package work

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// RetryConflict is when to look again after a write that the API server refused since the cache was behind. Usually the
// event that the cache was waiting for comes first.
const RetryConflict = 100 * time.Millisecond

// Queue is what event handlers put objects into.
type Queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// RateLimiter waits 5 ms after the first failure of an object, twice as long after each further one, a minute at most.
func RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, time.Minute)
}

// States holds what is remembered of each object that was worked on. It is safe for concurrent use; what it holds is
// the business of whoever asks, and Get and Forget that of the one pass over an object at a time.
type States[T any] struct {
	fresh func() *T
	mu    sync.RWMutex
	byKey map[types.NamespacedName]*T
}

// NewStates returns one that remembers nothing. Fresh makes the state of an object that is not known.
func NewStates[T any](fresh func() *T) *States[T] {
	return &States[T]{fresh: fresh, byKey: map[types.NamespacedName]*T{}}
}

// Get returns the state of an object, a new one if there is none.
func (s *States[T]) Get(key types.NamespacedName) *T {
	if st := s.Find(key); st != nil {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.fresh()
	s.byKey[key] = st
	return st
}

// Find returns the state of an object, or nil.
func (s *States[T]) Find(key types.NamespacedName) *T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byKey[key]
}

// Each calls f for every object that is known and its state.
func (s *States[T]) Each(f func(types.NamespacedName, *T)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for key, st := range s.byKey {
		f(key, st)
	}
}

// Forget drops the state of an object. An event that comes to it meanwhile queues the object, and its next pass begins
// with a new state that knows nothing and reads everything.
func (s *States[T]) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}
