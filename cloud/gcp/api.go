package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// api is the part of the Compute Engine API that is used: six kinds of things (see kinds), what can be done to them, and
// operations. Ids are those of idOf. Errors are tidy.
type api struct {
	// classOf is the provider's Classify.
	classOf func(error) cloud.Class
	svc     *compute.Service
	config  *Config
}

// found is a thing as the API shows it.
type found struct {
	kind, id, name string
	zone           string // empty: it is in none
	description    string
	labels         map[string]string
	// fingerprint is that of the labels, or of the thing itself where it has no labels and takes a precondition.
	fingerprint string
	// body is a pointer to the SDK's type.
	body any
}

func (f *found) mark() mark {
	if kinds[f.kind].labels {
		return labelled(f.labels, f.description)
	}
	m, _ := described(f.description)
	return m
}

func foundOf(kind string, body any) found {
	f := kinds[kind].meta(body)
	f.kind, f.id = kind, idOf(kind, f.zone, f.name)
	return f
}

// idOf is the id of a thing, which no other kind's has: of a backend service, which people write into annotations, its name; of
// what is in a zone that and its name; of others the API's word for their collection and their name.
func idOf(kind, zone, name string) string {
	switch {
	case kind == KindBackendService:
		return name
	case kinds[kind].scope == zonal:
		return zone + "/" + name
	}
	return kinds[kind].collection + "/" + name
}

// last is the last part of a link, which is a name.
func last(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

// locate says where something with the id is; for a list, whatever the id. What is in zones is listed for all of them: then it is in the region.
func (c *Config) locate(kind, id string) location {
	switch kinds[kind].scope {
	case zonal:
		zone, _, _ := strings.Cut(id, "/")
		return location{c.Project, cmp.Or(zone, c.Region)}
	case global:
		return location{c.firewallProject(), ""}
	}
	return location{c.Project, c.Region}
}

// ofAllRegions begins the id of what is global, of a kind that we make in regions: health checks of other controllers. We point to
// them at most.
const ofAllRegions = "global/"

// link is how one thing points to another: the part of its link from the project on.
func (c *Config) link(kind, id string) string {
	at, k := c.locate(kind, id), kinds[kind]
	in := map[scope]string{regional: "regions/" + at.in, zonal: "zones/" + at.in, global: "global"}[k.scope]
	if strings.HasPrefix(id, ofAllRegions) {
		in = "global"
	}
	return "projects/" + at.project + "/" + in + "/" + k.collection + "/" + last(id)
}

// list returns the things of a kind that a filter lets pass; empty: all of the project and region.
func (a *api) list(ctx context.Context, kind, filter string) ([]found, error) {
	var all []found
	err := kinds[kind].list(ctx, a.svc, a.config.locate(kind, ""), filter, func(body any) {
		if f := foundOf(kind, body); f.zone == "" || strings.HasPrefix(f.zone, a.config.Region+"-") {
			all = append(all, f)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing each %s: %w", kind, a.refused(kind, err))
	}
	return all, nil
}

// partial are the warnings of lists that leave something out.
var partial = []string{"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED", "NOT_CRITICAL_ERROR"}

// whole returns an error where a page of a list, a pointer to the SDK's type of it, leaves something out: what is not in it must not be taken
// for gone. Of a list over all zones and regions it does not count what is neither global nor in the place, a region or zone.
func whole(page any, place string) error {
	place = cmp.Or(place, "global")
	v := reflect.ValueOf(page).Elem()
	lacks := func(scope string) bool {
		in := last(scope)
		return in == "global" || in == place || strings.HasPrefix(in, place+"-")
	}
	warning := func(v reflect.Value) string {
		if w := v.FieldByName("Warning"); w.IsValid() && !w.IsNil() && slices.Contains(partial, w.Elem().FieldByName("Code").String()) {
			return w.Elem().FieldByName("Code").String()
		}
		return ""
	}
	missing := map[string]string{}
	if code := warning(v); code != "" {
		missing[place] = code
	}
	if u := v.FieldByName("Unreachables"); u.IsValid() && u.Len() > 0 {
		delete(missing, place) // it says of which places
		for i := range u.Len() {
			missing[u.Index(i).String()] = partial[0]
		}
	}
	if items := v.FieldByName("Items"); items.Kind() == reflect.Map {
		for _, scope := range items.MapKeys() {
			if code := warning(items.MapIndex(scope)); code != "" {
				missing[scope.String()] = code
			}
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(missing)) {
		if lacks(scope) {
			return cloud.Errorf(cloud.Retry, "the list lacks what is in %s (%s)", last(scope), missing[scope])
		}
	}
	return nil
}

// refused is tidy, with what else than granting it helps where the right to firewall rules is missing.
func (a *api) refused(kind string, err error) error {
	err = tidy(err)
	if e, ok := errors.AsType[*Error](err); ok && kind == KindFirewall && e.Code == "forbidden" {
		e.Message += ": grant it in project " + a.config.firewallProject() +
			", or leave firewall rules to others, with firewalls: None in the provider's configuration"
	}
	return err
}

func (a *api) get(ctx context.Context, kind, id string) (found, error) {
	body, err := kinds[kind].get(ctx, a.svc, a.config.locate(kind, id), last(id))
	if err != nil {
		return found{}, a.refused(kind, err)
	}
	return foundOf(kind, body), nil
}

func (a *api) insert(ctx context.Context, kind, id string, body any) (*compute.Operation, error) {
	op, err := kinds[kind].insert(ctx, a.svc, a.config.locate(kind, id), body)
	err = a.refused(kind, err)
	if e, ok := errors.AsType[*Error](err); ok {
		e.Insert = true
	}
	return op, err
}

// patch changes what is set in body.
func (a *api) patch(ctx context.Context, f *found, body any) (*compute.Operation, error) {
	op, err := kinds[f.kind].patch(ctx, a.svc, a.config.locate(f.kind, f.id), f.name, body)
	return op, a.refused(f.kind, err)
}

// setLabels replaces all labels, if they are still those with the fingerprint.
func (a *api) setLabels(ctx context.Context, f *found, labels map[string]string) (*compute.Operation, error) {
	request := &compute.RegionSetLabelsRequest{LabelFingerprint: f.fingerprint, Labels: labels, ForceSendFields: []string{"Labels"}}
	op, err := kinds[f.kind].label(ctx, a.svc, a.config.locate(f.kind, f.id), f.name, request)
	return op, tidy(err)
}

func (a *api) delete(ctx context.Context, kind, id string) (*compute.Operation, error) {
	op, err := kinds[kind].delete(ctx, a.svc, a.config.locate(kind, id), last(id))
	return op, a.refused(kind, err)
}

// instances of an endpoint group, by name.
func (a *api) instances(ctx context.Context, id string) ([]string, error) {
	zone, name, _ := strings.Cut(id, "/")
	var all []string
	request := &compute.NetworkEndpointGroupsListEndpointsRequest{HealthStatus: "SKIP"}
	err := a.svc.NetworkEndpointGroups.ListNetworkEndpoints(a.config.Project, zone, name, request).Pages(ctx,
		func(page *compute.NetworkEndpointGroupsListNetworkEndpoints) error {
			if err := whole(page, zone); err != nil {
				return err
			}
			for _, item := range page.Items {
				if item.NetworkEndpoint != nil {
					all = append(all, last(item.NetworkEndpoint.Instance))
				}
			}
			return nil
		})
	return all, tidy(err)
}

// autohealing returns the links of the health checks by which managed instance groups of the project make machines anew.
func (a *api) autohealing(ctx context.Context) (map[string]bool, error) {
	links := map[string]bool{}
	err := a.svc.InstanceGroupManagers.AggregatedList(a.config.Project).Pages(ctx, func(page *compute.InstanceGroupManagerAggregatedList) error {
		if err := whole(page, a.config.Region); err != nil {
			return err
		}
		for _, list := range page.Items {
			for _, manager := range list.InstanceGroupManagers {
				for _, policy := range manager.AutoHealingPolicies {
					links[shortLink(policy.HealthCheck)] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing managed instance groups: %w", tidy(err))
	}
	return links, nil
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

// unfinished returns the operations that have not ended, of all zones and regions, and of the network's project where firewall rules are
// made in it.
func (a *api) unfinished(ctx context.Context) ([]*compute.Operation, error) {
	var all []*compute.Operation
	projects := []string{a.config.Project}
	if other := a.config.firewallProject(); other != a.config.Project && a.config.managesFirewalls() {
		projects = append(projects, other)
	}
	for _, project := range projects {
		err := a.svc.GlobalOperations.AggregatedList(project).Filter(`status != "DONE"`).Pages(ctx, func(page *compute.OperationAggregatedList) error {
			if err := whole(page, a.config.Region); err != nil {
				return err
			}
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
