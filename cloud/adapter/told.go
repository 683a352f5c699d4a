package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// told is what the provider was last told of one Service, as it is kept in the memory.
type told struct {
	// ServiceUID tells the Service from one of the same name.
	ServiceUID string `json:"serviceUID"`
	// ID is the name of the balancer.
	ID string `json:"id,omitempty"`
	// Annotations and Spec are the attributes.
	Annotations string `json:"annotations,omitempty"`
	Spec        string `json:"spec,omitempty"`
	// Nodes is the id of the target that stands for all nodes; empty: not known.
	Nodes string `json:"nodes,omitempty"`
	// Ingress that the provider returned.
	Ingress []cloud.Ingress `json:"ingress,omitempty"`
	// Doubt: a call was begun and is not known to have succeeded.
	Doubt bool `json:"doubt,omitempty"`
	// Gone: the provider has deleted the balancer.
	Gone bool `json:"gone,omitempty"`
}

// attributes are those of the balancer; nil: not known.
func (t *told) attributes() map[string]string {
	if t.Spec == "" {
		return nil
	}
	return map[string]string{attributeAnnotations: t.Annotations, attributeSpec: t.Spec}
}

// state is what the process knows of one Service. Never changed in place.
type state struct {
	owner cloud.Owner
	told  told
	// refusal of the call wanted; nil: none. No such call is made before until, and none at all where that is zero.
	refusal error
	wanted  string
	until   time.Time
}

// known reports whether the balancer is certain to be as the provider was told.
func (s *state) known() bool { return !s.told.Doubt && !s.told.Gone && s.told.Spec != "" }

// held returns the error of a call that the provider does not want yet.
func (s *state) held(want string) error {
	switch {
	case s.refusal == nil || s.wanted != want:
		return nil
	case s.until.IsZero():
		return s.refusal
	}
	if wait := time.Until(s.until); wait > 0 {
		return &cloud.Error{Class: cloud.RetryAfter, After: wait, Err: s.refusal}
	}
	return nil
}

// elsewhere reports whether the provider leaves the Service to another controller.
func (s *state) elsewhere() bool { return s.refusal != nil && s.until.IsZero() }

// resource is the balancer as it is told of. Where that is not known, or the addresses are another controller's, those
// that are published stay: the Service may well be served.
func (s *state) resource(owner cloud.Owner) cloud.Resource {
	r := cloud.Resource{Kind: kind, Key: key, ID: s.told.ID, HasTargets: true, Owners: []cloud.OwnerID{owner.ID()}, Ingress: s.told.Ingress}
	if s.known() {
		r.Attributes = s.told.attributes()
	}
	if s.known() && s.told.Nodes != "" {
		r.Targets = []cloud.Target{{ID: s.told.Nodes}}
	}
	if (!s.known() || s.elsewhere()) && owner.Service != nil {
		r.Ingress = ingressesOf(&owner.Service.Status.LoadBalancer)
	}
	return r
}

// recall returns the state of a Service, from the memory where this process has not seen it yet.
func (p *Provider) recall(ctx context.Context, owner cloud.Owner) (state, error) {
	p.mu.Lock()
	s, ok := p.states[owner.ID()]
	p.mu.Unlock()
	if ok {
		return s, nil
	}
	text, err := p.memory.Recall(ctx, owner)
	if err != nil {
		return state{}, fmt.Errorf("recalling what the provider was told: %w", err)
	}
	s = state{owner: owner}
	// What is not understood, or is of an earlier Service of the name, is as good as nothing.
	if json.Unmarshal([]byte(text), &s.told) != nil || s.told.ServiceUID != owner.ServiceUID {
		s.told = told{}
	}
	s.owner.Service = nil
	p.put(s)
	return s, nil
}

// keep notes what the provider was told, here and in the memory.
func (p *Provider) keep(ctx context.Context, owner cloud.Owner, t told) error {
	s, err := p.recall(ctx, owner)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(t, s.told) {
		return nil
	}
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("writing what the provider was told: %w", err)
	}
	// In doubt before the memory is: a write that fails may have been done.
	doubtful := t
	doubtful.Doubt = true
	s = state{owner: s.owner, told: doubtful}
	p.put(s)
	if err := p.memory.Keep(ctx, owner, string(text)); err != nil {
		return fmt.Errorf("keeping what the provider is told: %w", err)
	}
	s.told = t
	p.put(s)
	return nil
}

// refused notes the error of a call, and for how long it is not to be made again. It returns the error with a text that
// does not change.
func (p *Provider) refused(owner cloud.Owner, want string, err error) error {
	e := p.Classify(err)
	err = &stable{err}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.states[owner.ID()]
	s.refusal, s.wanted, s.until = nil, "", time.Time{}
	switch {
	case elsewhere(err):
		s.refusal, s.wanted = &cloud.Error{Class: e.Class, Err: err}, want
	case e.Class == cloud.RetryAfter && e.After > 0:
		s.refusal, s.wanted, s.until = err, want, time.Now().Add(e.After)
	}
	p.states[owner.ID()] = s
	return err
}

func (p *Provider) put(s state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states[s.owner.ID()] = s
}

func (p *Provider) drop(owner cloud.Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.states, owner.ID())
}

// forgetful is no memory at all.
type forgetful struct{}

func (forgetful) Recall(context.Context, cloud.Owner) (string, error) { return "", nil }

func (forgetful) Keep(context.Context, cloud.Owner, string) error { return nil }
