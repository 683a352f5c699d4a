package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/adapter"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// balancers is a provider of the old kind with balancers that can be looked at, idempotent as it should be.
type balancers struct {
	mu    sync.Mutex
	hook  func(cloudtest.Call) error
	calls []string
	made  map[string]string
	// services and nodes that the methods got last, by the name of the balancer.
	services map[string]*corev1.Service
	nodes    map[string][]*corev1.Node
	// fail, if not nil, is what a method returns instead of doing anything.
	fail func(method string, svc *corev1.Service) error
}

var _ cloudprovider.LoadBalancer = (*balancers)(nil)

func newBalancers() *balancers {
	return &balancers{made: map[string]string{}, services: map[string]*corev1.Service{}, nodes: map[string][]*corev1.Node{}}
}

// call is what every method that changes something is wrapped in.
func (b *balancers) call(method string, svc *corev1.Service, nodes []*corev1.Node, do func(name string) error) error {
	b.mu.Lock()
	hook := b.hook
	b.mu.Unlock()
	call := cloudtest.Call{Name: method, Write: true}
	if hook != nil {
		if err := hook(call); err != nil {
			return err
		}
	}
	if err := b.record(method, svc, nodes, do); err != nil {
		return err
	}
	call.After = true
	if hook != nil {
		return hook(call)
	}
	return nil
}

func (b *balancers) record(method string, svc *corev1.Service, nodes []*corev1.Node, do func(name string) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, method+" "+svc.Name)
	name := cloudprovider.DefaultLoadBalancerName(svc)
	b.services[name], b.nodes[name] = svc, nodes
	if b.fail != nil {
		if err := b.fail(method, svc); err != nil {
			return err
		}
	}
	return do(name)
}

func (b *balancers) GetLoadBalancer(context.Context, string, *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	return nil, false, nil // It finds nothing, whatever there is: k/k#91392.
}

func (b *balancers) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(svc)
}

func (b *balancers) EnsureLoadBalancer(_ context.Context, clusterName string, svc *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	ip := svc.Spec.LoadBalancerIP
	if ip == "" {
		ip = "198.51.100.1"
	}
	err := b.call("ensure", svc, nodes, func(name string) error {
		spec := svc.Spec
		b.made[name] = fmt.Sprintf("%s %s/%s %v %v %v %v", clusterName, svc.Namespace, svc.Name, spec.Ports, spec.LoadBalancerSourceRanges,
			spec.HealthCheckNodePort, names(nodes))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: ip}}}, nil
}

func (b *balancers) UpdateLoadBalancer(_ context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) error {
	return b.call("update", svc, nodes, func(name string) error {
		made, ok := b.made[name]
		if !ok {
			return errors.New("there is no balancer")
		}
		b.made[name] = made[:strings.LastIndex(made, " ")+1] + names(nodes)
		return nil
	})
}

func (b *balancers) EnsureLoadBalancerDeleted(_ context.Context, _ string, svc *corev1.Service) error {
	return b.call("delete", svc, nil, func(name string) error {
		delete(b.made, name)
		return nil
	})
}

// names of nodes, with what of them a balancer sees.
func names(nodes []*corev1.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name+"="+n.Spec.ProviderID+"@"+n.Labels[corev1.LabelTopologyZone]+"+"+n.Status.Addresses[0].Address)
	}
	return strings.Join(all, ",")
}

func (b *balancers) setHook(hook func(cloudtest.Call) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hook = hook
}

func (b *balancers) snapshot() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(b.made)) {
		lines = append(lines, name+": "+b.made[name])
	}
	return lines
}

// takeCalls returns the calls since the last time.
func (b *balancers) takeCalls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// memory is a cloud.Memory that outlives providers. As the manager's it knows Services by name.
type memory struct {
	mu    sync.Mutex
	texts map[string]string
	// fail, if not nil, is what Keep returns before it does anything.
	fail error
}

func newMemory() *memory { return &memory{texts: map[string]string{}} }

func (m *memory) Recall(_ context.Context, owner cloud.Owner) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.texts[owner.Namespace+"/"+owner.Name], nil
}

func (m *memory) Keep(_ context.Context, owner cloud.Owner, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.texts[owner.Namespace+"/"+owner.Name] = text
	return nil
}

// throttled is what the provider's SDK would return for too many calls.
type throttled struct{ after time.Duration }

func (*throttled) Error() string { return "slow down" }

func classify(err error) *cloud.Error {
	if e, ok := errors.AsType[*throttled](err); ok {
		return &cloud.Error{Class: cloud.Throttled, After: e.after, Err: err}
	}
	return nil
}

// harness makes a cloud behind the adapter; wrap may put something between the two.
func harness(options adapter.Options, wrap func(*adapter.Provider) cloud.Provider) func(t *testing.T) *cloudtest.Harness {
	return func(*testing.T) *cloudtest.Harness {
		b, m := newBalancers(), newMemory()
		options.Classify = classify
		return &cloudtest.Harness{
			New:          func() cloud.Provider { return wrap(adapter.New(b, m, options)) },
			SetHook:      b.setHook,
			Snapshot:     b.snapshot,
			PlantForeign: func(cloud.Owner, cloud.Resource) error { return cloudtest.ErrCannotPlant },
			Throttled:    func(after time.Duration) error { return &throttled{after} },
			Address:      "198.51.100.77",
		}
	}
}
