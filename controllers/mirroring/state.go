package mirroring

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Endpoints object between passes. Only one pass at a time touches it, since the
// queue never hands out a key twice.
type state struct {
	share
	pace endpoints.Pace
	// invalid and skipped are how many addresses the last events told of.
	invalid, skipped int
	// failing says that the last pass failed, so that only the first of several failures makes an event.
	failing bool
}

// states holds the state of every Endpoints object that is mirrored.
type states struct {
	maxPause time.Duration
	mu       sync.Mutex
	byKey    map[types.NamespacedName]*state
}

func newStates(maxPause time.Duration) *states {
	return &states{maxPause: maxPause, byKey: map[types.NamespacedName]*state{}}
}

func (s *states) get(key types.NamespacedName) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byKey[key]
	if st == nil {
		st = &state{pace: endpoints.Pace{Max: s.maxPause}}
		s.byKey[key] = st
	}
	return st
}

func (s *states) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}
