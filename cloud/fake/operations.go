package fake

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Observe implements cloud.Provider.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	sets := []map[string]string{{tagOwner + owner.ServiceUID: owner.ClusterID}}
	if group := owner.GroupID(); group != "" {
		sets = append(sets, map[string]string{tagGroup: group})
	}
	return p.list(ctx, sets...)
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	return p.list(ctx, map[string]string{tagCluster: clusterID})
}

func (p *Provider) list(ctx context.Context, sets ...map[string]string) ([]cloud.Resource, error) {
	objects, err := p.api.List(ctx, sets...)
	if err != nil {
		return nil, err
	}
	refs := make(map[string]cloud.Ref, len(objects))
	for _, o := range objects {
		refs[o.ID] = cloud.Ref{Kind: o.Kind, Key: o.Tags[tagKey], ID: o.ID}
	}
	resources := make([]cloud.Resource, 0, len(objects))
	for _, o := range objects {
		resources = append(resources, observed(o, refs))
	}
	return resources, nil
}

func observed(o Object, refs map[string]cloud.Ref) cloud.Resource {
	r := cloud.Resource{Kind: o.Kind, Key: o.Tags[tagKey], ID: o.ID, State: cloud.State(o.State),
		Attributes: map[string]string{}, Owners: owners(o), Shared: o.Tags[tagGroup] != "", HasTargets: o.Kind == KindTargetSet,
		Adopted: o.Tags[tagAdopted], Lent: o.Tags[tagLent] != ""}
	maps.Copy(r.Attributes, o.Fields)
	for _, id := range o.Refs {
		ref, ok := refs[id]
		if !ok {
			ref = cloud.Ref{ID: id} // foreign: the core will want ours instead
		}
		ref.Parent = o.Kind == KindListener && ref.Kind == KindBalancer
		r.DependsOn = append(r.DependsOn, ref)
	}
	for _, t := range o.Targets {
		r.Targets = append(r.Targets, cloud.Target{ID: t})
	}
	if o.Kind == KindAddress || o.Kind == KindBalancer {
		r.Attributes["group"] = o.Tags[tagGroup]
	}
	if o.Kind == KindAddress {
		r.Attributes["ipMode"] = o.Tags[tagIPMode]
		if o.Address != "" {
			r.Ingress = []cloud.Ingress{{IP: o.Address, IPMode: o.Tags[tagIPMode]}}
		}
	}
	return r
}

// owners are those whose marks an object carries, sorted.
func owners(o Object) []cloud.OwnerID {
	var ids []cloud.OwnerID
	for name, clusterID := range o.Tags {
		if uid, ok := strings.CutPrefix(name, tagOwner); ok {
			ids = append(ids, cloud.Owner{ClusterID: clusterID, ServiceUID: uid}.ID())
		}
	}
	slices.Sort(ids)
	return ids
}

// mark is the tag of an owner.
func mark(id cloud.OwnerID) (name, clusterID string) {
	clusterID, uid, _ := strings.Cut(string(id), "/")
	return tagOwner + uid, clusterID
}

// fields splits attributes into those of the cloud and those that are kept in tags.
func fields(attributes map[string]string) (fields, tags map[string]string) {
	fields, tags = map[string]string{}, map[string]string{}
	for name, value := range attributes {
		if tag, ok := tagged[name]; ok {
			tags[tag] = value
		} else {
			fields[name] = value
		}
	}
	return fields, tags
}

func refs(r cloud.Resource) []string {
	ids := make([]string, 0, len(r.DependsOn))
	for _, dep := range r.DependsOn {
		ids = append(ids, dep.ID)
	}
	slices.Sort(ids)
	return ids
}

// Create implements cloud.Provider. A name that is taken is looked up: names carry the owner, or the group, and the
// immutable attributes, so that an object of the owner, or of the group, with this name is this very resource.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	want := Object{Kind: desired.Kind, Name: cloud.Name(owner, desired, 63), Refs: refs(desired)}
	want.Fields, want.Tags = fields(desired.Attributes)
	maps.DeleteFunc(want.Tags, func(_, value string) bool { return value == "" })
	mine, clusterID := mark(owner.ID())
	want.Tags[mine], want.Tags[tagCluster], want.Tags[tagKey] = clusterID, owner.ClusterID, desired.Key
	want.Tags[tagService] = owner.Namespace + "/" + owner.Name
	if desired.Shared {
		want.Tags[tagService] = owner.Namespace + "/" + owner.Group
	}
	made, err := p.api.Create(ctx, want)
	if err == nil {
		return observed(made, nil), nil
	}
	if !hasCode(err, CodeDuplicateName) {
		return cloud.Resource{}, err
	}
	objects, err := p.api.List(ctx)
	if err != nil {
		return cloud.Resource{}, err
	}
	i := slices.IndexFunc(objects, func(o Object) bool { return o.Kind == want.Kind && o.Name == want.Name })
	switch {
	case i < 0:
		return cloud.Resource{}, cloud.Errorf(cloud.Pending, "a %s called %s exists and is not to be seen yet", want.Kind, want.Name)
	case objects[i].Tags[mine] == clusterID:
		return observed(objects[i], nil), nil
	case desired.Shared && objects[i].Tags[tagGroup] == owner.GroupID():
		made, err := p.api.Update(ctx, Object{ID: objects[i].ID, Kind: want.Kind, Tags: map[string]string{mine: clusterID}})
		return observed(made, nil), err
	}
	return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "a %s called %s is not this Service's", want.Kind, want.Name)
}

// Check implements cloud.Checker. An address that is another's is a Conflict, not something that may work later.
func (p *Provider) Check(ctx context.Context, _ cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	request := CheckRequest{Object: Object{Kind: desired.Kind}}
	request.Object.Fields, _ = fields(desired.Attributes)
	for _, r := range replaced {
		request.Without = append(request.Without, r.ID)
	}
	err := p.api.Check(ctx, request)
	if hasCode(err, CodeInUse) {
		return &cloud.Error{Class: cloud.Conflict, Err: err}
	}
	return err
}

// Update implements cloud.Provider. Only what differs is sent.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, was, desired cloud.Resource) error {
	o := Object{ID: was.ID, Kind: was.Kind}
	o.Fields, o.Tags = fields(desired.Attributes)
	now, nowTags := fields(was.Attributes)
	maps.DeleteFunc(o.Fields, func(name, value string) bool { return now[name] == value })
	maps.DeleteFunc(o.Tags, func(name, value string) bool { return nowTags[name] == value })
	for _, id := range desired.Owners {
		if !slices.Contains(was.Owners, id) {
			name, clusterID := mark(id)
			o.Tags[name] = clusterID
		}
	}
	for _, id := range was.Owners {
		if !slices.Contains(desired.Owners, id) {
			name, _ := mark(id)
			o.Tags[name] = ""
		}
	}
	if ids := refs(desired); !slices.Equal(ids, refs(was)) {
		o.Refs = ids
	}
	if err := p.handOver(ctx, owner, was, desired, &o); err != nil {
		return err
	}
	_, err := p.api.Update(ctx, o)
	if hasCode(err, CodeChanged) {
		// Who changed it, perhaps this very owner, is to be seen a while later.
		return &cloud.Error{Class: cloud.Pending, Err: err}
	}
	return err
}

// Delete implements cloud.Provider. The cloud refuses to delete what others refer to, so that a shared balancer that
// somebody joined meanwhile stays.
func (p *Provider) Delete(ctx context.Context, _ cloud.Owner, r cloud.Resource) error {
	err := p.api.Delete(ctx, r.ID)
	switch {
	case hasCode(err, CodeNotFound):
		return nil
	case hasCode(err, CodeInUse):
		return &cloud.Error{Class: cloud.Pending, Err: err}
	}
	return err
}

// SyncTargets implements cloud.Provider, in calls of MaxTargetsPerCall, each of which is done as a whole or not at all.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	b := batch{errs: make([]error, len(changes)), room: MaxTargetsPerCall}
	for i, change := range changes {
		add, remove := ids(change.Add), ids(change.Remove)
		for len(add)+len(remove) > 0 {
			if b.room == 0 {
				b.send(ctx, p)
			}
			// Additions first: a set is never emptied on the way to another one.
			a := min(b.room, len(add))
			r := min(b.room-a, len(remove))
			b.requests = append(b.requests, TargetsRequest{ID: change.Resource.ID, Add: add[:a], Remove: remove[:r]})
			b.changes = append(b.changes, i)
			add, remove, b.room = add[a:], remove[r:], b.room-a-r
		}
	}
	b.send(ctx, p)
	if slices.ContainsFunc(b.errs, func(err error) bool { return err != nil }) {
		return b.errs
	}
	return nil
}

// batch gathers one call.
type batch struct {
	requests []TargetsRequest
	changes  []int // of each request
	room     int
	errs     []error // by change
	stop     error   // throttled, or the caller gave up: nothing more is sent
}

func (b *batch) send(ctx context.Context, p *Provider) {
	if len(b.requests) == 0 {
		return
	}
	err := b.stop
	if err == nil {
		err = p.api.SyncTargets(ctx, b.requests)
	}
	if err != nil {
		for _, i := range b.changes {
			b.errs[i] = err
		}
		if ctx.Err() != nil || p.Classify(err).Class == cloud.Throttled {
			b.stop = err
		}
	}
	b.requests, b.changes, b.room = nil, nil, MaxTargetsPerCall
}

func ids(targets []cloud.Target) []string {
	result := make([]string, len(targets))
	for i, t := range targets {
		result[i] = t.ID
	}
	return result
}
