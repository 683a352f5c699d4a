// Package faketest is what the tests of the fake cloud's provider share, wherever it runs: in their own process, or in that
// of a plugin. It is no test itself.
package faketest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
	"github.com/fairlead/fairlead/cloud/fake"
)

// Pools of every cloud.
var Pools = []fake.Pool{
	{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
	{Name: "other", Prefix: netip.MustParsePrefix("203.0.113.0/24")},
	{Name: "six", Prefix: netip.MustParsePrefix("2001:db8:51::/120")},
	{Name: "empty", Prefix: netip.MustParsePrefix("192.0.2.8/32")}, // which is its last address
}

// Cloud is a fake cloud whose hook can change.
type Cloud struct {
	*fake.Cloud
	slow time.Duration
	hook faults.Hook[fake.Call]
}

// New makes a cloud with Pools and the hook of SetHook, and else as options say.
func New(options fake.Options) *Cloud {
	c := &Cloud{slow: options.Slow}
	options.Pools = Pools
	options.Hook = c.hook.Tell
	c.Cloud = fake.New(options)
	return c
}

// SetHook has the cloud call hook before and after each call. Nil takes it away.
func (c *Cloud) SetHook(hook func(fake.Call) error) { c.hook.Set(hook) }

// Snapshot describes the cloud by keys, which unlike ids are the same in every run.
func (c *Cloud) Snapshot() []string {
	objects := c.Objects()
	names := map[string]string{}
	for _, o := range objects {
		names[o.ID] = o.Kind + "/" + o.Tags["fairlead.dev/key"]
	}
	var lines []string
	for _, o := range objects {
		refs := make([]string, len(o.Refs))
		for i, id := range o.Refs {
			refs[i] = names[id]
		}
		slices.Sort(refs)
		lines = append(lines, fmt.Sprintf("%s %v %v %v %s", names[o.ID], o.Tags, o.Fields, refs, strings.Join(o.Targets, ",")))
	}
	slices.Sort(lines)
	return lines
}

// Harness is the cloud and the way to it that provider makes, for the suite.
func (c *Cloud) Harness(provider func() cloud.Provider) *cloudtest.Harness {
	return &cloudtest.Harness{
		New: provider,
		SetHook: func(hook func(cloudtest.Call) error) {
			if hook == nil {
				c.SetHook(nil)
				return
			}
			c.SetHook(func(call fake.Call) error {
				return hook(cloudtest.Call{Name: call.Method + " " + call.Kind, Write: call.Write(), After: call.After})
			})
		},
		Replacements: map[string]map[string]string{"another pool": {fake.AnnotationPrefix + "pool": "other"}},
		Refused: map[string]map[string]string{
			"a pool that there is not": {fake.AnnotationPrefix + "pool": "nowhere"},
			"a pool without addresses": {fake.AnnotationPrefix + "pool": "empty"},
		},
		RefusedAddress: "192.0.2.1",
		Snapshot:       c.Snapshot,
		PlantForeign:   c.plantForeign,
		PlantBalancer:  c.plantBalancer,
		Throttled: func(after time.Duration) error {
			return &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: int(after.Seconds())}
		},
		Address:      "198.51.100.77",
		SetAnswering: func(target cloud.Target, answering bool) { c.SetAnswering(target.ID, answering) },
	}
}

// fieldsOf are what an object of the cloud has of a resource's attributes: the others stand in its tags.
func fieldsOf(r *cloud.Resource) map[string]string {
	fields := maps.Clone(r.Attributes)
	delete(fields, "ipMode")
	delete(fields, "group")
	return fields
}

func (c *Cloud) plantForeign(owner cloud.Owner, r cloud.Resource) error {
	if len(r.DependsOn) > 0 {
		return cloudtest.ErrCannotPlant
	}
	_, err := c.Create(context.Background(), fake.Object{Kind: r.Kind, Name: cloud.Name(owner, r, 63), Fields: fieldsOf(&r),
		Tags: map[string]string{"somebody": "else"}})
	return err
}

// plantBalancer makes what the provider would make for the Spec, under names and with tags of somebody else's, and returns
// the balancer's id.
func (c *Cloud) plantBalancer(plant cloudtest.Plant) (id string, err error) {
	desired, err := fake.NewProvider(c).Desired(plant.Spec)
	if err != nil {
		return "", err
	}
	ids := map[cloud.Ref]string{}
	for _, kind := range []string{fake.KindAddress, fake.KindHealthCheck, fake.KindTargetSet, fake.KindBalancer, fake.KindListener} {
		for _, r := range desired {
			if r.Kind != kind {
				continue
			}
			o := fake.Object{Kind: kind, Name: "hand-made-" + plant.Spec.Owner.Name + "-" + r.Key, Fields: fieldsOf(&r), Tags: map[string]string{"by": "hand"}}
			for _, dep := range r.DependsOn {
				o.Refs = append(o.Refs, ids[cloud.Ref{Kind: dep.Kind, Key: dep.Key}])
			}
			if plant.MadeFor {
				o.Tags[fake.TagMadeFor], o.Tags[fake.TagMadeBy] = string(plant.Spec.Owner.ID()), "service-controller"
			}
			if plant.AdoptableBy != "" && kind == fake.KindBalancer {
				o.Tags[v1alpha1.TagAdoptableBy] = plant.AdoptableBy
			}
			made, err := patiently(func() (fake.Object, error) { return c.Create(context.Background(), o) })
			if err != nil {
				return "", err
			}
			time.Sleep(c.slow)
			ids[cloud.Ref{Kind: kind, Key: r.Key}] = made.ID
			if kind == fake.KindBalancer {
				id = made.ID
			}
			if kind == fake.KindTargetSet {
				request := fake.TargetsRequest{ID: made.ID}
				for _, target := range r.Targets {
					request.Add = append(request.Add, target.ID)
				}
				_, err := patiently(func() (fake.Object, error) {
					return made, c.SyncTargets(context.Background(), []fake.TargetsRequest{request})
				})
				if err != nil {
					return "", err
				}
			}
		}
	}
	return id, nil
}

// patiently calls again where the account's limit is reached.
func patiently(call func() (fake.Object, error)) (fake.Object, error) {
	for {
		o, err := call()
		refused, ok := errors.AsType[*fake.Error](err)
		if !ok || refused.Code != fake.CodeThrottled {
			return o, err
		}
		time.Sleep(time.Second)
	}
}
