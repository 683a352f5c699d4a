// Package faketest is what the tests of the fake cloud's provider share, wherever it runs: in their own process, or in that
// of a plugin. It is no test itself.
package faketest

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
)

// PlantBalancer makes what the provider would make for the Spec, under names and with tags of somebody else's, and returns
// the balancer's id. Slow is what the cloud was made with.
func PlantBalancer(c *fake.Cloud, slow time.Duration, plant cloudtest.Plant) (id string, err error) {
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
			o := fake.Object{Kind: kind, Name: "hand-made-" + plant.Spec.Owner.Name + "-" + r.Key, Fields: map[string]string{}, Tags: map[string]string{"by": "hand"}}
			for name, value := range r.Attributes {
				if name != "ipMode" && name != "group" {
					o.Fields[name] = value
				}
			}
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
			time.Sleep(slow)
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
