package azuretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// The methods of this file do what somebody else would, with all rights and past hooks, limits and faults.

// Put makes or changes something.
func (c *Cloud) Put(typ, name string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("writing the %s %s: %w", typ, name, err)
	}
	return c.ask(http.MethodPut, typ, name, text)
}

// Remove deletes something.
func (c *Cloud) Remove(typ, name string) error { return c.ask(http.MethodDelete, typ, name, nil) }

func (c *Cloud) ask(method, typ, name string, text []byte) error {
	p := path{subscription: Subscription, group: ResourceGroup, kind: typ, name: name}
	request := httptest.NewRequest(method, "https://management.azure.com"+p.id()+"?api-version=2025-05-01", bytes.NewReader(text))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if _, r := c.serve(p, request); r != nil {
		return fmt.Errorf("asking for %s of the %s %s: %s", method, typ, name, r.body())
	}
	return nil
}

// EditAddress changes a public address.
func (c *Cloud) EditAddress(name string, change func(ip *armnetwork.PublicIPAddress)) error {
	ip := deepcopy.Of(c.thing(publicIPs, name).body.(*armnetwork.PublicIPAddress))
	change(ip)
	return c.Put(publicIPs.name, name, ip)
}

// MoveAddress takes a public address to OtherGroup.
func (c *Cloud) MoveAddress(name string) {
	next := *c.thing(publicIPs, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(next.path.id(), nil, time.Now())
	next.path.group, next.text, next.etag = OtherGroup, nil, c.newETag()
	c.set(next.path.id(), &next, time.Now())
}

// EditLink changes a private link service.
func (c *Cloud) EditLink(name string, change func(service *armnetwork.PrivateLinkService)) error {
	service := deepcopy.Of(c.thing(linkServices, name).body.(*armnetwork.PrivateLinkService))
	change(service)
	return c.Put(linkServices.name, name, service)
}

// SetSKU has a balancer be of another kind: one from before those were no longer made, or one across regions.
func (c *Cloud) SetSKU(name string, sku armnetwork.LoadBalancerSKU) {
	t := c.thing(balancers, name)
	lb := deepcopy.Of(t.body.(*armnetwork.LoadBalancer))
	lb.SKU = &sku
	next := *t
	next.body, next.text = lb, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.things[key(t.path.id())] = &next
}

// Names of what there is of a type, sorted.
func (c *Cloud) Names(typ string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, t := range c.things {
		if t.kind.name == typ {
			names = append(names, t.path.name)
		}
	}
	slices.Sort(names)
	return names
}

// Edit changes every balancer.
func (c *Cloud) Edit(change func(lb *armnetwork.LoadBalancer)) error {
	for _, name := range c.Names(balancers.name) {
		lb := stampBalancer(c.thing(balancers, name)).(*armnetwork.LoadBalancer)
		change(lb)
		if err := c.Put(balancers.name, name, lb); err != nil {
			return err
		}
	}
	return nil
}

// EditGroup changes a security group.
func (c *Cloud) EditGroup(name string, change func(group *armnetwork.SecurityGroup)) error {
	group := deepcopy.Of(c.thing(groups, name).body.(*armnetwork.SecurityGroup))
	change(group)
	return c.Put(groups.name, name, group)
}

// Priority is that of the first rule of a security group whose name has the suffix; 0: there is none.
func (c *Cloud) Priority(group, suffix string) int32 {
	for _, rule := range c.thing(groups, group).body.(*armnetwork.SecurityGroup).Properties.SecurityRules {
		if strings.HasSuffix(value(rule.Name), suffix) {
			return value(rule.Properties.Priority)
		}
	}
	return 0
}

func (c *Cloud) thing(k *kind, name string) *thing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(k, path{subscription: Subscription, group: ResourceGroup, kind: k.name, name: name}.id())
}
