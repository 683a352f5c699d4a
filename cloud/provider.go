package cloud

import "context"

// Provider is one kind of load balancers. Its methods are called from several goroutines at once, never two that
// write for the same owner. The package comment says how to write one.
type Provider interface {
	// Capabilities says what the provider can do. Constant for the life of the provider.
	Capabilities() Capabilities

	// Desired returns the resources that the Spec needs. Pure. Its error is of class UserError and names every mistake
	// in the Spec's parameters and annotations.
	Desired(spec Spec) ([]Resource, error)

	// Observe returns the resources that carry the owner's mark, in any order and any state.
	Observe(ctx context.Context, owner Owner) ([]Resource, error)

	// Create makes one resource, without its targets, and returns it with its ID and State. The ids of what it depends
	// on are filled in.
	Create(ctx context.Context, owner Owner, desired Resource) (Resource, error)

	// Update changes one resource in place from what was observed to what is desired: attributes, what it depends on,
	// and its owners. The ID is observed.ID.
	Update(ctx context.Context, owner Owner, observed, desired Resource) error

	// Delete removes one resource. That it is gone already is a success.
	Delete(ctx context.Context, owner Owner, observed Resource) error

	// SyncTargets adds and removes targets, of one or many owners. Adding what is there and removing what is not are
	// successes.
	SyncTargets(ctx context.Context, changes []TargetChange) error

	// List returns every resource in the cloud that carries the mark of the cluster, for any Service, to find what its
	// Service left behind.
	List(ctx context.Context, clusterID string) ([]Resource, error)

	// Classify says what kind of error one of these methods returned. Never called with nil.
	Classify(err error) *Error
}

// Capabilities is what a provider can do. The core refuses, before any call, what it cannot, and names it.
type Capabilities struct {
	// Protocols that a port may have: TCP, UDP, SCTP.
	Protocols []string
	// MixedProtocols: one balancer may have ports of several protocols.
	MixedProtocols bool
	// Families that a balancer may have, IPv4 and IPv6; DualStack: both at once.
	Families  []Family
	DualStack bool
	// NodePorts: traffic is sent to node ports, so that each port needs one.
	NodePorts bool
	// SourceRanges can be enforced at the balancer. Where they cannot, nodes enforce them by themselves.
	SourceRanges bool
	// SessionAffinity: clients can be kept on one node.
	SessionAffinity bool
	// RequestedAddress: spec.loadBalancerIP is honoured.
	RequestedAddress bool
	// Adopt and Share: an existing balancer can be taken over; several Services can use one.
	Adopt, Share bool
	// AnnotationPrefixes are those of the annotations that are the provider's own. The Spec carries the annotations
	// that begin so.
	AnnotationPrefixes []string
	// MaxPorts of one balancer; 0 means no limit.
	MaxPorts int
	// TargetsPerCall is how many additions and removals one call of the cloud takes; SyncTargets splits by itself. 0
	// means no limit. The suite derives from it how many calls a change of nodes may cost.
	TargetsPerCall int
}

// TargetChange is a difference of targets in one resource.
type TargetChange struct {
	Owner    Owner
	Resource Resource // as observed or created: with its ID
	Add      []Target
	Remove   []Target
}
