package cloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Adopter is a Provider that can find balancers which are not ours and could become so. A provider whose Capabilities say
// Adopt implements it. It finds and tells; what may be adopted is decided by the core, and adoption itself is an Update
// that adds the owner's mark (see the package comment).
type Adopter interface {
	// Adoptable returns the balancer with the id, whoever's it is and in whatever state; none where there is none, or where
	// the id is that of something else. Where a cloud takes ids in any case of letters, it is returned with the one that
	// Observe has. With an empty id it returns the balancers that another controller made for this very owner, known by that
	// controller's own marks: the Service's UID in a name or tag, or the cluster's name and the Service's name. Never by a
	// name that anybody could have chosen.
	Adoptable(ctx context.Context, owner Owner, id string) ([]Adoptable, error)
}

// Adoptable is a balancer that is there already.
type Adoptable struct {
	// ID of the balancer, as people write it into the annotation fairlead.dev/adopt. One of Resources has it.
	ID string `json:"id"`
	// AdoptableBy is the value of the tag fairlead.dev/adoptable-by on the balancer; where the cloud has no tags, what
	// stands for it in the description. Empty: it is on none.
	AdoptableBy string `json:"adoptableBy,omitempty"`
	// Consent is what its owner does in this cloud to let a Service adopt it, as in "tag it fairlead.dev/adoptable-by", which
	// empty means: for people, who are told the value after it, behind an equals sign.
	Consent string `json:"consent,omitempty"`
	// MadeBy names the controller that made it for this very owner; empty: it was not made for this owner by any that the
	// provider knows.
	MadeBy string `json:"madeBy,omitempty"`
	// Resources are the balancer and its parts, in the form in which Observe returns them: with their marks, if they have
	// any, and each with the kind and key that Desired gives to what has its place. A part that something else than this
	// balancer uses, too, is left out. Of what was made for this very owner they are everything, half-made parts included.
	Resources []Resource `json:"resources"`
}

// AdoptableBy is the value of the tag by which the owner of a balancer lets a Service adopt it.
func AdoptableBy(owner Owner) string {
	return owner.ClusterID + "/" + owner.Namespace + "/" + owner.Name
}

// adoption is what is to be done about balancers that are there already before anything else is planned.
type adoption struct {
	// operations that mark; empty: nothing is adopted.
	operations []Operation
	// parts of the balancer. They say of each what it points to, which Observe cannot say of what is marked before that is.
	parts []Resource
	// blocked and waiting: nothing else is done, either, but for targets.
	blocked []Block
	waiting []string
}

// Adopts reports whether the cloud has to be asked for balancers that are there already: where an id is given that is not
// the owner's yet, or nothing is the owner's yet, so that what another controller made would get a second one beside it.
// Also where the owner has begun to take one over: that is finished, whatever is wanted by then.
func (o Options) Adopts(caps Capabilities, owner Owner, desired, observed []Resource) bool {
	switch {
	case !caps.Adopt || o.TargetsOnly:
		return false
	case begun(owner, observed) != "":
		return true
	case len(desired) == 0 || o.Adopt == v1alpha1.AdoptNone || owner.Group != "":
		return false
	}
	id := owner.ID()
	if o.Adopt != "" {
		return !slices.ContainsFunc(observed, func(r Resource) bool { return o.asked(r.ID) && slices.Contains(r.Owners, id) })
	}
	return !slices.ContainsFunc(observed, func(r Resource) bool {
		return slices.Contains(r.Owners, id) && !stray(owner, observed, &r)
	})
}

// asked reports whether the id is the one that the Service names, in whatever case: which balancer that is decides the provider,
// that found it.
func (o Options) asked(id string) bool { return strings.EqualFold(id, o.Adopt) }

// begun returns the id of the balancer that the owner has begun to take over; empty: there is none.
func begun(owner Owner, observed []Resource) string {
	for _, r := range observed {
		if r.Adopted == r.ID && !r.Lent && slices.Contains(r.Owners, owner.ID()) {
			return r.ID
		}
	}
	return ""
}

// stray reports whether r was marked by an adoption of what is lent that did not come to its end: the balancer itself, which
// is marked last, is not the owner's.
func stray(owner Owner, observed []Resource, r *Resource) bool {
	return r.Lent && !slices.ContainsFunc(observed, func(other Resource) bool {
		return other.ID == r.Adopted && slices.Contains(other.Owners, owner.ID())
	})
}

// FindAdoptable asks a provider, which is an Adopter or else the error is a UserError. Whoever wraps a provider that adopts
// is an Adopter, too, by means of it.
func FindAdoptable(ctx context.Context, p Provider, owner Owner, id string) ([]Adoptable, error) {
	adopter, ok := p.(Adopter)
	if !ok {
		return nil, Errorf(UserError, "the provider declares Adopt and is no Adopter")
	}
	return adopter.Adoptable(ctx, owner, id)
}

// planAdoption decides. Pure. Asked for by id, a balancer is adopted with its owner's consent; made for this very owner, it
// is taken over where the class says so, else offered.
func planAdoption(owner Owner, desired, observed []Resource, found []Adoptable, options Options) adoption {
	if id := begun(owner, observed); id != "" {
		if i := slices.IndexFunc(found, func(f Adoptable) bool { return f.ID == id && f.anchor() != nil }); i >= 0 {
			return takeOver(owner, &found[i], options)
		}
		return adoption{} // it is gone
	}
	if options.Adopt != "" {
		i := slices.IndexFunc(found, func(f Adoptable) bool { return options.asked(f.ID) })
		if i < 0 {
			return refuseAdoption(options.Adopt, "there is no balancer with this id: correct the annotation %s, or remove it",
				v1alpha1.AnnotationAdopt)
		}
		return adopt(owner, desired, observed, &found[i], options)
	}
	found = offered(owner, found, options)
	switch {
	case len(found) == 0:
		return adoption{}
	case len(found) == 1 && options.TakeOver:
		return adopt(owner, desired, observed, &found[0], options)
	}
	var a adoption
	for _, f := range found {
		a.blocked = append(a.blocked, Block{Resource: f.ID, Reason: BlockOffered, Message: fmt.Sprintf(
			"balancer %s, which %s made for this Service, is there already: set the annotation %s to %s to take it over, or to %s to have another one made",
			f.ID, f.MadeBy, v1alpha1.AnnotationAdopt, f.ID, v1alpha1.AdoptNone)})
	}
	return a
}

// Offers asks a provider for what another controller made for this very owner and nobody else has, sorted by id. Its error is an *Error.
func Offers(ctx context.Context, p Provider, owner Owner) ([]Adoptable, error) {
	found, err := FindAdoptable(ctx, p, owner, "")
	if err != nil {
		return nil, classified(p, fmt.Errorf("looking for what another controller made: %w", err))
	}
	return offered(owner, found, Options{}), nil
}

// offered returns of what a provider found, sorted by id, what another controller made for this very owner and nobody else has. The
// argument is not changed.
func offered(owner Owner, found []Adoptable, options Options) []Adoptable {
	all := slices.DeleteFunc(slices.Clone(found), func(f Adoptable) bool {
		return f.MadeBy == "" || f.anchor() != nil && len(options.others(owner, f.anchor())) > 0
	})
	slices.SortFunc(all, func(a, b Adoptable) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func refuseAdoption(id, format string, args ...any) adoption {
	return adoption{blocked: []Block{{Resource: id, Reason: BlockAdoption,
		Message: fmt.Sprintf("balancer %s is not adopted: ", id) + fmt.Sprintf(format, args...)}}}
}

// anchor returns the resource that is the balancer itself; nil where a provider leaves it out.
func (f *Adoptable) anchor() *Resource {
	i := slices.IndexFunc(f.Resources, func(r Resource) bool { return r.ID == f.ID })
	if i < 0 {
		return nil
	}
	return &f.Resources[i]
}

// others returns who has r beside the owner, but for the earlier Service that it takes r back from.
func (o Options) others(owner Owner, r *Resource) []OwnerID {
	return slices.DeleteFunc(slices.Clone(r.Owners), func(id OwnerID) bool { return id == owner.ID() || id == o.Retained })
}

// whose tells whose something is that belongs to these.
func (o Options) whose(owner Owner, ids []OwnerID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		uid, here := strings.CutPrefix(string(id), owner.ClusterID+"/")
		cluster, _, _ := strings.Cut(string(id), "/")
		switch name := o.Services[uid]; {
		case !here:
			texts[i] = "a Service of another cluster (" + cluster + ")"
		case name != "":
			texts[i] = "Service " + name
		case o.Services != nil:
			texts[i] = "a Service that is gone (UID " + uid + ")"
		default:
			texts[i] = "another Service (UID " + uid + ")"
		}
	}
	return enumerated(texts)
}

// adopt marks f for the owner, if it may be: since it was made for this very Service, or left behind by an earlier one of its name,
// or else its owner consents, by the tag or by the class; nobody else has it, nor a part that the Service wants to use; and the
// Service has no balancer yet.
func adopt(owner Owner, desired, observed []Resource, f *Adoptable, options Options) adoption {
	anchor := f.anchor()
	if anchor == nil {
		return refuseAdoption(f.ID, "the provider does not say what it is")
	}
	others, back := options.others(owner, anchor), options.Retained != "" && slices.Contains(anchor.Owners, options.Retained)
	switch {
	case len(others) > 0:
		return refuseAdoption(f.ID, "it belongs to %s: name another one, or remove the annotation %s", options.whose(owner, others), v1alpha1.AnnotationAdopt)
	case f.MadeBy == "" && !back && f.AdoptableBy != AdoptableBy(owner) && !options.Granted:
		return refuseAdoption(f.ID, "its owner does not consent: they %s=%s, or the LoadBalancerClass grants it in spec.adoption",
			cmp.Or(f.Consent, "tag it "+v1alpha1.TagAdoptableBy), AdoptableBy(owner))
	}
	for i := range observed {
		r := &observed[i]
		instead := slices.ContainsFunc(f.Resources, func(part Resource) bool { return part.ref() == r.ref() }) &&
			!slices.ContainsFunc(f.Resources, func(part Resource) bool { return part.Kind == r.Kind && part.ID == r.ID })
		if instead && slices.Contains(r.Owners, owner.ID()) && !stray(owner, observed, r) {
			return refuseAdoption(f.ID, "the Service has %s already: remove the annotation %s", r.Name(), v1alpha1.AnnotationAdopt)
		}
	}
	if f.MadeBy != "" || back && !anchor.Lent {
		return takeOver(owner, f, options)
	}
	return lend(owner, desired, f, options)
}

// lend marks the parts that the Service wants, or that are in the way of what it wants, and then the balancer itself: so its mark
// says that all the others are there. What an adoption has left that did not come so far is let go where nobody asks for it any more.
func lend(owner Owner, desired []Resource, f *Adoptable, options Options) adoption {
	wanted := func(r *Resource) bool {
		return slices.ContainsFunc(desired, func(want Resource) bool { return want.ref() == r.ref() || want.Kind == r.Kind && r.excludes(&want) })
	}
	a := adoption{parts: f.Resources}
	for _, r := range f.anchorLast() {
		switch others := options.others(owner, r); {
		case slices.Contains(r.Owners, owner.ID()), r.ID != f.ID && !wanted(r):
		case len(others) > 0:
			return refuseAdoption(f.ID, "its %s belongs to %s", r.Name(), options.whose(owner, others))
		case r.State == StateFailed:
			return refuseAdoption(f.ID, "its %s has failed", r.Name())
		default:
			a.mark(owner, r, f.ID, true)
		}
	}
	return a.ready()
}

// takeOver marks the balancer, and with it that the rest is to follow; then the rest, whatever it is, but for what the earlier Service
// that it is taken back from did not have; then takes away what says that the rest is to follow. So it is always the Service's as a
// whole, or on the way to be.
func takeOver(owner Owner, f *Adoptable, options Options) adoption {
	parts := f.anchorLast()
	anchor := parts[len(parts)-1]
	a := adoption{parts: f.Resources}
	if !slices.Contains(anchor.Owners, owner.ID()) {
		a.mark(owner, anchor, f.ID, false)
	}
	for _, r := range parts[:len(parts)-1] {
		theirs := options.Retained == "" || f.MadeBy != "" || slices.Contains(r.Owners, options.Retained)
		if theirs && !slices.Contains(r.Owners, owner.ID()) && len(options.others(owner, r)) == 0 {
			a.mark(owner, r, "", false)
		}
	}
	claimed := withOwner(anchor, nil, owner.ID())
	claimed.Adopted = f.ID
	done := claimed
	done.Adopted = ""
	a.operations = append(a.operations, Operation{Action: ActionAdopt, Resource: done, Observed: &claimed, Reason: "adopted balancer " + f.ID})
	return a.ready()
}

// anchorLast returns the balancer's resources, sorted, but for itself, which comes last.
func (f *Adoptable) anchorLast() []*Resource {
	sorted := slices.Clone(f.Resources)
	SortResources(sorted)
	var parts []*Resource
	for i := range sorted {
		if sorted[i].ID != f.ID {
			parts = append(parts, &sorted[i])
		}
	}
	return append(parts, f.anchor())
}

// mark plans to mark r, which is waited for where the cloud is still at it.
func (a *adoption) mark(owner Owner, r *Resource, adopted string, lent bool) {
	if r.State == StatePending || r.State == StateDeleting {
		a.waiting = append(a.waiting, r.Name())
		return
	}
	made := withOwner(r, nil, owner.ID())
	made.Adopted, made.Lent = adopted, lent
	a.operations = append(a.operations, Operation{Action: ActionAdopt, Resource: made, Observed: r, Reason: "adopting " + r.Name()})
}

// ready marks nothing as long as something is waited for.
func (a adoption) ready() adoption {
	if len(a.waiting) > 0 {
		a.operations = nil
	}
	return a
}

// compare is Compare of what is there once the operations are done.
func (a *adoption) compare(owner Owner, desired, observed []Resource, options Options) (Outcome, error) {
	if len(a.blocked)+len(a.waiting) > 0 {
		options.TargetsOnly = true
	}
	return Compare(owner, desired, a.adopting(observed), options)
}

// lends reports whether what is marked stays somebody else's.
func (a *adoption) lends() bool {
	return slices.ContainsFunc(a.operations, func(op Operation) bool { return op.Resource.Lent })
}

// adopting returns what is observed once the operations are done. The argument is not changed.
func (a *adoption) adopting(observed []Resource) []Resource {
	after := slices.Clone(observed)
	for _, part := range a.parts {
		if i := slices.IndexFunc(after, func(r Resource) bool { return r.Kind == part.Kind && r.ID == part.ID }); i >= 0 {
			after[i] = part
		}
	}
	for _, op := range a.operations {
		after = slices.DeleteFunc(after, func(r Resource) bool { return r.Kind == op.Resource.Kind && r.ID == op.Resource.ID })
		after = append(after, op.Resource)
	}
	return after
}
