package gcp

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// api is the part of the Compute Engine API that is used: six kinds of things, what can be done to them, and operations. Ids
// are those of idOf. Errors are tidy.
type api struct {
	// classOf is the provider's Classify.
	classOf func(error) cloud.Class
	svc     *compute.Service
	config  *Config
}

// found is a thing as the API shows it.
type found struct {
	kind, id, name string
	description    string
	labels         map[string]string
	// fingerprint is that of the labels, or of the thing itself where it has no labels and takes a precondition.
	fingerprint string
	// body is a pointer to the SDK's type.
	body any
}

// labelKinds are those whose mark is on labels.
func hasLabels(kind string) bool { return kind == KindAddress || kind == KindForwardingRule }

func (f *found) mark() mark {
	if hasLabels(f.kind) {
		return labelled(f.labels, f.description)
	}
	m, _ := described(f.description)
	return m
}

func foundOf(body any) found {
	switch b := body.(type) {
	case *compute.Address:
		return found{KindAddress, idOf(KindAddress, "", b.Name), b.Name, b.Description, b.Labels, b.LabelFingerprint, b}
	case *compute.HealthCheck:
		return found{KindHealthCheck, idOf(KindHealthCheck, "", b.Name), b.Name, b.Description, nil, "", b}
	case *compute.NetworkEndpointGroup:
		return found{KindEndpointGroup, idOf(KindEndpointGroup, last(b.Zone), b.Name), b.Name, b.Description, nil, "", b}
	case *compute.BackendService:
		return found{KindBackendService, b.Name, b.Name, b.Description, nil, b.Fingerprint, b}
	case *compute.ForwardingRule:
		return found{KindForwardingRule, idOf(KindForwardingRule, "", b.Name), b.Name, b.Description, b.Labels, b.LabelFingerprint, b}
	case *compute.Firewall:
		return found{KindFirewall, idOf(KindFirewall, "", b.Name), b.Name, b.Description, nil, "", b}
	}
	panic(fmt.Sprintf("gcp: %T is no kind of ours", body))
}

// idOf is the id of a thing, which no other kind's has: of a backend service, which people write into annotations, its name; of
// an endpoint group its zone and its name; of others the API's word for their collection and their name.
func idOf(kind, zone, name string) string {
	switch kind {
	case KindBackendService:
		return name
	case KindEndpointGroup:
		return zone + "/" + name
	}
	for collection, of := range kindsByCollection {
		if of == kind {
			return collection + "/" + name
		}
	}
	return name
}

// last is the last part of a link, which is a name.
func last(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

// list returns the things of a kind that a filter lets pass; empty: all of the project and region.
func (a *api) list(ctx context.Context, kind, filter string) ([]found, error) {
	var all []found
	c := a.config
	var err error
	switch kind {
	case KindAddress:
		call := a.svc.Addresses.List(c.Project, c.Region)
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.AddressList) { all = gather(all, page.Items) })
	case KindHealthCheck:
		call := a.svc.RegionHealthChecks.List(c.Project, c.Region)
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.HealthCheckList) { all = gather(all, page.Items) })
	case KindBackendService:
		call := a.svc.RegionBackendServices.List(c.Project, c.Region)
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.BackendServiceList) { all = gather(all, page.Items) })
	case KindForwardingRule:
		call := a.svc.ForwardingRules.List(c.Project, c.Region)
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.ForwardingRuleList) { all = gather(all, page.Items) })
	case KindFirewall:
		call := a.svc.Firewalls.List(c.firewallProject())
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.FirewallList) { all = gather(all, page.Items) })
	case KindEndpointGroup:
		call := a.svc.NetworkEndpointGroups.AggregatedList(c.Project)
		err = pages(ctx, filter, call.Filter, call.Pages, func(page *compute.NetworkEndpointGroupAggregatedList) {
			for scope, list := range page.Items {
				if strings.HasPrefix(scope, "zones/"+c.Region+"-") {
					all = gather(all, list.NetworkEndpointGroups)
				}
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("listing each %s: %w", kind, tidy(err))
	}
	return all, nil
}

func gather[T any](all []found, items []*T) []found {
	for _, item := range items {
		all = append(all, foundOf(item))
	}
	return all
}

// pages reads all pages of a list call.
func pages[C, P any](ctx context.Context, filter string, setFilter func(string) C,
	read func(context.Context, func(*P) error) error, each func(*P)) error {
	if filter != "" {
		setFilter(filter)
	}
	return read(ctx, func(page *P) error {
		each(page)
		return nil
	})
}

func (a *api) get(ctx context.Context, kind, id string) (found, error) {
	c := a.config
	var body any
	var err error
	switch kind {
	case KindAddress:
		body, err = a.svc.Addresses.Get(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindHealthCheck:
		body, err = a.svc.RegionHealthChecks.Get(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindEndpointGroup:
		zone, name, _ := strings.Cut(id, "/")
		body, err = a.svc.NetworkEndpointGroups.Get(c.Project, zone, name).Context(ctx).Do()
	case KindBackendService:
		body, err = a.svc.RegionBackendServices.Get(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindForwardingRule:
		body, err = a.svc.ForwardingRules.Get(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindFirewall:
		body, err = a.svc.Firewalls.Get(c.firewallProject(), last(id)).Context(ctx).Do()
	}
	if err != nil {
		return found{}, tidy(err)
	}
	return foundOf(body), nil
}

func (a *api) insert(ctx context.Context, zone string, body any) (op *compute.Operation, err error) {
	c := a.config
	switch b := body.(type) {
	case *compute.Address:
		op, err = a.svc.Addresses.Insert(c.Project, c.Region, b).Context(ctx).Do()
	case *compute.HealthCheck:
		op, err = a.svc.RegionHealthChecks.Insert(c.Project, c.Region, b).Context(ctx).Do()
	case *compute.NetworkEndpointGroup:
		op, err = a.svc.NetworkEndpointGroups.Insert(c.Project, zone, b).Context(ctx).Do()
	case *compute.BackendService:
		op, err = a.svc.RegionBackendServices.Insert(c.Project, c.Region, b).Context(ctx).Do()
	case *compute.ForwardingRule:
		op, err = a.svc.ForwardingRules.Insert(c.Project, c.Region, b).Context(ctx).Do()
	case *compute.Firewall:
		op, err = a.svc.Firewalls.Insert(c.firewallProject(), b).Context(ctx).Do()
	}
	return op, tidy(err)
}

// patch changes what is set in body.
func (a *api) patch(ctx context.Context, name string, body any) (op *compute.Operation, err error) {
	c := a.config
	switch b := body.(type) {
	case *compute.HealthCheck:
		op, err = a.svc.RegionHealthChecks.Patch(c.Project, c.Region, name, b).Context(ctx).Do()
	case *compute.BackendService:
		op, err = a.svc.RegionBackendServices.Patch(c.Project, c.Region, name, b).Context(ctx).Do()
	case *compute.ForwardingRule:
		op, err = a.svc.ForwardingRules.Patch(c.Project, c.Region, name, b).Context(ctx).Do()
	case *compute.Firewall:
		op, err = a.svc.Firewalls.Patch(c.firewallProject(), name, b).Context(ctx).Do()
	}
	return op, tidy(err)
}

// setLabels replaces all labels, if they are still those with the fingerprint.
func (a *api) setLabels(ctx context.Context, f *found, labels map[string]string) (op *compute.Operation, err error) {
	c := a.config
	request := &compute.RegionSetLabelsRequest{LabelFingerprint: f.fingerprint, Labels: labels, ForceSendFields: []string{"Labels"}}
	if f.kind == KindAddress {
		op, err = a.svc.Addresses.SetLabels(c.Project, c.Region, f.name, request).Context(ctx).Do()
	} else {
		op, err = a.svc.ForwardingRules.SetLabels(c.Project, c.Region, f.name, request).Context(ctx).Do()
	}
	return op, tidy(err)
}

func (a *api) delete(ctx context.Context, kind, id string) (op *compute.Operation, err error) {
	c := a.config
	switch kind {
	case KindAddress:
		op, err = a.svc.Addresses.Delete(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindHealthCheck:
		op, err = a.svc.RegionHealthChecks.Delete(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindEndpointGroup:
		zone, name, _ := strings.Cut(id, "/")
		op, err = a.svc.NetworkEndpointGroups.Delete(c.Project, zone, name).Context(ctx).Do()
	case KindBackendService:
		op, err = a.svc.RegionBackendServices.Delete(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindForwardingRule:
		op, err = a.svc.ForwardingRules.Delete(c.Project, c.Region, last(id)).Context(ctx).Do()
	case KindFirewall:
		op, err = a.svc.Firewalls.Delete(c.firewallProject(), last(id)).Context(ctx).Do()
	}
	return op, tidy(err)
}

// instances of an endpoint group, by name.
func (a *api) instances(ctx context.Context, id string) ([]string, error) {
	zone, name, _ := strings.Cut(id, "/")
	var all []string
	request := &compute.NetworkEndpointGroupsListEndpointsRequest{HealthStatus: "SKIP"}
	err := a.svc.NetworkEndpointGroups.ListNetworkEndpoints(a.config.Project, zone, name, request).Pages(ctx,
		func(page *compute.NetworkEndpointGroupsListNetworkEndpoints) error {
			for _, item := range page.Items {
				if item.NetworkEndpoint != nil {
					all = append(all, last(item.NetworkEndpoint.Instance))
				}
			}
			return nil
		})
	return all, tidy(err)
}

func endpoints(instances []string) []*compute.NetworkEndpoint {
	all := make([]*compute.NetworkEndpoint, len(instances))
	for i, name := range instances {
		all[i] = &compute.NetworkEndpoint{Instance: name}
	}
	return all
}

func (a *api) attach(ctx context.Context, id string, instances []string) (*compute.Operation, error) {
	zone, name, _ := strings.Cut(id, "/")
	op, err := a.svc.NetworkEndpointGroups.AttachNetworkEndpoints(a.config.Project, zone, name,
		&compute.NetworkEndpointGroupsAttachEndpointsRequest{NetworkEndpoints: endpoints(instances)}).Context(ctx).Do()
	return op, tidy(err)
}

func (a *api) detach(ctx context.Context, id string, instances []string) (*compute.Operation, error) {
	zone, name, _ := strings.Cut(id, "/")
	op, err := a.svc.NetworkEndpointGroups.DetachNetworkEndpoints(a.config.Project, zone, name,
		&compute.NetworkEndpointGroupsDetachEndpointsRequest{NetworkEndpoints: endpoints(instances)}).Context(ctx).Do()
	return op, tidy(err)
}

// unfinished returns the operations that have not ended, of all zones and regions and of the network's project.
func (a *api) unfinished(ctx context.Context) ([]*compute.Operation, error) {
	var all []*compute.Operation
	projects := []string{a.config.Project}
	if other := a.config.firewallProject(); other != a.config.Project {
		projects = append(projects, other)
	}
	for _, project := range projects {
		err := a.svc.GlobalOperations.AggregatedList(project).Filter(`status != "DONE"`).Pages(ctx, func(page *compute.OperationAggregatedList) error {
			for _, list := range page.Items {
				all = append(all, list.Operations...)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing operations: %w", tidy(err))
		}
	}
	return all, nil
}

// operation reads one again.
func (a *api) operation(ctx context.Context, op *compute.Operation) (*compute.Operation, error) {
	project := a.config.Project
	if strings.Contains(op.SelfLink, "/projects/"+a.config.firewallProject()+"/") {
		project = a.config.firewallProject()
	}
	var again *compute.Operation
	var err error
	switch {
	case op.Zone != "":
		again, err = a.svc.ZoneOperations.Get(project, last(op.Zone), op.Name).Context(ctx).Do()
	case op.Region != "":
		again, err = a.svc.RegionOperations.Get(project, last(op.Region), op.Name).Context(ctx).Do()
	default:
		again, err = a.svc.GlobalOperations.Get(project, op.Name).Context(ctx).Do()
	}
	return again, tidy(err)
}

// link is how one thing points to another: the part of its link from the project on.
func (c *Config) link(kind, id string) string {
	region := "projects/" + c.Project + "/regions/" + c.Region + "/"
	switch kind {
	case KindAddress:
		return region + "addresses/" + last(id)
	case KindHealthCheck:
		return region + "healthChecks/" + last(id)
	case KindBackendService:
		return region + "backendServices/" + last(id)
	case KindForwardingRule:
		return region + "forwardingRules/" + last(id)
	case KindFirewall:
		return "projects/" + c.firewallProject() + "/global/firewalls/" + last(id)
	}
	zone, name, _ := strings.Cut(id, "/")
	return "projects/" + c.Project + "/zones/" + zone + "/networkEndpointGroups/" + name
}

// shortLink is the part of a link from the project on, in which the API's host and version do not count.
func shortLink(link string) string {
	if i := strings.Index(link, "projects/"); i >= 0 {
		return link[i:]
	}
	return link
}

// counted has each call wait for the account's limits before it is sent. Listing an endpoint group is a POST, and a read all
// the same.
type counted struct{ next http.RoundTripper }

func (c counted) RoundTrip(request *http.Request) (*http.Response, error) {
	kind := cloud.Write
	if request.Method == http.MethodGet || strings.HasSuffix(request.URL.Path, "/listNetworkEndpoints") {
		kind = cloud.Read
	}
	if err := cloud.Wait(request.Context(), kind); err != nil {
		return nil, err
	}
	return c.next.RoundTrip(request)
}
