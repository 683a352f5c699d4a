package gcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// Create implements cloud.Provider. A name that is taken is looked up: names carry owner, kind, key and what cannot be changed,
// so that something with the owner's mark and this name is this very resource.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	name := NameOf(owner, &desired)
	made := desired
	made.ID, made.State, made.Owners = idOf(desired.Kind, desired.Attributes[attrZone], name), cloud.StateReady, []cloud.OwnerID{owner.ID()}
	target := p.config.link(made.Kind, made.ID)
	if err := p.late.take(target); err != nil {
		return cloud.Resource{}, p.lacking(ctx, desired.DependsOn, err)
	}
	given, inPlace, err := p.given(ctx, &desired)
	if err != nil || given != "" {
		made.ID = givenPrefix + given
		return made, err
	}
	if inPlace && desired.Attributes[attrScheme] == schemeInternal {
		// Several rules could never have it, as long as one has it by itself (kubernetes/ingress-gce#2735).
		return cloud.Resource{}, cloud.Errorf(cloud.Pending, "address %s is reserved when the rule that has it is gone", desired.Attributes[attrIP])
	}
	body, err := p.body(ctx, owner, &desired, name)
	if err != nil {
		return cloud.Resource{}, err
	}
	op, err := p.api.insert(ctx, made.Kind, made.ID, body)
	switch {
	case made.Kind == KindForwardingRule && placeTaken(err) && p.late.deleting(owner.ID(), kinds[made.Kind].collection):
		return cloud.Resource{}, cloud.Errorf(cloud.Pending, "a rule that may be in its way is still being deleted: %w", err)
	case hasStatus(err, http.StatusConflict):
		return p.existing(ctx, owner, made, err)
	case err != nil:
		return cloud.Resource{}, p.lacking(ctx, desired.DependsOn, err)
	}
	done, err := p.late.began(whose(owner, made.Kind), target, op)
	if !done {
		made.State = cloud.StatePending
	}
	return made, err
}

// lacking returns a refusal; as a UserError, where it is for something that is not there, and all of deps is: then it is what somebody
// has named, such as a subnetwork or a group of machines.
func (p *Provider) lacking(ctx context.Context, deps []cloud.Ref, refused error) error {
	if !hasStatus(refused, http.StatusNotFound) {
		return refused
	}
	for _, dep := range deps {
		kind, id := located(dep)
		if _, err := p.api.get(ctx, kind, id); err != nil {
			return refused
		}
	}
	return cloud.Errorf(cloud.UserError, "%w: make it, or correct what names it", refused)
}

// placeTaken reports whether a refusal can be for another rule's port or address, rather than for its name.
func placeTaken(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusConflict && e.Code != "alreadyExists")
}

// existing returns what has the name already, if it is the owner's. An address can also be refused because something else has it, which is
// no name of ours (kubernetes/ingress-gce#2735).
func (p *Provider) existing(ctx context.Context, owner cloud.Owner, made cloud.Resource, refused error) (cloud.Resource, error) {
	f, err := p.api.get(ctx, made.Kind, made.ID)
	e, _ := errors.AsType[*Error](refused)
	switch {
	case hasStatus(err, http.StatusNotFound) && e.Code != "alreadyExists":
		return cloud.Resource{}, refused
	case hasStatus(err, http.StatusNotFound):
		return cloud.Resource{}, cloud.Errorf(cloud.Pending, "a %s called %s exists and cannot be seen yet", made.Kind, made.ID)
	case err != nil:
		return cloud.Resource{}, err
	case made.Shared && f.sharedBy() != owner.ClusterID, !made.Shared && f.markedBy() != owner.ID():
		return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "a %s called %s is not this Service's: remove or rename it", made.Kind, made.ID)
	}
	return made, nil
}

func (f *found) markedBy() cloud.OwnerID { m := f.mark(); return m.owner }

func (f *found) sharedBy() string { m := f.mark(); return m.cluster }

// body is what is to be made, with the owner's mark.
func (p *Provider) body(ctx context.Context, owner cloud.Owner, r *cloud.Resource, name string) (any, error) {
	m := markOf(owner, r)
	c := &p.config
	switch r.Kind {
	case KindAddress:
		return c.addressBody(r, &m, name), nil
	case KindHealthCheck:
		b := checkBody(r.Attributes)
		b.Name, b.Description = name, describe("", &m)
		return b, nil
	case KindEndpointGroup:
		return &compute.NetworkEndpointGroup{Name: name, Description: describe("", &m), NetworkEndpointType: "GCE_VM_IP",
			Network: c.firewallNetwork(), Subnetwork: c.subnetworkLink(r.Attributes[attrSubnetwork])}, nil
	case KindBackendService:
		b := c.backendBody(r)
		b.Name, b.Description = name, describe("", &m)
		return b, nil
	case KindForwardingRule:
		b, told, err := p.ruleBody(ctx, r)
		if err != nil {
			return nil, err
		}
		m.addresses = told
		b.Name, b.Description = name, describe("", &m)
		return b, nil
	case KindFirewall:
		b := firewallBody(r)
		b.Name, b.Description = name, describe("", &m)
		var err error
		b.DestinationRanges, err = p.destination(ctx, r)
		return b, err
	}
	return nil, cloud.Errorf(cloud.UserError, "there is no kind %s", r.Kind)
}

// purposeSeveral is that of an internal address that several rules can have.
const purposeSeveral = "SHARED_LOADBALANCER_VIP"

func (c *Config) addressBody(r *cloud.Resource, m *mark, name string) *compute.Address {
	b := &compute.Address{Name: name, Address: r.Attributes[attrIP], AddressType: r.Attributes[attrScheme], NetworkTier: r.Attributes[attrTier],
		Description: describe("", m)}
	six := r.Attributes[attrFamily] == string(cloud.IPv6)
	if subnetwork := r.Attributes[attrSubnetwork]; subnetwork != "" {
		b.Subnetwork = c.subnetworkLink(subnetwork)
	}
	switch {
	case six:
		if b.IpVersion = "IPV6"; b.Address != "" {
			b.PrefixLength = 96 // of a new one the service knows it (kubernetes/ingress-gce, pkg/address/manager.go)
		}
		if b.AddressType == schemeExternal {
			b.Ipv6EndpointType = "NETLB"
		}
	case b.AddressType == schemeInternal:
		b.Purpose = purposeSeveral
	}
	return b
}

// ruleBody returns also what the rule is told of its address.
func (p *Provider) ruleBody(ctx context.Context, r *cloud.Resource) (b *compute.ForwardingRule, told string, err error) {
	b = &compute.ForwardingRule{LoadBalancingScheme: r.Attributes[attrScheme], IPProtocol: r.Attributes[attrProtocol], NetworkTier: r.Attributes[attrTier], AllowGlobalAccess: r.Attributes[attrGlobalAccess] == "true"}
	if subnetwork := r.Attributes[attrSubnetwork]; subnetwork != "" {
		b.Subnetwork = p.config.subnetworkLink(subnetwork)
	}
	if r.Attributes[attrFamily] == string(cloud.IPv6) {
		b.IpVersion = "IPV6" // beside an address of IPv4 the service has refused it (hashicorp/terraform-provider-google#616)
	}
	if b.LoadBalancingScheme == schemeInternal {
		b.Network = p.config.firewallNetwork()
	}
	if ports := r.Attributes[attrPorts]; ports == allPorts {
		b.AllPorts = true
	} else {
		b.Ports = []string{ports}
	}
	for _, dep := range r.DependsOn {
		switch dep.Kind {
		case KindBackendService:
			b.BackendService = p.config.link(dep.Kind, dep.ID)
		case KindAddress:
			if b.IPAddress, told, err = p.ruleAddress(ctx, r, dep.ID); err != nil {
				return nil, "", err
			}
		}
	}
	return b, told, nil
}

// Update implements cloud.Provider. What is there is read first: the change is made of what it is by then, and, where the cloud
// takes a precondition, only of that.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, was, desired cloud.Resource) error {
	if strings.HasPrefix(was.ID, inUsePrefix) {
		// It is the rule's, mark and all; but what only rules have becomes a reserved one, in place, where the Service asks for it.
		if desired.Attributes[attrReserved] != "true" || was.Attributes[attrReserved] == "true" || desired.Lent {
			return nil
		}
		desired.Adopted, desired.Attributes = "", maps.Clone(desired.Attributes)
		delete(desired.Attributes, attrAddresses) // those of the other family
		_, err := p.Create(ctx, owner, desired)
		return err
	}
	released := len(desired.Owners) == 0
	if was.Kind == KindEndpointGroup {
		if released {
			// What let it go does not use it any more, and nobody else does.
			return p.Delete(ctx, owner, was)
		}
		return nil // its owners are those of the backend services that point to it
	}
	target := p.config.link(was.Kind, was.ID)
	if err := p.late.take(target); err != nil {
		return err
	}
	f, err := p.api.get(ctx, was.Kind, was.ID)
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if id := f.markedBy(); id != owner.ID() && (id != "" || released) {
		if released {
			return nil
		}
		return cloud.Errorf(cloud.Conflict, "%s %s is another's meanwhile", was.Kind, was.ID)
	}
	var m *mark
	if !released {
		written := markOf(owner, &desired)
		m = &written
	}
	ops, err := p.change(ctx, &f, m, &was, &desired)
	for _, op := range ops {
		if _, failed := p.late.began(owner.ID(), target, op); failed != nil && err == nil {
			err = failed
		}
	}
	return p.lacking(ctx, append(slices.Clone(desired.DependsOn), cloud.Ref{Kind: was.Kind, ID: was.ID}), err)
}

// change sends what differs, and returns the operations.
func (p *Provider) change(ctx context.Context, f *found, m *mark, was, desired *cloud.Resource) (ops []*compute.Operation, err error) {
	sent := func(op *compute.Operation, err error) ([]*compute.Operation, error) {
		if err == nil {
			ops = append(ops, op)
		}
		return ops, err
	}
	same := maps.Equal(was.Attributes, desired.Attributes) && slices.Equal(was.DependsOn, desired.DependsOn)
	if kinds[f.kind].labels {
		if f.kind == KindForwardingRule && was.Attributes[attrGlobalAccess] != desired.Attributes[attrGlobalAccess] {
			access := &compute.ForwardingRule{AllowGlobalAccess: desired.Attributes[attrGlobalAccess] == "true", ForceSendFields: []string{"AllowGlobalAccess"}}
			if _, err := sent(p.api.patch(ctx, f, access)); err != nil {
				return ops, err
			}
		}
		now := f.mark()
		now.addresses = "" // stays as it was made
		if m == nil && now.owner == "" || m != nil && now == *m {
			return ops, nil
		}
		return sent(p.api.setLabels(ctx, f, label(f.labels, f.description, m)))
	}
	description := describe(f.description, m)
	if same && description == f.description {
		return nil, nil
	}
	switch f.kind {
	case KindHealthCheck:
		b := &compute.HealthCheck{}
		if !same {
			b = checkBody(desired.Attributes)
			if other := f.body.(*compute.HealthCheck); other.Type != b.Type {
				b.NullFields = []string{"TcpHealthCheck", "SslHealthCheck", "HttpsHealthCheck", "Http2HealthCheck", "GrpcHealthCheck"}
			}
		}
		b.Description, b.ForceSendFields = description, []string{"Description"}
		return sent(p.api.patch(ctx, f, b))
	case KindBackendService:
		return sent(p.api.patch(ctx, f, p.backendPatch(f, m, desired, same, description)))
	case KindFirewall:
		b := firewallBody(desired)
		if same {
			b = &compute.Firewall{}
		} else if b.DestinationRanges, err = p.destination(ctx, desired); err != nil {
			return nil, err
		}
		b.Network, b.Description = "", description // the network cannot be changed
		b.ForceSendFields = append(b.ForceSendFields, "Description")
		if !same {
			b.ForceSendFields = append(b.ForceSendFields, "TargetTags", "DestinationRanges")
			b.NullFields = []string{"Denied", "SourceTags", "SourceServiceAccounts", "TargetServiceAccounts"}
		}
		return sent(p.api.patch(ctx, f, b))
	}
	return nil, nil
}

// backendPatch changes a backend service as long as it has the fingerprint that was read. One that is let go keeps what it has
// but for groups of ours, which go.
func (p *Provider) backendPatch(f *found, m *mark, desired *cloud.Resource, same bool, description string) *compute.BackendService {
	now := f.body.(*compute.BackendService)
	b := &compute.BackendService{Description: description, Fingerprint: f.fingerprint, ForceSendFields: []string{"Description"}}
	switch {
	case m == nil:
		clusterID, _, _ := strings.Cut(string(f.markedBy()), "/")
		mine := func(backend *compute.Backend) bool { return sharedKeyOf(clusterID, last(backend.Group)) != "" }
		b.Backends = slices.DeleteFunc(slices.Clone(now.Backends), mine)
		b.ForceSendFields = append(b.ForceSendFields, "Backends")
	case !same:
		full := p.config.backendBody(desired)
		full.Description, full.Fingerprint, full.ForceSendFields = description, f.fingerprint, append(full.ForceSendFields, "Description")
		full.LoadBalancingScheme, full.Protocol = "", "" // neither can be changed
		if slices.EqualFunc(full.HealthChecks, now.HealthChecks, func(a, b string) bool { return a == shortLink(b) }) {
			full.HealthChecks = nil // to send it needs a right on it, which of a global one the manager does not have
		}
		// What somebody else set of it stays, unless it needs the affinity that goes.
		if t := now.ConnectionTrackingPolicy; full.ConnectionTrackingPolicy == nil && t != nil && (t.EnableStrongAffinity || full.SessionAffinity != now.SessionAffinity) {
			full.NullFields = append(full.NullFields, "ConnectionTrackingPolicy")
		}
		if full.LocalityLbPolicy == "" && now.LocalityLbPolicy != "" {
			full.NullFields = append(full.NullFields, "LocalityLbPolicy")
		}
		return full
	}
	return b
}

// Delete implements cloud.Provider. The API refuses to delete what something else points to.
func (p *Provider) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	if strings.HasPrefix(r.ID, inUsePrefix) || strings.HasPrefix(r.ID, givenPrefix) {
		return nil // it goes with the rule, or stays
	}
	target := p.config.link(r.Kind, r.ID)
	if err := p.late.take(target); err != nil {
		return err
	}
	op, err := p.api.delete(ctx, r.Kind, r.ID)
	if hasStatus(err, http.StatusNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	_, err = p.late.began(whose(owner, r.Kind), target, op)
	return err
}
