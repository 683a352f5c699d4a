package cloud

import (
	"slices"
	"strings"
)

// Action is what an Operation does.
type Action string

// Actions. SyncTargets changes the nodes that a resource sends to, Adopt marks it as the owner's and changes nothing else,
// the others make, change or delete the resource itself.
const (
	ActionCreate      Action = "Create"
	ActionUpdate      Action = "Update"
	ActionDelete      Action = "Delete"
	ActionSyncTargets Action = "SyncTargets"
	ActionAdopt       Action = "Adopt"
)

// Operation is one step of a Plan.
type Operation struct {
	Action Action
	// Resource as desired (Create, Update, SyncTargets, Adopt) or as observed (Delete).
	Resource Resource
	// Observed is what an Update, or an Adopt, starts from; nil for the others.
	Observed *Resource
	// Add and Remove are the targets of SyncTargets.
	Add, Remove []Target
	// Reason in a few words, for people.
	Reason string
}

// BlockReason says why a resource stays as it is though the Service asks for something else.
type BlockReason string

const (
	// BlockForeign: something that is not the owner's stands in its place.
	BlockForeign BlockReason = "Foreign"
	// BlockReplacement: it would have to be replaced, and clients would lose their address. Nothing else is changed, either,
	// but for what follows the cluster.
	BlockReplacement BlockReason = "Replacement"
	// BlockRefused: it would have to be replaced, and what is to take its place cannot be had. Nothing else is changed, either, but
	// for what follows the cluster.
	BlockRefused BlockReason = "Refused"
	// BlockShared: others share it, and it is not this one's to change.
	BlockShared BlockReason = "Shared"
	// BlockAdoption: the balancer that the Service asks for by id is not adopted.
	BlockAdoption BlockReason = "Adoption"
	// BlockOffered: another controller made a balancer for this Service, and nobody said what is to become of it.
	BlockOffered BlockReason = "Offered"
)

// Block is a resource that is left as it is.
type Block struct {
	Resource string // kind/key, or the id of the balancer that is not adopted
	Reason   BlockReason
	// Subject begins the Message where others can have the rest of it in common with this one; empty: none can.
	Subject string
	Message string
}

// Messages joins those of blocks, in their order. What several have in common is said once, of all of them: "a, b and c cannot ...".
func Messages(blocked []Block) string {
	var rests []string
	subjects := map[string][]string{}
	for _, b := range blocked {
		rest := strings.TrimPrefix(b.Message, b.Subject)
		if subjects[rest] == nil {
			rests = append(rests, rest)
		}
		subjects[rest] = append(subjects[rest], b.Subject)
	}
	for i, rest := range rests {
		rests[i] = enumerated(slices.Compact(subjects[rest])) + rest
	}
	return strings.Join(rests, "; ")
}

// enumerated is "a", "a and b" or "a, b and c".
func enumerated(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// Plan is what leads from the observed resources to the desired ones.
type Plan struct {
	// Operations in the order in which they are to be done.
	Operations []Operation
	// Blocked resources, and Waiting ones, which the cloud still works on, by kind/key.
	Blocked []Block
	Waiting []string
	// Lacking: something that is missing is not made, since something would have to be replaced that may not be.
	Lacking bool
	// IDs of the resources that stay, by what others call them. Apply fills them in.
	IDs map[Ref]string
}

// Empty reports whether the cloud has what is desired: there is nothing to do, to wait for, or in the way.
func (p *Plan) Empty() bool {
	return len(p.Operations) == 0 && len(p.Blocked) == 0 && len(p.Waiting) == 0
}

// TargetsOnly reports whether there is nothing to do but to change targets of resources that exist.
func (p *Plan) TargetsOnly() bool {
	return !slices.ContainsFunc(p.Operations, func(op Operation) bool {
		return op.Action != ActionSyncTargets || op.Resource.ID == ""
	})
}

// Serves reports whether all that is left to do is to change targets of sets that have some of those that they are to have.
func (p *Plan) Serves() bool {
	return !slices.ContainsFunc(p.Operations, func(op Operation) bool {
		return op.Action != ActionSyncTargets || op.Resource.ID == "" || len(op.Resource.Targets) <= len(op.Add)
	})
}

// held reports whether nothing may change but what follows the cluster, since something would have to be replaced that may not
// be.
func (p *Plan) held() bool {
	return slices.ContainsFunc(p.Blocked, func(b Block) bool { return b.Reason == BlockReplacement })
}

// keepTargets leaves of the operations those that change targets of resources that exist.
func (p *Plan) keepTargets() {
	p.Operations = slices.DeleteFunc(p.Operations, func(op Operation) bool {
		return op.Action != ActionSyncTargets || op.Resource.ID == ""
	})
}

// brings reports whether the plan has something come to the owner that it does not have: made, or adopted.
func (p *Plan) brings() bool {
	return slices.ContainsFunc(p.Operations, func(op Operation) bool {
		return op.Action == ActionCreate || op.Action == ActionAdopt
	})
}

// TargetChanges returns the changes of targets of resources that exist.
func (p *Plan) TargetChanges(owner Owner) []TargetChange {
	var changes []TargetChange
	for _, op := range p.Operations {
		if op.Action == ActionSyncTargets && op.Resource.ID != "" {
			changes = append(changes, TargetChange{Owner: owner, Resource: op.Resource, Add: op.Add, Remove: op.Remove})
		}
	}
	return changes
}
