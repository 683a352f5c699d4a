package azure

import (
	"context"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// network is what is used of Azure. What is written carries the ETag that it is written over, or absent. Every error of
// Azure's is a *refusal. What Azure goes on with is told by the provisioning state; outcome tells how it ended.
type network interface {
	Balancers(ctx context.Context) ([]*armnetwork.LoadBalancer, error)
	Balancer(ctx context.Context, name string) (*armnetwork.LoadBalancer, error)
	PutBalancer(ctx context.Context, lb *armnetwork.LoadBalancer, match string) (*armnetwork.LoadBalancer, outcome, error)
	DeleteBalancer(ctx context.Context, name, match string) error
	PutPool(ctx context.Context, balancer string, pool *armnetwork.BackendAddressPool, match string) (*armnetwork.BackendAddressPool, error)

	PublicIPs(ctx context.Context, group string) ([]*armnetwork.PublicIPAddress, error)
	PublicIP(ctx context.Context, group, name string) (*armnetwork.PublicIPAddress, error)
	PutPublicIP(ctx context.Context, ip *armnetwork.PublicIPAddress, match string) (*armnetwork.PublicIPAddress, error)
	PublicIPPrefix(ctx context.Context, group, name string) (*armnetwork.PublicIPPrefix, error)
	// DeletePublicIP reports whether it is gone, or else going.
	DeletePublicIP(ctx context.Context, name, match string) (gone bool, err error)

	// Subnet is one of the nodes' network.
	Subnet(ctx context.Context, name string) (*armnetwork.Subnet, error)
	SecurityGroup(ctx context.Context) (*armnetwork.SecurityGroup, error)
	PutSecurityGroup(ctx context.Context, group *armnetwork.SecurityGroup, match string) (*armnetwork.SecurityGroup, outcome, error)

	LinkServices(ctx context.Context) ([]*armnetwork.PrivateLinkService, error)
	PutLinkService(ctx context.Context, service *armnetwork.PrivateLinkService, match string) (*armnetwork.PrivateLinkService, error)
	DeleteLinkService(ctx context.Context, name, match string) error

	// Interfaces are those of a resource group, but for those of uniform scale sets' machines; or with a set those of that one's.
	Interfaces(ctx context.Context, group, set string) ([]*armnetwork.Interface, error)
	Interface(ctx context.Context, group, name string) (*armnetwork.Interface, error)
	PutInterface(ctx context.Context, group string, nic *armnetwork.Interface, match string) error
	// Machine is the n-th of a uniform scale set.
	Machine(ctx context.Context, group, set, n string) (*armcompute.VirtualMachineScaleSetVM, error)
	PutMachine(ctx context.Context, group, set, n string, vm *armcompute.VirtualMachineScaleSetVM, match string) error
}

// outcome returns how an operation that goes on ended: its error, or nil also while it still goes on.
type outcome func(ctx context.Context) error

// absent, for an ETag: there must be nothing yet.
const absent = ""

// client is Azure.
type client struct {
	config    Config
	balancers *armnetwork.LoadBalancersClient
	pools     *armnetwork.LoadBalancerBackendAddressPoolsClient
	addresses *armnetwork.PublicIPAddressesClient
	prefixes  *armnetwork.PublicIPPrefixesClient
	subnets   *armnetwork.SubnetsClient
	groups    *armnetwork.SecurityGroupsClient
	links     *armnetwork.PrivateLinkServicesClient
	nics      *armnetwork.InterfacesClient
	machines  *armcompute.VirtualMachineScaleSetVMsClient
}

var _ network = (*client)(nil)

func newClient(config Config, credential azcore.TokenCredential, options policy.ClientOptions) (*client, error) {
	// The core retries, and knows who else is waiting.
	options.Retry = policy.RetryOptions{MaxRetries: -1}
	options.PerCallPolicies = append(options.PerCallPolicies, waiter{})
	options.Telemetry.ApplicationID = "fairlead"
	arms := &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true}
	factory, err := armnetwork.NewClientFactory(config.SubscriptionID, credential, arms)
	if err != nil {
		return nil, err
	}
	machines, err := armcompute.NewVirtualMachineScaleSetVMsClient(config.SubscriptionID, credential, arms)
	if err != nil {
		return nil, err
	}
	return &client{config: config, balancers: factory.NewLoadBalancersClient(), pools: factory.NewLoadBalancerBackendAddressPoolsClient(),
		addresses: factory.NewPublicIPAddressesClient(), prefixes: factory.NewPublicIPPrefixesClient(), subnets: factory.NewSubnetsClient(), groups: factory.NewSecurityGroupsClient(),
		links: factory.NewPrivateLinkServicesClient(), nics: factory.NewInterfacesClient(), machines: machines}, nil
}

// waiter has every request wait for the account's limits.
type waiter struct{}

// Do implements policy.Policy.
func (waiter) Do(request *policy.Request) (*http.Response, error) {
	kind := cloud.Write
	if request.Raw().Method == http.MethodGet {
		kind = cloud.Read
	}
	if err := cloud.Wait(request.Raw().Context(), kind); err != nil {
		return nil, err
	}
	return request.Next()
}

// matching adds the precondition of a write.
func matching(ctx context.Context, match string) context.Context {
	if match == absent {
		return policy.WithHTTPHeader(ctx, http.Header{"If-None-Match": {"*"}})
	}
	return policy.WithHTTPHeader(ctx, http.Header{"If-Match": {match}})
}

// written returns what Azure answered to a write that may still go on.
func written[T any](raw *http.Response) (*T, error) {
	body := new(T)
	if err := runtime.UnmarshalAsJSON(raw, body); err != nil {
		return nil, err
	}
	return body, nil
}

// ending is the outcome of a poller.
func ending[T any](poller *runtime.Poller[T]) outcome {
	return func(ctx context.Context) error {
		if !poller.Done() {
			if _, err := poller.Poll(ctx); err != nil { //nolint:bodyclose // the SDK has read all of it
				return refused(err)
			}
		}
		if !poller.Done() {
			return nil
		}
		_, err := poller.Result(ctx)
		return refused(err)
	}
}

// all gathers what is on all pages of a list.
func all[P, T any](ctx context.Context, pager *runtime.Pager[P], of func(P) []T) ([]T, error) {
	var items []T
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, refused(err)
		}
		items = append(items, of(page)...)
	}
	return items, nil
}

func (c *client) Balancers(ctx context.Context) ([]*armnetwork.LoadBalancer, error) {
	return all(ctx, c.balancers.NewListPager(c.config.ResourceGroup, nil), func(page armnetwork.LoadBalancersClientListResponse) []*armnetwork.LoadBalancer { return page.Value })
}

func (c *client) Balancer(ctx context.Context, name string) (*armnetwork.LoadBalancer, error) {
	answer, err := c.balancers.Get(ctx, c.config.ResourceGroup, name, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.LoadBalancer, nil
}

func (c *client) PutBalancer(ctx context.Context, lb *armnetwork.LoadBalancer, match string) (*armnetwork.LoadBalancer, outcome, error) {
	var raw *http.Response
	poller, err := c.balancers.BeginCreateOrUpdate(policy.WithCaptureResponse(matching(ctx, match), &raw), c.config.ResourceGroup, *lb.Name, *lb, nil)
	if err != nil {
		return nil, nil, refused(err)
	}
	after, err := written[armnetwork.LoadBalancer](raw)
	return after, ending(poller), err
}

func (c *client) DeleteBalancer(ctx context.Context, name, match string) error {
	_, err := c.balancers.BeginDelete(matching(ctx, match), c.config.ResourceGroup, name, nil)
	return refused(err)
}

func (c *client) PutPool(ctx context.Context, balancer string, pool *armnetwork.BackendAddressPool, match string) (*armnetwork.BackendAddressPool, error) {
	var raw *http.Response
	_, err := c.pools.BeginCreateOrUpdate(policy.WithCaptureResponse(matching(ctx, match), &raw), c.config.ResourceGroup, balancer, *pool.Name, *pool, nil)
	if err != nil {
		return nil, refused(err)
	}
	return written[armnetwork.BackendAddressPool](raw)
}

func (c *client) PublicIPs(ctx context.Context, group string) ([]*armnetwork.PublicIPAddress, error) {
	return all(ctx, c.addresses.NewListPager(group, nil), func(page armnetwork.PublicIPAddressesClientListResponse) []*armnetwork.PublicIPAddress {
		return page.Value
	})
}

func (c *client) PublicIP(ctx context.Context, group, name string) (*armnetwork.PublicIPAddress, error) {
	answer, err := c.addresses.Get(ctx, group, name, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.PublicIPAddress, nil
}

func (c *client) PutPublicIP(ctx context.Context, ip *armnetwork.PublicIPAddress, match string) (*armnetwork.PublicIPAddress, error) {
	var raw *http.Response
	_, err := c.addresses.BeginCreateOrUpdate(policy.WithCaptureResponse(matching(ctx, match), &raw), c.config.ResourceGroup, *ip.Name, *ip, nil)
	if err != nil {
		return nil, refused(err)
	}
	return written[armnetwork.PublicIPAddress](raw)
}

func (c *client) DeletePublicIP(ctx context.Context, name, match string) (gone bool, err error) {
	poller, err := c.addresses.BeginDelete(matching(ctx, match), c.config.ResourceGroup, name, nil)
	if err != nil {
		return false, refused(err)
	}
	return poller.Done(), nil
}

func (c *client) PublicIPPrefix(ctx context.Context, group, name string) (*armnetwork.PublicIPPrefix, error) {
	answer, err := c.prefixes.Get(ctx, group, name, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.PublicIPPrefix, nil
}

func (c *client) Subnet(ctx context.Context, name string) (*armnetwork.Subnet, error) {
	answer, err := c.subnets.Get(ctx, c.config.VnetResourceGroup, c.config.VnetName, name, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.Subnet, nil
}

func (c *client) SecurityGroup(ctx context.Context) (*armnetwork.SecurityGroup, error) {
	answer, err := c.groups.Get(ctx, c.config.SecurityGroupResourceGroup, c.config.SecurityGroupName, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.SecurityGroup, nil
}

func (c *client) PutSecurityGroup(ctx context.Context, group *armnetwork.SecurityGroup, match string) (*armnetwork.SecurityGroup, outcome, error) {
	var raw *http.Response
	poller, err := c.groups.BeginCreateOrUpdate(policy.WithCaptureResponse(matching(ctx, match), &raw),
		c.config.SecurityGroupResourceGroup, c.config.SecurityGroupName, *group, nil)
	if err != nil {
		return nil, nil, refused(err)
	}
	after, err := written[armnetwork.SecurityGroup](raw)
	return after, ending(poller), err
}

func (c *client) LinkServices(ctx context.Context) ([]*armnetwork.PrivateLinkService, error) {
	return all(ctx, c.links.NewListPager(c.config.ResourceGroup, nil), func(page armnetwork.PrivateLinkServicesClientListResponse) []*armnetwork.PrivateLinkService {
		return page.Value
	})
}

func (c *client) PutLinkService(ctx context.Context, service *armnetwork.PrivateLinkService, match string) (*armnetwork.PrivateLinkService, error) {
	var raw *http.Response
	_, err := c.links.BeginCreateOrUpdate(policy.WithCaptureResponse(matching(ctx, match), &raw), c.config.ResourceGroup, *service.Name, *service, nil)
	if err != nil {
		return nil, refused(err)
	}
	return written[armnetwork.PrivateLinkService](raw)
}

func (c *client) DeleteLinkService(ctx context.Context, name, match string) error {
	_, err := c.links.BeginDelete(matching(ctx, match), c.config.ResourceGroup, name, nil)
	return refused(err)
}

func (c *client) Interfaces(ctx context.Context, group, set string) ([]*armnetwork.Interface, error) {
	if set != "" {
		return all(ctx, c.nics.NewListVirtualMachineScaleSetNetworkInterfacesPager(group, set, nil),
			func(page armnetwork.InterfacesClientListVirtualMachineScaleSetNetworkInterfacesResponse) []*armnetwork.Interface {
				return page.Value
			})
	}
	return all(ctx, c.nics.NewListPager(group, nil), func(page armnetwork.InterfacesClientListResponse) []*armnetwork.Interface { return page.Value })
}

func (c *client) Interface(ctx context.Context, group, name string) (*armnetwork.Interface, error) {
	answer, err := c.nics.Get(ctx, group, name, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.Interface, nil
}

func (c *client) PutInterface(ctx context.Context, group string, nic *armnetwork.Interface, match string) error {
	_, err := c.nics.BeginCreateOrUpdate(matching(ctx, match), group, *nic.Name, *nic, nil)
	return refused(err)
}

func (c *client) Machine(ctx context.Context, group, set, n string) (*armcompute.VirtualMachineScaleSetVM, error) {
	answer, err := c.machines.Get(ctx, group, set, n, nil)
	if err != nil {
		return nil, refused(err)
	}
	return &answer.VirtualMachineScaleSetVM, nil
}

func (c *client) PutMachine(ctx context.Context, group, set, n string, vm *armcompute.VirtualMachineScaleSetVM, match string) error {
	_, err := c.machines.BeginUpdate(matching(ctx, match), group, set, n, *vm, nil)
	return refused(err)
}
