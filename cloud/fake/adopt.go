package fake

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Tags by which another controller of this cloud says for which Service it made something, and who it is. Nothing in this
// module sets them but tests.
const (
	TagMadeFor = "fake.fairlead.dev/made-for" // as cloud.OwnerID
	TagMadeBy  = "fake.fairlead.dev/made-by"
)

// Adoptable implements cloud.Adopter.
func (p *Provider) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	madeFor := map[string]string{TagMadeFor: string(owner.ID())}
	if id == "" {
		// Most Services have none, and whatever else is in the cloud is not asked for.
		if objects, err := p.api.List(ctx, madeFor); err != nil || len(objects) == 0 {
			return nil, err
		}
	}
	objects, err := p.api.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []cloud.Adoptable
	loose := map[string]string{} // what was made for the owner and is part of no balancer
	for _, o := range objects {
		if hasTags(&o, madeFor) {
			loose[o.ID] = "left-" + o.Name // no Service wants a key like that
		}
	}
	for _, o := range objects {
		if o.Kind != KindBalancer || o.ID != id && loose[o.ID] == "" {
			continue
		}
		keys := parts(objects, o)
		a := cloud.Adoptable{ID: o.ID, AdoptableBy: o.Tags[v1alpha1.TagAdoptableBy], Resources: keyed(objects, keys)}
		if loose[o.ID] != "" {
			a.MadeBy = o.Tags[TagMadeBy]
		}
		for part := range keys {
			delete(loose, part)
		}
		found = append(found, a)
	}
	if len(loose) > 0 {
		rest := keyed(objects, loose)
		if i := slices.IndexFunc(found, func(a cloud.Adoptable) bool { return a.MadeBy != "" }); i >= 0 {
			found[i].Resources = append(found[i].Resources, rest...)
		} else {
			// The other controller did not come so far as to make the balancer.
			found = append(found, cloud.Adoptable{ID: rest[0].ID, MadeBy: madeBy(objects, rest[0].ID), Resources: rest})
		}
	}
	return slices.DeleteFunc(found, func(a cloud.Adoptable) bool { return id != "" && a.ID != id || id == "" && a.MadeBy == "" }), nil
}

func madeBy(objects []Object, id string) string {
	i := slices.IndexFunc(objects, func(o Object) bool { return o.ID == id })
	return objects[i].Tags[TagMadeBy]
}

// parts returns the parts of a balancer by id, itself included, each with the key that Desired would give to it. A target
// set, or a health check, that something else uses, too, is none; an address can have only one user.
func parts(objects []Object, balancer Object) map[string]string {
	users := map[string][]string{}
	for _, o := range objects {
		for _, used := range o.Refs {
			users[used] = append(users[used], o.ID)
		}
	}
	keys := map[string]string{balancer.ID: "main"}
	for _, o := range objects {
		switch {
		case o.Kind == KindAddress && slices.Contains(balancer.Refs, o.ID):
			keys[o.ID] = strings.ToLower(o.Fields["family"])
		case o.Kind == KindListener && slices.Contains(o.Refs, balancer.ID):
			keys[o.ID] = strings.ToLower(o.Fields["protocol"] + "-" + o.Fields["port"] + "-" + o.Fields["family"])
		}
	}
	for _, o := range objects {
		if listeners := users[o.ID]; o.Kind == KindTargetSet && len(listeners) == 1 && keys[listeners[0]] != "" {
			keys[o.ID] = keys[listeners[0]]
		}
	}
	for _, o := range objects {
		if o.Kind != KindHealthCheck {
			continue
		}
		var ports []string // that its users are for, in whatever family
		for _, set := range users[o.ID] {
			protocol, rest, _ := strings.Cut(keys[set], "-")
			port, _, _ := strings.Cut(rest, "-")
			ports = append(ports, protocol+"-"+port)
		}
		if ports = sorted(ports); len(ports) == 1 && ports[0] != "-" {
			keys[o.ID] = ports[0]
		}
	}
	return keys
}

// keyed returns the objects that have a key, as resources with these keys.
func keyed(objects []Object, keys map[string]string) []cloud.Resource {
	refs := map[string]cloud.Ref{}
	for _, o := range objects {
		if key := keys[o.ID]; key != "" {
			refs[o.ID] = cloud.Ref{Kind: o.Kind, Key: key, ID: o.ID}
		}
	}
	var resources []cloud.Resource
	for _, o := range objects {
		if ref, ok := refs[o.ID]; ok {
			r := observed(o, refs)
			r.Key = ref.Key
			resources = append(resources, r)
		}
	}
	return resources
}

// handOver adds to an update what an adoption writes beside the owner's mark, or what letting go takes away with it. An
// adoption is of nobody else's: so it holds only for the object as it was when it was looked at.
func (p *Provider) handOver(ctx context.Context, owner cloud.Owner, was, desired cloud.Resource, update *Object) error {
	if was.Shared || desired.Shared {
		return nil
	}
	marks := map[string]string{tagCluster: owner.ClusterID, tagKey: desired.Key, tagService: owner.Namespace + "/" + owner.Name,
		tagAdopted: desired.Adopted}
	if desired.Lent {
		marks[tagLent] = "true"
	}
	switch mine := owner.ID(); {
	case slices.Contains(desired.Owners, mine) && !slices.Contains(was.Owners, mine):
		objects, err := p.api.List(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(objects, func(o Object) bool { return o.ID == was.ID })
		if i < 0 {
			return cloud.Errorf(cloud.NotFound, "%s %s is gone", was.Kind, was.ID)
		}
		if slices.ContainsFunc(owners(objects[i]), func(id cloud.OwnerID) bool { return id != mine && !slices.Contains(was.Owners, id) }) {
			return cloud.Errorf(cloud.Conflict, "%s %s is another's meanwhile", was.Kind, was.ID)
		}
		update.Version = objects[i].Version
	case len(desired.Owners) == 0 && slices.Contains(was.Owners, mine):
		for name := range marks {
			marks[name] = ""
		}
		marks[tagIPMode], marks[tagLent] = "", ""
	case was.Adopted != desired.Adopted:
		marks = map[string]string{tagAdopted: desired.Adopted}
	default:
		return nil
	}
	maps.Copy(update.Tags, marks)
	return nil
}
