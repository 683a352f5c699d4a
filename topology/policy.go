package topology

// Mode is the kind of a policy.
type Mode string

const (
	// ModeNone: the whole cluster is equally near, and endpoints have no hints.
	ModeNone Mode = ""
	// ModeSameZone: an endpoint serves the zone that it is in.
	ModeSameZone Mode = "SameZone"
	// ModeSameNode: an endpoint serves the node that it is on, and its zone where a node has none.
	ModeSameNode Mode = "SameNode"
	// ModeAuto: each zone gets endpoints for its share of the demand, within a bound on overload.
	ModeAuto Mode = "Auto"
)

// Measure is what the demand of a zone is in proportion to.
type Measure string

const (
	// ByCPU: the allocatable CPU of its nodes.
	ByCPU Measure = "CPU"
	// ByNodes: how many nodes it has.
	ByNodes Measure = "Nodes"
	// ByWeights: what the Service says, for the zones that have nodes at all.
	ByWeights Measure = "Weights"
)

const (
	// Prefix is the domain of our values of topology-mode.
	Prefix = "fairlead.dev/"
	// AnnotationWeights has the zones' weights for demand by weights: "zone-a=3,zone-b=1".
	AnnotationWeights = Prefix + "topology-weights"
	// DefaultBound is the bound of Auto in per cent, which is upstream's.
	DefaultBound = 20
)

// Policy is what a Service asks for. Two that are equal (==) ask for the same.
type Policy struct {
	Mode Mode
	// The rest is for ModeAuto alone, and zero in others.

	// Bound is how much more than an even share, in per cent, an endpoint may get.
	Bound int
	// Strict: no hints where the bound cannot be met. Else the smallest bound that can be met takes its place.
	Strict bool
	// By says what demand is measured by, and Weights gives the weights for ByWeights, sorted: "zone-a=3,zone-b=1".
	By      Measure
	Weights string
	// Keep is how many percentage points of cross-zone traffic, and of overload, the hints that stand may be worse than
	// the best ones before any is changed. 0: none.
	Keep int
	// Several: an endpoint may serve more zones than one where less traffic crosses zones for it.
	Several bool
}

// None is no policy: endpoints have no hints.
var None = Policy{}

// auto is the policy of "Auto", and what our own values begin with.
var auto = Policy{Mode: ModeAuto, Bound: DefaultBound, By: ByCPU}

// Whole says that hints depend on all endpoints together and on the zones' capacities: what Assign and Assignment are
// for. Under other policies they are Local's, or none.
func (p Policy) Whole() bool { return p.Mode == ModeAuto }
