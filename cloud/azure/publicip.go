package azure

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// observedAddress is a public address of ours.
func (c Config) observedAddress(ip *armnetwork.PublicIPAddress) cloud.Resource {
	r := cloud.Resource{Kind: KindPublicIP, Key: tag(ip.Tags, tagKey), ID: value(ip.ID), State: stateOf(ip.Properties.ProvisioningState),
		Owners: ownersOf(ip.Tags), Shared: tag(ip.Tags, tagGroup) != "",
		Attributes: map[string]string{"family": string(value(ip.Properties.PublicIPAddressVersion)), "prefix": "",
			"group": tag(ip.Tags, tagGroup), "dns": "", "tags": ""}}
	if ip.Properties.PublicIPPrefix != nil {
		r.Attributes["prefix"] = folded(value(ip.Properties.PublicIPPrefix.ID))
	}
	if ip.Properties.DNSSettings != nil {
		r.Attributes["dns"] = value(ip.Properties.DNSSettings.DomainNameLabel)
	}
	how, anchor := c.addressHolding(ip)
	asked := map[string]string{}
	for _, name := range cloud.SplitList(tag(ip.Tags, tagTags)) {
		if text, ok := ip.Tags[name]; ok {
			asked[name] = value(text)
		}
	}
	r.Attributes["tags"] = pairs(asked)
	switch how {
	case lent:
		r.Lent, r.Adopted, r.Attributes["tags"] = true, anchor, tag(ip.Tags, tagTags)
		if tag(ip.Tags, tagLabel) == "" {
			r.Attributes["dns"] = "" // it is somebody else's
		}
	case claimed:
		r.Adopted = r.ID
	}
	if address := value(ip.Properties.IPAddress); address != "" {
		r.Ingress = []cloud.Ingress{{IP: address}}
	}
	return r
}

// createAddress makes a public address. Of one of its name that is there the owner is verified.
func (p *Provider) createAddress(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	name := cloud.Name(owner, desired, maxName)
	service := owner.Namespace + "/" + owner.Name
	if desired.Shared {
		service = owner.Namespace + "/" + owner.Group
	}
	ip := &armnetwork.PublicIPAddress{Name: new(name), Location: new(p.config.Location),
		SKU:  &armnetwork.PublicIPAddressSKU{Name: new(armnetwork.PublicIPAddressSKUNameStandard)},
		Tags: map[string]*string{tagCluster: new(owner.ClusterID), tagKey: new(desired.Key), tagService: new(service)},
		Properties: &armnetwork.PublicIPAddressPropertiesFormat{PublicIPAllocationMethod: new(armnetwork.IPAllocationMethodStatic),
			PublicIPAddressVersion: new(armnetwork.IPVersion(desired.Attributes["family"]))}}
	if id := desired.Attributes["prefix"]; id != "" {
		ip.Properties.PublicIPPrefix = &armnetwork.SubResource{ID: new(id)} // which has zones of its own
	} else {
		ip.Zones = pointers(p.config.PublicIPZones)
	}
	if group := owner.GroupID(); desired.Shared {
		ip.Tags[tagGroup] = new(group)
	}
	if err := p.settle(ip, desired); err != nil {
		return cloud.Resource{}, err
	}
	ip.Tags[tagOwner+owner.ServiceUID] = new(owner.ClusterID)
	made, err := p.network.PutPublicIP(ctx, ip, absent)
	if err == nil {
		p.noteAddress(made)
		return p.config.observedAddress(made), nil
	}
	if !hasStatus(err, http.StatusPreconditionFailed) {
		return cloud.Resource{}, err
	}
	have, err := p.network.PublicIP(ctx, p.config.ResourceGroup, name)
	if hasStatus(err, http.StatusNotFound) {
		return cloud.Resource{}, cloud.Errorf(cloud.Pending, "a public address %s exists and is not to be seen yet", name)
	}
	if err != nil {
		return cloud.Resource{}, err
	}
	p.noteAddress(have)
	switch {
	case tag(have.Tags, tagOwner+owner.ServiceUID) == owner.ClusterID:
		return p.config.observedAddress(have), nil
	case desired.Shared && tag(have.Tags, tagGroup) == owner.GroupID():
		err := p.writeAddress(ctx, have, func(ip *armnetwork.PublicIPAddress) error {
			ip.Tags[tagOwner+owner.ServiceUID] = new(owner.ClusterID)
			return nil
		})
		return p.config.observedAddress(have), err
	}
	return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "the public address %s is not this Service's", name)
}

// settle writes what can change in place. Of an address that was lent, tags are its owner's: what a Service asks for is noted, so that
// it is not asked for again, and not done.
func (p *Provider) settle(ip *armnetwork.PublicIPAddress, desired cloud.Resource) error {
	how, _ := p.config.addressHolding(ip)
	switch label := desired.Attributes["dns"]; {
	case label != "":
		ip.Properties.DNSSettings = &armnetwork.PublicIPAddressDNSSettings{DomainNameLabel: new(label)}
		if how == lent {
			ip.Tags[tagLabel] = new("Service's")
		}
	case how != lent || tag(ip.Tags, tagLabel) != "":
		ip.Properties.DNSSettings = nil
		delete(ip.Tags, tagLabel)
	}
	if how == lent {
		if len(desired.Attributes["tags"]) > maxTagValue {
			return cloud.Errorf(cloud.UserError, "annotation %spip-tags: the public address %s was adopted, and its tags are its owner's: remove the annotation",
				prefix, value(ip.Name))
		}
		ip.Tags[tagTags] = new(desired.Attributes["tags"])
		if desired.Attributes["tags"] == "" {
			delete(ip.Tags, tagTags)
		}
		return nil
	}
	for _, name := range cloud.SplitList(tag(ip.Tags, tagTags)) {
		delete(ip.Tags, name)
	}
	delete(ip.Tags, tagTags)
	var names []string
	for _, pair := range cloud.SplitList(desired.Attributes["tags"]) {
		name, text, _ := strings.Cut(pair, "=")
		ip.Tags[name] = new(text)
		names = append(names, name)
	}
	if len(names) > 0 {
		ip.Tags[tagTags] = new(cloud.List(names))
	}
	return nil
}

func (p *Provider) updateAddress(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) error {
	have, err := p.network.PublicIP(ctx, p.config.ResourceGroup, lastPart(observed.ID))
	if err != nil {
		return err
	}
	return p.writeAddress(ctx, have, func(ip *armnetwork.PublicIPAddress) error {
		if isHeld(observed, desired) {
			return p.holdAddress(ip, owner, observed, desired)
		}
		if !slices.Contains(ownersOf(ip.Tags), owner.ID()) && (owner.GroupID() == "" || tag(ip.Tags, tagGroup) != owner.GroupID()) {
			return cloud.Errorf(cloud.Conflict, "the public address %s is not this Service's any more", value(ip.Name))
		}
		for name := range ip.Tags {
			if uid, ok := strings.CutPrefix(name, tagOwner); ok {
				id := cloud.Owner{ClusterID: value(ip.Tags[name]), ServiceUID: uid}.ID()
				if slices.Contains(observed.Owners, id) && !slices.Contains(desired.Owners, id) {
					delete(ip.Tags, name)
				}
			}
		}
		for _, id := range desired.Owners {
			if !slices.Contains(observed.Owners, id) {
				clusterID, uid, _ := strings.Cut(string(id), "/")
				ip.Tags[tagOwner+uid] = new(clusterID)
			}
		}
		if maps.Equal(observed.Attributes, desired.Attributes) {
			return nil
		}
		return p.settle(ip, desired)
	})
}

// writeAddress changes a public address that was just read, and reads it again where somebody else was faster.
func (p *Provider) writeAddress(ctx context.Context, have *armnetwork.PublicIPAddress, change func(*armnetwork.PublicIPAddress) error) error {
	for range 4 {
		next := *have
		properties := *have.Properties
		next.Properties, next.Tags = &properties, maps.Clone(have.Tags)
		if next.Tags == nil {
			next.Tags = map[string]*string{}
		}
		if err := change(&next); err != nil {
			return err
		}
		after, err := p.network.PutPublicIP(ctx, &next, value(have.Etag))
		if err == nil {
			p.noteAddress(after)
			return nil
		}
		if !hasStatus(err, http.StatusPreconditionFailed) {
			return err
		}
		if have, err = p.network.PublicIP(ctx, p.config.ResourceGroup, value(next.Name)); err != nil {
			return err
		}
	}
	return cloud.Errorf(cloud.Pending, "others keep changing the public address")
}

func (p *Provider) noteAddress(ip *armnetwork.PublicIPAddress) {
	p.note(func(v *view) { v.addresses[folded(value(ip.ID))] = ip })
}

// deleteAddress deletes what still carries the owner's mark, or nobody's but the group's, and no other's. The ETag says that
// nobody joined meanwhile.
func (p *Provider) deleteAddress(ctx context.Context, owner cloud.Owner, observed cloud.Resource) error {
	name := lastPart(observed.ID)
	have, err := p.network.PublicIP(ctx, p.config.ResourceGroup, name)
	if hasStatus(err, http.StatusNotFound) {
		p.note(func(v *view) { delete(v.addresses, folded(observed.ID)) })
		return nil
	}
	if err != nil {
		return err
	}
	owners := ownersOf(have.Tags)
	if others := slices.ContainsFunc(owners, func(id cloud.OwnerID) bool { return id != owner.ID() }); others ||
		len(owners) == 0 && (tag(have.Tags, tagGroup) == "" || tag(have.Tags, tagGroup) != owner.GroupID()) {
		p.noteAddress(have)
		return cloud.Errorf(cloud.Conflict, "the public address %s is another's by now", name)
	}
	gone, err := p.network.DeletePublicIP(ctx, name, value(have.Etag))
	if err != nil {
		p.forget()
		if hasStatus(err, http.StatusPreconditionFailed) {
			return cloud.Errorf(cloud.Pending, "the public address %s was changed meanwhile, or goes already", name)
		}
		return err
	}
	p.note(func(v *view) {
		delete(v.addresses, folded(observed.ID))
		if !gone {
			left, properties := *have, *have.Properties
			properties.ProvisioningState = new(armnetwork.ProvisioningStateDeleting)
			left.Properties = &properties
			v.addresses[folded(observed.ID)] = &left // until it is seen to be gone
		}
	})
	return nil
}
