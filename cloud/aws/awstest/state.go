package awstest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
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
	// certificates beside the default one, by the listener's ARN. The default one can be among them, too.
	certificates map[string][]string
	capacity     map[string]capacity // by the balancer's ARN
	// busy says until when a target group or a security group is in use though nothing that there is uses it.
	busy map[string]time.Time
}

type balancer struct {
	types.LoadBalancer
	mappings []types.SubnetMapping
	// addresses by subnet, where there is hardware for them.
	addresses map[string][]netip.Addr
	readyAt   time.Time
	fails     bool
}

type targetGroup struct {
	types.TargetGroup
	targets map[string]target // by id and port
}

// target is registered since then; one that is drained stays to be seen until then.
type target struct {
	id           string
	port         int32
	server       string // id, of QUIC
	zone         string // that was said; empty: none
	since, until time.Time
}

type securityGroup struct {
	ec2types.SecurityGroup
	rules map[rule]string // descriptions
}

func newState() state {
	return state{balancers: map[string]*balancer{}, groups: map[string]*targetGroup{}, listeners: map[string]*types.Listener{},
		security: map[string]*securityGroup{}, tags: map[string]map[string]string{}, attributes: map[string]map[string]string{},
		certificates: map[string][]string{}, capacity: map[string]capacity{}, busy: map[string]time.Time{}}
}

func (s state) clone() state {
	return state{maps.Clone(s.balancers), maps.Clone(s.groups), maps.Clone(s.listeners), maps.Clone(s.security), maps.Clone(s.tags),
		maps.Clone(s.attributes), maps.Clone(s.certificates), maps.Clone(s.capacity), maps.Clone(s.busy)}
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
	delete(s.state.certificates, id)
	delete(s.state.capacity, id)
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

// Fault makes coming calls fail. Method is the action, such as "ec2:DeleteSecurityGroup"; of a CreateLoadBalancer that fails
// late the balancer has failed in the end, and Err is not heeded.
type Fault = faults.Fault[*Refusal]

// Inject adds faults, which strike in the order in which they were added.
func (s *Server) Inject(script ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.Add(script...)
}
