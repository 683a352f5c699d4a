package awstest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// state is all that there is. What a map holds is replaced, never changed, so that a copy of the maps is a copy of the
// state.
type state struct {
	balancers  map[string]*balancer // by ARN, as the next two
	groups     map[string]*targetGroup
	listeners  map[string]*types.Listener
	security   map[string]*securityGroup    // by id
	tags       map[string]map[string]string // by ARN or id
	attributes map[string]map[string]string // by ARN
	// busy says until when a target group or a security group is in use though nothing that there is uses it.
	busy map[string]time.Time
}

type balancer struct {
	types.LoadBalancer
	mappings []types.SubnetMapping
	readyAt  time.Time
	fails    bool
}

type targetGroup struct {
	types.TargetGroup
	targets map[string]target // by id and port
}

// target is registered since then; one that is drained stays to be seen until then.
type target struct {
	id           string
	port         int32
	since, until time.Time
}

type securityGroup struct {
	ec2types.SecurityGroup
	rules map[rule]string // descriptions
}

func newState() state {
	return state{balancers: map[string]*balancer{}, groups: map[string]*targetGroup{}, listeners: map[string]*types.Listener{},
		security: map[string]*securityGroup{}, tags: map[string]map[string]string{}, attributes: map[string]map[string]string{}, busy: map[string]time.Time{}}
}

func (s state) clone() state {
	return state{maps.Clone(s.balancers), maps.Clone(s.groups), maps.Clone(s.listeners), maps.Clone(s.security), maps.Clone(s.tags),
		maps.Clone(s.attributes), maps.Clone(s.busy)}
}

// past is the state before a change.
type past struct {
	at    time.Time
	state state
}

// read is what Describe… shows: the state as it was ReadLag ago.
func (s *Server) read() *state {
	horizon := s.now().Add(-s.options.ReadLag)
	s.past = slices.DeleteFunc(s.past, func(p past) bool { return !p.at.After(horizon) })
	if len(s.past) > 0 {
		return &s.past[0].state
	}
	return &s.state
}

func (s *Server) id() string {
	s.nextID++
	return fmt.Sprintf("%016x", s.nextID)
}

// release has something stay in use for a while after what used it is gone.
func (s *Server) release(id string) {
	if s.options.Linger > 0 {
		s.state.busy[id] = s.now().Add(s.options.Linger)
	}
}

func (s *Server) isBusy(id string) bool { return s.now().Before(s.state.busy[id]) }

// forget removes what is kept of something beside itself.
func (s *Server) forget(id string) {
	delete(s.state.tags, id)
	delete(s.state.attributes, id)
	delete(s.state.busy, id)
}

// page returns the part of a list that a marker names, and the marker of the next part.
func page[T any](all []T, marker *string, size *int32, most int32) ([]T, *string, error) {
	n := most
	if size != nil {
		if *size < 1 || *size > most {
			return nil, nil, refuse("ValidationError", "PageSize must be from 1 to %d", most)
		}
		n = *size
	}
	from := 0
	if marker != nil {
		var err error
		if from, err = strconv.Atoi(*marker); err != nil || from < 0 || from > len(all) {
			return nil, nil, refuse("ValidationError", "Invalid marker")
		}
	}
	to := min(from+int(n), len(all))
	if to == len(all) {
		return all[from:], nil, nil
	}
	next := strconv.Itoa(to)
	return all[from:to], &next, nil
}

func sortedBy[T any](all map[string]T, key func(T) string) []T {
	return slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// Fault makes coming calls fail.
type Fault struct {
	// Action that it waits for, such as "ec2:DeleteSecurityGroup".
	Action string
	// Skip is how many such calls it lets pass first, Times how many it strikes; 0: one.
	Skip, Times int
	// Refusal is answered.
	Refusal *Refusal
	// After: the call is done first.
	After bool
	// Fails, for CreateLoadBalancer: it succeeds, and the balancer has failed in the end. Refusal is not heeded.
	Fails bool
}

// Inject adds faults, which strike in the order in which they were added.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

func (s *Server) fault(action string, after bool) error {
	if f := s.strike(func(f *Fault) bool { return f.Action == action && f.After == after && !f.Fails }); f != nil {
		return f.Refusal
	}
	return nil
}

func (s *Server) strike(meant func(*Fault) bool) *Fault {
	for i := range s.faults {
		f := &s.faults[i]
		if !meant(f) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		struck := *f
		if f.Times--; f.Times <= 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return &struck
	}
	return nil
}

// allowance is a token bucket: what exceeds it is refused, not delayed.
type allowance struct {
	limit  cloud.Limit
	tokens float64
	at     time.Time
}

func (s *Server) throttle(write bool) error {
	a := &s.reads
	if write {
		a = &s.writes
	}
	if a.limit.PerSecond <= 0 {
		return nil
	}
	now, burst := s.now(), math.Max(float64(a.limit.Burst), 1)
	if a.at.IsZero() {
		a.tokens = burst
	} else {
		a.tokens = math.Min(burst, a.tokens+now.Sub(a.at).Seconds()*a.limit.PerSecond)
	}
	a.at = now
	if a.tokens < 1-1e-6 { // but for a rounding error
		return Throttled()
	}
	a.tokens--
	return nil
}
