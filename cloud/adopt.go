package cloud

import (
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
	// the id is that of something else. With an empty id it returns the balancers that another controller made for this very
	// owner, known by that controller's own marks: the Service's UID in a name or tag, or the cluster's name and the
	// Service's name. Never by a name that anybody could have chosen.
	Adoptable(ctx context.Context, owner Owner, id string) ([]Adoptable, error)
}

// Adoptable is a balancer that is there already.
type Adoptable struct {
	// ID of the balancer, as people write it into the annotation fairlead.dev/adopt. One of Resources has it.
	ID string `json:"id"`
	// AdoptableBy is the value of the tag fairlead.dev/adoptable-by on the balancer; where the cloud has no tags, what
	// stands for it in the description. Empty: it is on none.
	AdoptableBy string `json:"adoptableBy,omitempty"`
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
	// blocked and waiting: nothing else is done, either, but for targets.
	blocked []Block
	waiting []string
}

// Adopts reports whether the cloud has to be asked for balancers that are there already: where an id is given that is not
// the owner's yet, or nothing is the owner's yet, so that what another controller made would get a second one beside it.
func (o Options) Adopts(caps Capabilities, owner Owner, desired, observed []Resource) bool {
	if !caps.Adopt || len(desired) == 0 || o.TargetsOnly || o.Adopt == v1alpha1.AdoptNone || owner.Group != "" {
		return false
	}
	id := owner.ID()
	if o.Adopt != "" {
		return !slices.ContainsFunc(observed, func(r Resource) bool { return r.ID == o.Adopt && slices.Contains(r.Owners, id) })
	}
	return !slices.ContainsFunc(observed, func(r Resource) bool {
		return slices.Contains(r.Owners, id) && !stray(owner, observed, &r)
	})
}

// stray reports whether r was marked by an adoption that did not come to its end: the balancer itself, which is marked
// last, is not the owner's.
func stray(owner Owner, observed []Resource, r *Resource) bool {
	return r.Adopted != "" && !slices.ContainsFunc(observed, func(other Resource) bool {
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
	if options.Adopt != "" {
		i := slices.IndexFunc(found, func(f Adoptable) bool { return f.ID == options.Adopt })
		if i < 0 {
			return refuseAdoption(options.Adopt, "there is no balancer with this id: correct the annotation %s, or remove it",
				v1alpha1.AnnotationAdopt)
		}
		return adopt(owner, desired, observed, &found[i], options)
	}
	found = slices.DeleteFunc(slices.Clone(found), func(f Adoptable) bool { return f.MadeBy == "" || takenBy(owner, f.anchor()) })
	slices.SortFunc(found, func(a, b Adoptable) int { return strings.Compare(a.ID, b.ID) })
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

// takenBy reports whether r carries the mark of somebody else than the owner.
func takenBy(owner Owner, r *Resource) bool {
	return r != nil && slices.ContainsFunc(r.Owners, func(id OwnerID) bool { return id != owner.ID() })
}

// adopt marks f for the owner, if it may be:
//
//  1. The balancer's owner consents, by the tag or by the class; or it was made for this very Service.
//  2. Nobody else has it, nor a part that the Service wants to use, and the Service has no balancer yet.
//  3. Of a balancer that is lent, the parts that the Service wants are marked; of one that was made for it, all.
//  4. The balancer itself is marked last: so its mark says that all the others are there.
func adopt(owner Owner, desired, observed []Resource, f *Adoptable, options Options) adoption {
	anchor := f.anchor()
	lent := f.MadeBy == ""
	switch {
	case anchor == nil:
		return refuseAdoption(f.ID, "the provider does not say what it is")
	case lent && f.AdoptableBy != AdoptableBy(owner) && !options.Granted:
		return refuseAdoption(f.ID, "its owner does not consent: they tag it %s=%s, or the LoadBalancerClass grants it in spec.adoption",
			v1alpha1.TagAdoptableBy, AdoptableBy(owner))
	case takenBy(owner, anchor):
		return refuseAdoption(f.ID, "it belongs to another Service already, of this cluster or another one")
	}
	wanted := map[Ref]bool{}
	for i := range desired {
		wanted[desired[i].ref()] = true
	}
	for i := range observed {
		r := &observed[i]
		if r.ref() == anchor.ref() && r.ID != f.ID && slices.Contains(r.Owners, owner.ID()) {
			return refuseAdoption(f.ID, "the Service has %s already: remove the annotation %s", r.Name(), v1alpha1.AnnotationAdopt)
		}
	}
	parts := slices.Clone(f.Resources)
	SortResources(parts)
	parts = append(slices.DeleteFunc(parts, func(r Resource) bool { return r.ID == f.ID }), *anchor)
	var a adoption
	for i := range parts {
		r := &parts[i]
		switch {
		case slices.Contains(r.Owners, owner.ID()), lent && r.ID != f.ID && !wanted[r.ref()]:
		case takenBy(owner, r) && wanted[r.ref()]:
			return refuseAdoption(f.ID, "its %s belongs to another Service already, of this cluster or another one", r.Name())
		case takenBy(owner, r):
		case r.State == StatePending, r.State == StateDeleting:
			a.waiting = append(a.waiting, r.Name())
		case r.State == StateFailed && lent:
			return refuseAdoption(f.ID, "its %s has failed", r.Name())
		default:
			made := withOwner(r, nil, owner.ID())
			made.Adopted, made.Lent = f.ID, lent
			a.operations = append(a.operations, Operation{Action: ActionAdopt, Resource: made, Observed: r,
				Reason: "adopting balancer " + f.ID})
		}
	}
	if len(a.waiting) > 0 {
		a.operations = nil
	}
	return a
}

// adopting returns what is observed once the operations are done. The argument is not changed.
func (a *adoption) adopting(observed []Resource) []Resource {
	after := slices.Clone(observed)
	for _, op := range a.operations {
		after = slices.DeleteFunc(after, func(r Resource) bool { return r.Kind == op.Resource.Kind && r.ID == op.Resource.ID })
		after = append(after, op.Resource)
	}
	return after
}
