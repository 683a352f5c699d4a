package cloud

import (
	"context"
	"maps"
	"time"
)

// Provider is one kind of load balancers. Its methods are called from several goroutines at once, never two that
// write for the same owner. The package comment says how to write one.
type Provider interface {
	// Capabilities says what the provider can do. Constant for the life of the provider.
	Capabilities() Capabilities

	// Desired returns the resources that the Spec needs. Pure. Its error is of class UserError and names every mistake
	// in the Spec's parameters and annotations. Beside an error it returns what the Spec would need without the mistakes,
	// or nothing: the core then takes no more from it than the targets of sets that exist, so that a balancer whose
	// Service has a wrong annotation still follows the nodes.
	Desired(spec Spec) ([]Resource, error)

	// Observe returns the resources that carry the owner's mark, and the Shared ones of the owner's Group, whoever's mark
	// they carry. In any order and any state.
	Observe(ctx context.Context, owner Owner) ([]Resource, error)

	// Create makes one resource, without its targets, and returns it with its ID and State. The ids of what it depends
	// on are filled in. Of a Shared one that another Service of the Group made meanwhile, Create adds the owner's mark.
	Create(ctx context.Context, owner Owner, desired Resource) (Resource, error)

	// Update changes one resource in place from what was observed to what is desired: attributes, what it depends on,
	// and its owners. An owner that comes to something that is not Shared and had none adopts it; one that leaves it
	// without any lets it go: see Adoption in the package comment. The ID is observed.ID. Of the owners it adds and takes away those that differ between the two, and
	// leaves the others as they are by then: another Service may be joining or leaving at the same time.
	Update(ctx context.Context, owner Owner, observed, desired Resource) error

	// Delete removes one resource. That it is gone already is a success. While something else still uses it the error is
	// of class Pending. A Shared one that carries another owner's mark by then, or holds another Service's part, is not
	// deleted: class Conflict or Pending, as the cloud tells.
	Delete(ctx context.Context, owner Owner, observed Resource) error

	// SyncTargets adds and removes targets, of one or many owners, in as few calls as the cloud allows, additions first.
	// Adding what is there and removing what is not are successes. It returns an error, or nil, for each change; no
	// errors at all is nil. A change that fails leaves the others to be tried, but for those that a throttled call would
	// have to follow.
	SyncTargets(ctx context.Context, changes []TargetChange) []error

	// List returns what Observe would return for every owner in the cluster, Services that are gone included, each
	// resource once. It is how the core looks for drift and orphans, and what it starts from: one List for all Services
	// should cost fewer calls than an Observe for each.
	List(ctx context.Context, clusterID string) ([]Resource, error)

	// Classify says what kind of error one of these methods returned. Never called with nil.
	Classify(err error) *Error
}

// Capabilities is what a provider can do. The core refuses, before any call, what it cannot, and names it.
type Capabilities struct {
	// Opaque: the provider can neither observe nor plan. It passes the Service (Owner.Service) and the nodes
	// (Resource.Nodes) on to something that does what it likes with them, and Observe and List say what that was last
	// told (see Memory), not what there is. What such a provider cannot promise cloudtest.Run names.
	Opaque bool
	// Protocols that a port may have: TCP, UDP, SCTP.
	Protocols []string
	// MixedProtocols: one balancer may have ports of several protocols.
	MixedProtocols bool
	// Families that a balancer may have, IPv4 and IPv6; DualStack: both at once.
	Families  []Family
	DualStack bool
	// NodePorts: traffic is sent to node ports, so that each port needs one, but for Services that send to Pods.
	NodePorts bool
	// NodeLabels: which nodes are targets can depend on their labels, which Spec.Nodes carry then.
	NodeLabels bool
	// PodTargets: traffic can be sent straight to Pods, for Services that ask for it (Spec.PodTargets).
	PodTargets bool
	// TargetHealth: the provider is a HealthReader. Without it a Pod that waits for its balancer waits until its target is
	// registered, no longer.
	TargetHealth bool
	// LocalHealthChecks: nodes can be asked whether they have a Pod of the Service, by HTTP on a port of its own
	// (HealthCheck). Without it externalTrafficPolicy: Local, under which the others drop what they get, is refused.
	LocalHealthChecks bool
	// SourceRanges are enforced by the balancer. Without it a Service that has some is refused, since everybody could connect,
	// but where Passthrough has nodes enforce them.
	SourceRanges bool
	// Passthrough: packets come to nodes as clients sent them, from their addresses and to the balancer's own, which is an IP
	// of mode VIP. Nodes serve that address, and enforce the spec's source ranges there: not on node ports, and not those of the
	// older annotation, which is refused where SourceRanges is false.
	Passthrough bool
	// SessionAffinity: clients can be kept on one target. Without it a Service that asks for it is refused: each node would
	// choose a Pod by itself.
	SessionAffinity bool
	// RequestedAddress: spec.loadBalancerIP is honoured.
	RequestedAddress bool
	// Adopt: an existing balancer can be taken over, and the provider is an Adopter.
	Adopt bool
	// TakeBack: what an earlier Service left under Retain can be taken back (see Adoption). Only with Adopt.
	TakeBack bool
	// Share: several Services can use one balancer.
	Share bool
	// AnnotationPrefixes are those of the annotations that are the provider's own. The Spec carries the annotations
	// that begin so.
	AnnotationPrefixes []string
	// MaxPorts of one balancer; 0 means no limit.
	MaxPorts int
	// Targets says what a call that changes targets can hold.
	Targets TargetCalls
	// Limits of the account, within which the core keeps all calls; zero means none are known.
	Limits Limits
	// ReadLag is for how long after a call that changed something Observe and List may still show what was before. The
	// core trusts no answer that nothing is left before that. 0: the cloud shows at once what it has done.
	ReadLag time.Duration
}

// TargetCalls is what one call of the cloud that changes targets can hold. SyncTargets splits what it is given by that.
type TargetCalls struct {
	// Max additions and removals; 0 means no limit.
	Max int
	// OneResource: a call changes one resource. Else it takes those of many.
	OneResource bool
	// OneDirection: a call either adds or removes.
	OneDirection bool
	// Together: what has the same targets is kept once in the cloud, whichever Services have it, so that a call brings all
	// of it from the ones to the others, however many Services there are: OneResource is not heeded. The targets of all
	// Services must be the same, as the nodes of a cluster are: what one of them changes counts for all.
	Together bool
}

// Calls is how many calls the changes cost at most. Changes of nodes are grouped by it, and the suite holds the provider
// to it.
func (c TargetCalls) Calls(changes ...TargetChange) int {
	t := CallTally{Of: c}
	t.Add(changes...)
	return t.Calls()
}

// CallTally counts what changes cost that come one after the other.
type CallTally struct {
	Of TargetCalls

	sum, add, remove int
	// lists of targets that there are to be, where they are kept together, and what part of sum each is.
	lists map[string]int
}

// Calls is what all that was added costs at most.
func (t *CallTally) Calls() int { return t.sum + t.Of.cost(t.add, t.remove) }

// Add adds changes.
func (t *CallTally) Add(changes ...TargetChange) {
	for i := range changes {
		add, remove := len(changes[i].Add), len(changes[i].Remove)
		switch {
		case t.Of.Together:
			if t.lists == nil {
				t.lists = map[string]int{}
			}
			list := targetList(changes[i].Resource.Targets)
			more := max(0, t.Of.cost(add, remove)-t.lists[list])
			t.lists[list] += more
			t.sum += more
		case t.Of.OneResource:
			t.sum += t.Of.cost(add, remove)
		default:
			t.add, t.remove = t.add+add, t.remove+remove
		}
	}
}

// After is what Calls would be after Add.
func (t *CallTally) After(changes ...TargetChange) int {
	after := *t
	after.lists = maps.Clone(t.lists)
	after.Add(changes...)
	return after.Calls()
}

// cost of a change of one resource.
func (c TargetCalls) cost(add, remove int) int {
	if c.OneDirection {
		return c.perCall(add) + c.perCall(remove)
	}
	return c.perCall(add + remove)
}

func (c TargetCalls) perCall(n int) int {
	if c.Max == 0 {
		return min(n, 1)
	}
	return (n + c.Max - 1) / c.Max
}

func targetList(targets []Target) string {
	ids := make([]string, len(targets))
	for i, target := range targets {
		ids[i] = target.ID
	}
	return List(ids)
}

// TargetChange is a difference of targets in one resource.
type TargetChange struct {
	Owner Owner
	// Resource with its ID. Its Targets are those that it is to have afterwards, for a cloud that takes the whole list; its
	// attributes are as desired, which the cloud need not have yet.
	Resource Resource
	// Add and Remove are how Targets differ from what was observed.
	Add    []Target
	Remove []Target
}
