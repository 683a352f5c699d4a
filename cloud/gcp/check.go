package gcp

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// Check looks whether an address that the Service asks for, or a rule at it, could be made if what the owner has in its place were gone,
// and changes nothing. Nil: nothing that can be seen is against it. A UserError says what is. Nobody's rules are those of a class, whose
// Services have other ports.
func (p *Provider) Check(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	switch {
	case desired.Kind == KindAddress:
		return p.checkAddress(ctx, &desired, replaced)
	case desired.Kind == KindForwardingRule && owner.ServiceUID != "":
		return p.checkRule(ctx, &desired, replaced)
	}
	return nil
}

// checkAddress refuses, beside what Create does, an address of ours that goes with what is replaced.
func (p *Provider) checkAddress(ctx context.Context, r *cloud.Resource, replaced []cloud.Resource) error {
	name, _, err := p.given(ctx, r)
	if err == nil && name != "" && slices.ContainsFunc(replaced, func(old cloud.Resource) bool { return old.ID == idOf(KindAddress, "", name) }) {
		return cloud.Errorf(cloud.UserError, "address %s is the Service's own and goes with what is replaced: name one that you reserved", name)
	}
	return err
}

// checkRule refuses a port that a rule of somebody else's has at the address that is asked for; and to have an external address that only
// the Service's own rules have lost with them. An internal one can be had again.
func (p *Provider) checkRule(ctx context.Context, r *cloud.Resource, replaced []cloud.Resource) error {
	ip := r.Attributes[attrIP]
	unreserved := func(old cloud.Resource) bool {
		return old.Kind == KindForwardingRule && sameAddress(old.Attributes[attrIP], ip) && old.Attributes[attrReserved] == "false"
	}
	if r.Attributes[attrScheme] == schemeExternal && slices.ContainsFunc(replaced, unreserved) {
		class := cloud.Pending // it is reserved for the Service first
		if r.Attributes[attrFamily] == string(cloud.IPv6) {
			class = cloud.UserError // which is not done in place
		}
		return cloud.Errorf(class, "address %s is reserved by nobody, and would be lost with the rule that has it", ip)
	}
	for _, name := range cloud.SplitList(r.Attributes[attrAddresses]) {
		f, err := cloud.Once(ctx, "address "+name, func() (found, error) { return p.api.get(ctx, KindAddress, idOf(KindAddress, "", name)) })
		if hasStatus(err, http.StatusNotFound) {
			return nil // which is told of the address
		} else if err != nil {
			return err
		}
		if a := f.body.(*compute.Address); familyOf(a.IpVersion) == r.Attributes[attrFamily] {
			ip = a.Address
		}
	}
	if ip == "" {
		return nil
	}
	rules, err := cloud.Once(ctx, "rules", func() ([]found, error) { return p.api.list(ctx, KindForwardingRule, "") })
	if err != nil {
		return err
	}
	for i := range rules {
		b := rules[i].body.(*compute.ForwardingRule)
		if sameAddress(b.IPAddress, ip) && !slices.Contains(r.Owners, rules[i].markedBy()) && b.IPProtocol == r.Attributes[attrProtocol] && samePorts(b, r.Attributes[attrPorts]) {
			return cloud.Errorf(cloud.UserError, "rule %s has port %s of address %s already: ask for another address, or port", rules[i].name, r.Attributes[attrPorts], plainIP(ip))
		}
	}
	return nil
}

// samePorts reports whether a rule has a port, or any where it is all that are asked for.
func samePorts(b *compute.ForwardingRule, port string) bool {
	if b.AllPorts || port == allPorts || slices.Contains(b.Ports, port) {
		return true
	}
	first, end, ok := strings.Cut(b.PortRange, "-")
	return ok && number(first) <= number(port) && number(port) <= number(end)
}
