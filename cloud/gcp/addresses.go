package gcp

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// The address of a family is one of three: reserved by us, with our mark; one that the Service asks for and somebody else reserved;
// or one that rules have which were adopted, until it is asked for. Of the last two we have nothing: they stand in the place
// of ours under an id that no thing has (see inUse).

// given returns the name of the reserved address that the Service asks for and is to have as it is. Empty: what is to be made is no
// address, or one of ours; inPlace: at an address that the Service's own rules have already. An address that it cannot have is a
// UserError: another Service's own could not be released with that Service any more.
func (p *Provider) given(ctx context.Context, r *cloud.Resource) (name string, inPlace bool, err error) {
	switch {
	case r.Kind != KindAddress:
		return "", false, nil
	case r.Attributes[attrAddresses] != "":
		name, err = p.named(ctx, r)
		return name, false, err
	case r.Attributes[attrIP] != "":
		return p.literal(ctx, r)
	}
	return "", false, nil
}

// named is the first of the names that is reserved and of the family.
func (p *Provider) named(ctx context.Context, r *cloud.Resource) (string, error) {
	for _, name := range cloud.SplitList(r.Attributes[attrAddresses]) {
		f, err := p.api.get(ctx, KindAddress, idOf(KindAddress, "", name))
		if hasStatus(err, http.StatusNotFound) {
			return "", cloud.Errorf(cloud.UserError, "no address called %s is reserved in project %s and region %s: reserve it, or correct %s",
				name, p.config.Project, p.config.Region, annotationAddresses)
		} else if err != nil {
			return "", fmt.Errorf("reading address %s: %w", name, err)
		}
		if another(&f, r) {
			return "", cloud.Errorf(cloud.UserError, "address %s is another Service's own: correct %s", name, annotationAddresses)
		}
		if a := f.body.(*compute.Address); familyOf(a.IpVersion) == r.Attributes[attrFamily] {
			return name, checkGiven(a, r, annotationAddresses)
		}
	}
	return "", cloud.Errorf(cloud.UserError, "none of the addresses %s is one of %s: correct %s", r.Attributes[attrAddresses], r.Attributes[attrFamily],
		annotationAddresses)
}

// fieldAddress is the field of Services by which they ask for an address.
const fieldAddress = "spec.loadBalancerIP"

// literal is the one that is reserved at the address. Where none is, ours is to be reserved there: an external one in place, where the
// Service's own rules have it, an internal one once no rule does.
func (p *Provider) literal(ctx context.Context, r *cloud.Resource) (name string, inPlace bool, err error) {
	ip := r.Attributes[attrIP]
	reserved, err := p.api.list(ctx, KindAddress, "")
	if err != nil {
		return "", false, err
	}
	for i := range reserved {
		if f := &reserved[i]; sameAddress(f.body.(*compute.Address).Address, ip) {
			if another(f, r) {
				return "", false, cloud.Errorf(cloud.UserError, "address %s is another Service's own: correct %s", ip, fieldAddress)
			}
			return f.name, false, checkGiven(f.body.(*compute.Address), r, fieldAddress)
		}
	}
	rules, err := p.api.list(ctx, KindForwardingRule, "")
	if err != nil {
		return "", false, err
	}
	for i := range rules {
		if sameAddress(rules[i].body.(*compute.ForwardingRule).IPAddress, ip) {
			if !slices.Contains(r.Owners, rules[i].markedBy()) {
				return "", false, cloud.Errorf(cloud.UserError, "address %s is that of rule %s, which is not this Service's: correct %s", ip, rules[i].name, fieldAddress)
			}
			inPlace = true
		}
	}
	if !inPlace && r.Attributes[attrScheme] == schemeExternal {
		return "", false, cloud.Errorf(cloud.UserError, "address %s is not reserved in project %s and region %s: reserve it, or correct %s",
			ip, p.config.Project, p.config.Region, fieldAddress)
	}
	return "", inPlace, nil
}

// another reports whether something has the mark of another owner than those of r.
func another(f *found, r *cloud.Resource) bool {
	id := f.markedBy()
	return id != "" && !slices.Contains(r.Owners, id)
}

// sameAddress compares addresses, in whatever form, of a range the first.
func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddr(plainIP(a))
	y, errY := netip.ParseAddr(plainIP(b))
	return errX == nil && errY == nil && x == y
}

// checkGiven refuses a reserved address that the balancer cannot have. The API would, too, without saying what to change. By is how it was
// asked for.
func checkGiven(a *compute.Address, r *cloud.Resource, by string) error {
	if scheme := cmp.Or(a.AddressType, schemeExternal); r.Attributes[attrScheme] != "" && scheme != r.Attributes[attrScheme] {
		return cloud.Errorf(cloud.UserError, "address %s is %s and the balancer %s: name another one in %s, or change %s",
			a.Name, strings.ToLower(scheme), strings.ToLower(r.Attributes[attrScheme]), by, annotationType)
	}
	if tier := r.Attributes[attrTier]; tier != "" && a.NetworkTier != "" && a.NetworkTier != tier {
		return cloud.Errorf(cloud.UserError, "address %s is of the network tier %s and the balancer of %s: name another one in %s, or change %s",
			a.Name, a.NetworkTier, tier, by, annotationTier)
	}
	for _, user := range a.Users {
		if parts := strings.Split(user, "/"); len(parts) > 1 && parts[len(parts)-2] != kinds[KindForwardingRule].collection {
			return cloud.Errorf(cloud.UserError, "address %s is that of %s already: name another one in %s", a.Name, strings.Join(parts[len(parts)-2:], "/"), by)
		}
	}
	return nil
}

// ruleAddress is what a rule is told to have as its address, and told is what its description is to say of it: nothing where it is one
// of ours.
func (p *Provider) ruleAddress(ctx context.Context, r *cloud.Resource, id string) (address, told string, err error) {
	if name, ok := strings.CutPrefix(id, givenPrefix); ok {
		return p.config.link(KindAddress, name), cmp.Or(r.Attributes[attrAddresses], name), nil
	}
	rule, ok := strings.CutPrefix(id, inUsePrefix)
	if !ok {
		return p.config.link(KindAddress, id), "", nil
	}
	f, err := p.api.get(ctx, KindForwardingRule, rule)
	if hasStatus(err, http.StatusNotFound) {
		return "", "", cloud.Errorf(cloud.Pending, "the address is gone with the rule that had it")
	} else if err != nil {
		return "", "", fmt.Errorf("reading the rule that has the address: %w", err)
	}
	m := f.mark()
	return f.body.(*compute.ForwardingRule).IPAddress, cmp.Or(m.addresses, toldNobodys), nil
}

// located is the kind and the id of what a reference points to; of an address that is no thing of ours, of what has it.
func located(dep cloud.Ref) (kind, id string) {
	if name, ok := strings.CutPrefix(dep.ID, givenPrefix); ok {
		return KindAddress, idOf(KindAddress, "", name)
	} else if rule, ok := strings.CutPrefix(dep.ID, inUsePrefix); ok {
		return KindForwardingRule, rule
	}
	return dep.Kind, dep.ID
}

// destination is the address that a firewall rule lets traffic to pass, as a list; empty: all of the nodes'.
func (p *Provider) destination(ctx context.Context, r *cloud.Resource) ([]string, error) {
	if r.Attributes[attrDestination] != atBalancer {
		return cloud.SplitList(r.Attributes[attrDestination]), nil
	}
	for _, dep := range r.DependsOn {
		if dep.Kind != KindAddress {
			continue
		}
		kind, id := located(dep)
		f, err := p.api.get(ctx, kind, id)
		if hasStatus(err, http.StatusNotFound) {
			return nil, cloud.Errorf(cloud.Pending, "the address of the balancer cannot be seen yet")
		} else if err != nil {
			return nil, fmt.Errorf("reading the address of the balancer: %w", err)
		}
		if a, ok := f.body.(*compute.Address); ok {
			return []string{reservedRange(a)}, nil
		}
		return []string{addressRange(f.body.(*compute.ForwardingRule).IPAddress)}, nil
	}
	return nil, cloud.Errorf(cloud.Retry, "%s has no address to depend on", r.Name())
}
