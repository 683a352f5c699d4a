package gcp

import (
	"context"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"
)

// kind is what the API calls one of our kinds, where it is, and how each thing that can be done to it is called.
type kind struct {
	// collection is the API's word.
	collection string
	scope      scope
	// labels: once it is made, a mark can be put on labels only; else into the description.
	labels bool
	// meta reads what all kinds have in common.
	meta func(body any) found

	list   func(ctx context.Context, svc *compute.Service, at location, filter string, each func(body any)) error
	get    func(ctx context.Context, svc *compute.Service, at location, name string) (any, error)
	insert func(ctx context.Context, svc *compute.Service, at location, body any) (*compute.Operation, error)
	// patch is nil where things cannot be changed.
	patch func(ctx context.Context, svc *compute.Service, at location, name string, body any) (*compute.Operation, error)
	// label replaces all labels. Nil without labels.
	label  func(ctx context.Context, svc *compute.Service, at location, name string, request any) (*compute.Operation, error)
	delete func(ctx context.Context, svc *compute.Service, at location, name string) (*compute.Operation, error)
}

// scope is what there is one collection for each of.
type scope int

const (
	regional scope = iota
	zonal
	global
)

// location is where a collection is: a project and, unless the collection is global, a region or zone of it.
type location struct{ project, in string }

// kinds are all there are.
var kinds = map[string]*kind{
	KindAddress: {
		collection: "addresses", labels: true,
		meta: meta(func(b *compute.Address) found {
			return found{name: b.Name, description: b.Description, labels: b.Labels, fingerprint: b.LabelFingerprint}
		}),
		list: lists(func(s *compute.Service, at location) *compute.AddressesListCall {
			return s.Addresses.List(at.project, at.in)
		},
			func(l *compute.AddressList) []*compute.Address { return l.Items }),
		get: gets(func(s *compute.Service, at location, name string) *compute.AddressesGetCall {
			return s.Addresses.Get(at.project, at.in, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.Address) *compute.AddressesInsertCall {
			return s.Addresses.Insert(at.project, at.in, b)
		}),
		label: patches(func(s *compute.Service, at location, name string, r *compute.RegionSetLabelsRequest) *compute.AddressesSetLabelsCall {
			return s.Addresses.SetLabels(at.project, at.in, name, r)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.AddressesDeleteCall {
			return s.Addresses.Delete(at.project, at.in, name)
		}),
	},
	KindHealthCheck: {
		collection: "healthChecks",
		meta:       meta(func(b *compute.HealthCheck) found { return found{name: b.Name, description: b.Description} }),
		list: lists(func(s *compute.Service, at location) *compute.RegionHealthChecksListCall {
			return s.RegionHealthChecks.List(at.project, at.in)
		}, func(l *compute.HealthCheckList) []*compute.HealthCheck { return l.Items }),
		get: gets(func(s *compute.Service, at location, name string) *compute.RegionHealthChecksGetCall {
			return s.RegionHealthChecks.Get(at.project, at.in, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.HealthCheck) *compute.RegionHealthChecksInsertCall {
			return s.RegionHealthChecks.Insert(at.project, at.in, b)
		}),
		patch: patches(func(s *compute.Service, at location, name string, b *compute.HealthCheck) *compute.RegionHealthChecksPatchCall {
			return s.RegionHealthChecks.Patch(at.project, at.in, name, b)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.RegionHealthChecksDeleteCall {
			return s.RegionHealthChecks.Delete(at.project, at.in, name)
		}),
	},
	KindEndpointGroup: {
		collection: "networkEndpointGroups", scope: zonal,
		meta: meta(func(b *compute.NetworkEndpointGroup) found {
			return found{name: b.Name, description: b.Description, zone: last(b.Zone)}
		}),
		list: lists(func(s *compute.Service, at location) *compute.NetworkEndpointGroupsAggregatedListCall {
			return s.NetworkEndpointGroups.AggregatedList(at.project)
		}, func(l *compute.NetworkEndpointGroupAggregatedList) (items []*compute.NetworkEndpointGroup) {
			for _, zone := range l.Items {
				items = append(items, zone.NetworkEndpointGroups...)
			}
			return items
		}),
		get: gets(func(s *compute.Service, at location, name string) *compute.NetworkEndpointGroupsGetCall {
			return s.NetworkEndpointGroups.Get(at.project, at.in, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.NetworkEndpointGroup) *compute.NetworkEndpointGroupsInsertCall {
			return s.NetworkEndpointGroups.Insert(at.project, at.in, b)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.NetworkEndpointGroupsDeleteCall {
			return s.NetworkEndpointGroups.Delete(at.project, at.in, name)
		}),
	},
	KindBackendService: {
		collection: "backendServices",
		meta: meta(func(b *compute.BackendService) found {
			return found{name: b.Name, description: b.Description, fingerprint: b.Fingerprint}
		}),
		list: lists(func(s *compute.Service, at location) *compute.RegionBackendServicesListCall {
			return s.RegionBackendServices.List(at.project, at.in)
		}, func(l *compute.BackendServiceList) []*compute.BackendService { return l.Items }),
		get: gets(func(s *compute.Service, at location, name string) *compute.RegionBackendServicesGetCall {
			return s.RegionBackendServices.Get(at.project, at.in, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.BackendService) *compute.RegionBackendServicesInsertCall {
			return s.RegionBackendServices.Insert(at.project, at.in, b)
		}),
		patch: patches(func(s *compute.Service, at location, name string, b *compute.BackendService) *compute.RegionBackendServicesPatchCall {
			return s.RegionBackendServices.Patch(at.project, at.in, name, b)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.RegionBackendServicesDeleteCall {
			return s.RegionBackendServices.Delete(at.project, at.in, name)
		}),
	},
	KindForwardingRule: {
		collection: "forwardingRules", labels: true,
		meta: meta(func(b *compute.ForwardingRule) found {
			return found{name: b.Name, description: b.Description, labels: b.Labels, fingerprint: b.LabelFingerprint}
		}),
		list: lists(func(s *compute.Service, at location) *compute.ForwardingRulesListCall {
			return s.ForwardingRules.List(at.project, at.in)
		}, func(l *compute.ForwardingRuleList) []*compute.ForwardingRule { return l.Items }),
		get: gets(func(s *compute.Service, at location, name string) *compute.ForwardingRulesGetCall {
			return s.ForwardingRules.Get(at.project, at.in, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.ForwardingRule) *compute.ForwardingRulesInsertCall {
			return s.ForwardingRules.Insert(at.project, at.in, b)
		}),
		patch: patches(func(s *compute.Service, at location, name string, b *compute.ForwardingRule) *compute.ForwardingRulesPatchCall {
			return s.ForwardingRules.Patch(at.project, at.in, name, b)
		}),
		label: patches(func(s *compute.Service, at location, name string, r *compute.RegionSetLabelsRequest) *compute.ForwardingRulesSetLabelsCall {
			return s.ForwardingRules.SetLabels(at.project, at.in, name, r)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.ForwardingRulesDeleteCall {
			return s.ForwardingRules.Delete(at.project, at.in, name)
		}),
	},
	KindFirewall: {
		collection: "firewalls", scope: global,
		meta: meta(func(b *compute.Firewall) found { return found{name: b.Name, description: b.Description} }),
		list: lists(func(s *compute.Service, at location) *compute.FirewallsListCall { return s.Firewalls.List(at.project) },
			func(l *compute.FirewallList) []*compute.Firewall { return l.Items }),
		get: gets(func(s *compute.Service, at location, name string) *compute.FirewallsGetCall {
			return s.Firewalls.Get(at.project, name)
		}),
		insert: inserts(func(s *compute.Service, at location, b *compute.Firewall) *compute.FirewallsInsertCall {
			return s.Firewalls.Insert(at.project, b)
		}),
		patch: patches(func(s *compute.Service, at location, name string, b *compute.Firewall) *compute.FirewallsPatchCall {
			return s.Firewalls.Patch(at.project, name, b)
		}),
		delete: deletes(func(s *compute.Service, at location, name string) *compute.FirewallsDeleteCall {
			return s.Firewalls.Delete(at.project, name)
		}),
	},
}

// kindsByCollection are our kinds by the API's word for their collections.
var kindsByCollection = map[string]string{}

func init() {
	for name, k := range kinds {
		kindsByCollection[k.collection] = name
	}
}

// The SDK has a type for each call. These make of it what a kind holds; C is that type, T a thing, L a page of a list.

type doer[C, T any] interface {
	Context(context.Context) C
	Do(...googleapi.CallOption) (T, error)
}

type pager[C, L any] interface {
	Filter(string) C
	Pages(context.Context, func(*L) error) error
}

func meta[T any](read func(*T) found) func(any) found {
	return func(body any) found {
		f := read(body.(*T))
		f.body = body
		return f
	}
}

func lists[C pager[C, L], L, T any](call func(*compute.Service, location) C, items func(*L) []*T) func(context.Context, *compute.Service, location, string, func(any)) error {
	return func(ctx context.Context, svc *compute.Service, at location, filter string, each func(any)) error {
		c := call(svc, at)
		if filter != "" {
			c = c.Filter(filter)
		}
		return c.Pages(ctx, func(page *L) error {
			if err := whole(page, at.in); err != nil {
				return err
			}
			for _, item := range items(page) {
				each(item)
			}
			return nil
		})
	}
}

func gets[C doer[C, *T], T any](call func(*compute.Service, location, string) C) func(context.Context, *compute.Service, location, string) (any, error) {
	return func(ctx context.Context, svc *compute.Service, at location, name string) (any, error) {
		return call(svc, at, name).Context(ctx).Do()
	}
}

func inserts[C doer[C, *compute.Operation], T any](call func(*compute.Service, location, *T) C) func(context.Context, *compute.Service, location, any) (*compute.Operation, error) {
	return func(ctx context.Context, svc *compute.Service, at location, body any) (*compute.Operation, error) {
		return call(svc, at, body.(*T)).Context(ctx).Do()
	}
}

func patches[C doer[C, *compute.Operation], T any](call func(*compute.Service, location, string, *T) C) func(context.Context, *compute.Service, location, string, any) (*compute.Operation, error) {
	return func(ctx context.Context, svc *compute.Service, at location, name string, body any) (*compute.Operation, error) {
		return call(svc, at, name, body.(*T)).Context(ctx).Do()
	}
}

func deletes[C doer[C, *compute.Operation]](call func(*compute.Service, location, string) C) func(context.Context, *compute.Service, location, string) (*compute.Operation, error) {
	return func(ctx context.Context, svc *compute.Service, at location, name string) (*compute.Operation, error) {
		return call(svc, at, name).Context(ctx).Do()
	}
}
