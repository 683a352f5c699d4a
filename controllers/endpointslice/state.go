package endpointslice

import (
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Service between passes. Losing it costs a few needless reads and writes and
// nothing else. Only one pass at a time touches it, since the queue never hands out a Service twice.
type state struct {
	pace    endpoints.Pace
	trigger endpoints.TriggerTimes
	// ours are the slices known to be ours, so that they are recognised when someone changes their labels.
	ours map[types.UID]struct{}
	// condition is what was last applied while the cache had the Service at conditionAt. It stands for what the cache
	// does not show yet.
	condition   *applymetav1.ConditionApplyConfiguration
	conditionAt string
	// failing says that the last pass failed, so that only the first of several failures makes an event.
	failing bool
}

// remember notes which slices are ours.
func (s *state) remember(slices []*discoveryv1.EndpointSlice) {
	s.ours = make(map[types.UID]struct{}, len(slices))
	for _, slice := range slices {
		s.ours[slice.UID] = struct{}{}
	}
}

// states holds the state of every Service.
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
