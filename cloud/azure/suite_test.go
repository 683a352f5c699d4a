package azure_test

import (
	"context"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
)

var config = azure.Config{SubscriptionID: azuretest.Subscription, ResourceGroup: azuretest.ResourceGroup, Location: azuretest.Location,
	VnetName: "nodes", VnetResourceGroup: azuretest.ResourceGroup, SubnetName: "nodes",
	SecurityGroupName: "nodes", SecurityGroupResourceGroup: azuretest.ResourceGroup}

// endpoint is never called: the transport answers.
const endpoint = "http://azure.test"

// ownAddress is that of a public address that somebody has already.
const ownAddress = "203.0.113.9"

// network makes an Azure in which a cluster has been set up: with a security group, and a public address of somebody's own.
func network(t *testing.T, options azuretest.Options) *azuretest.Cloud {
	t.Helper()
	c := azuretest.New(options)
	put := func(typ, name string, body any) {
		t.Helper()
		if err := c.Put(typ, name, body); err != nil {
			t.Fatal(err)
		}
		time.Sleep(options.Slow)
	}
	put("networkSecurityGroups", "nodes", armnetwork.SecurityGroup{Location: new(azuretest.Location)})
	put("publicIPAddresses", "own", publicIP())
	if err := c.SetAddress("own", ownAddress); err != nil {
		t.Fatal(err)
	}
	time.Sleep(options.ReadLag)
	return c
}

func publicIP() armnetwork.PublicIPAddress {
	return armnetwork.PublicIPAddress{Location: new(azuretest.Location), SKU: &armnetwork.PublicIPAddressSKU{Name: new(armnetwork.PublicIPAddressSKUNameStandard)},
		Tags:       map[string]*string{"somebody": new("else")},
		Properties: &armnetwork.PublicIPAddressPropertiesFormat{PublicIPAllocationMethod: new(armnetwork.IPAllocationMethodStatic)}}
}

func provider(t *testing.T, c *azuretest.Cloud) *azure.Provider {
	t.Helper()
	p, err := azure.NewForEmulator(config, endpoint, c.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// somebodysRule is a security rule that is not ours, whatever its name.
func somebodysRule(name string) *armnetwork.SecurityRule {
	return &armnetwork.SecurityRule{Name: new(name), Properties: &armnetwork.SecurityRulePropertiesFormat{
		Access: new(armnetwork.SecurityRuleAccessAllow), Direction: new(armnetwork.SecurityRuleDirectionInbound),
		Protocol: new(armnetwork.SecurityRuleProtocolTCP), Priority: new(int32(500)), SourceAddressPrefix: new("*"), SourcePortRange: new("*"),
		DestinationAddressPrefix: new("*"), DestinationPortRange: new("22")}}
}

// limited is a provider that says what the account may send, or how late it reads.
type limited struct {
	cloud.Provider
	edit func(*cloud.Capabilities)
}

func (l limited) Capabilities() cloud.Capabilities {
	caps := l.Provider.Capabilities()
	l.edit(&caps)
	return caps
}

func harness(options azuretest.Options, adapt func(cloud.Spec) cloud.Spec, edit func(*cloud.Capabilities), prepare ...func(*azuretest.Cloud)) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		c := network(t, options)
		for _, more := range prepare {
			more(c)
		}
		before := c.Snapshot()
		planter := &planter{cloud: c, slow: options.Slow}
		nowhere := "" // where addresses are asked for by annotations
		if adapt == nil {
			nowhere = "203.0.113.99"
		}
		beside := false
		return &cloudtest.Harness{
			RefusedAddress: nowhere,
			PlantBalancer:  planter.plant,
			Refused:        refused(adapt != nil),
			Replacements:   map[string]map[string]string{"an address of the other kind": {internalAnnotation: strconv.FormatBool(adapt == nil)}},
			New:            func() cloud.Provider { return limited{provider(t, c), edit} },
			SetHook: func(hook func(cloudtest.Call) error) {
				if hook == nil {
					c.SetHook(nil)
					return
				}
				c.SetHook(func(call azuretest.Call) error {
					return hook(cloudtest.Call{Name: call.Method + " " + call.Type, Write: call.Write(), After: call.After})
				})
			},
			Snapshot: func() []string {
				return slices.DeleteFunc(c.Snapshot(), func(line string) bool { return slices.Contains(before, line) })
			},
			PlantForeign: func(owner cloud.Owner, r cloud.Resource) error {
				switch r.Kind {
				case azure.KindPublicIP:
					return c.Put("publicIPAddresses", cloud.Name(owner, r, 80), publicIP())
				case azure.KindRules:
					scheme := "public"
					if source := strings.Fields(r.Attributes["source"]); source[0] == "internal" {
						scheme = source[0]
						if slices.Contains(source, "linked") {
							scheme = "linked"
						}
					}
					return c.Put("loadBalancers", azure.BalancerName(owner.ClusterID, scheme, 1), armnetwork.LoadBalancer{
						Location: new(azuretest.Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
						Tags: map[string]*string{"somebody": new("else")}})
				case azure.KindSecurityRule:
					return c.Put("networkSecurityGroups", "nodes", armnetwork.SecurityGroup{Location: new(azuretest.Location),
						Properties: &armnetwork.SecurityGroupPropertiesFormat{SecurityRules: []*armnetwork.SecurityRule{somebodysRule(azure.SecurityPart(owner, r.Key) + "-tcp")}}})
				}
				return cloudtest.ErrCannotPlant
			},
			Throttled: func(after time.Duration) error {
				return (&azuretest.Refusal{Status: http.StatusTooManyRequests, Code: "TooManyRequests", RetryAfter: int(after.Seconds())}).AsError()
			},
			Address: ownAddress,
			Adapt: func(spec cloud.Spec) cloud.Spec {
				own := spec
				if adapt != nil {
					own = adapt(spec)
				}
				if slices.Equal(spec.Families, []cloud.Family{cloud.IPv6}) && !beside {
					beside = true
					scheme := "public"
					if adapt != nil {
						scheme = "internal"
					}
					somebodysIPv4(t, c, spec.Owner.ClusterID, scheme)
					before = c.Snapshot()
				}
				return own
			},
		}
	}
}

// refused are annotations of Services, public or internal, that ask for what Azure refuses.
func refused(internal bool) map[string]map[string]string {
	if internal {
		return map[string]map[string]string{
			"a subnet that there is not":       {annotation + "load-balancer-internal-subnet": "nowhere"},
			"an address of another network":    {annotation + "load-balancer-ipv4": "10.1.2.3"},
			"a public address of no such name": {internalAnnotation: "false", annotation + "pip-name": "own-1", annotation + "pls-create": "false"},
		}
	}
	return map[string]map[string]string{
		"an address of no such name":   {annotation + "pip-name": "own-1"},
		"an address that there is not": {annotation + "load-balancer-ipv4": "203.0.113.99"},
		"a prefix that there is not":   {annotation + "pip-prefix-id": networkPath + "publicIPPrefixes/none"},
		"a subnet that there is not":   {internalAnnotation: "true", annotation + "load-balancer-internal-subnet": "nowhere"},
	}
}

const internalAnnotation = "service.beta.kubernetes.io/azure-load-balancer-internal"

func internal(spec cloud.Spec) cloud.Spec {
	spec.Annotations = map[string]string{internalAnnotation: "true"}
	if strings.Contains(spec.RequestedAddress, ownAddress) {
		spec.RequestedAddress = "10.224.0.99"
	}
	return spec
}

// Adoptable implements cloud.Adopter.
func (l limited) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	return cloud.FindAdoptable(ctx, l.Provider, owner, id)
}

// Check implements cloud.Checker.
func (l limited) Check(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	return cloud.CheckCreate(ctx, l.Provider, owner, desired, replaced)
}

// somebodysIPv4 has somebody have a frontend of IPv4 on a cluster's first balancer of a scheme: Azure has none of IPv6 without.
func somebodysIPv4(t *testing.T, c *azuretest.Cloud, clusterID, scheme string) {
	t.Helper()
	lb := armnetwork.LoadBalancer{Location: new(azuretest.Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
		Tags: map[string]*string{"fairlead-cluster": new(clusterID)}, Properties: &armnetwork.LoadBalancerPropertiesFormat{
			FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("somebodys"), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{
				Subnet: &armnetwork.Subnet{ID: new(networkPath + "virtualNetworks/nodes/subnets/nodes")}}}}}}
	if scheme == "public" {
		if err := c.Put("publicIPAddresses", "beside", publicIP()); err != nil {
			t.Fatal(err)
		}
		lb.Properties.FrontendIPConfigurations[0].Properties = &armnetwork.FrontendIPConfigurationPropertiesFormat{
			PublicIPAddress: &armnetwork.PublicIPAddress{ID: new(networkPath + "publicIPAddresses/beside")}}
	}
	if err := c.Put("loadBalancers", azure.BalancerName(clusterID, scheme, 1), lb); err != nil {
		t.Fatal(err)
	}
}

// linkedHarness is harness for Services with private links, where they have IPv4. These cannot share a frontend, or have one that is
// there already.
func linkedHarness(options azuretest.Options, edit func(*cloud.Capabilities)) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		h := harness(options, func(spec cloud.Spec) cloud.Spec {
			if !slices.Contains(spec.Families, cloud.IPv4) {
				return internal(spec)
			}
			return linked(spec)
		}, edit, func(c *azuretest.Cloud) {
			machines(c, 60)
			otherMachines(c, 3)
			for _, end := range []string{"", "-b"} { // since that of the Services is on another balancer than their IPv6
				somebodysIPv4(t, c, service(1, 1).Owner.ClusterID+end, "internal")
			}
		})(t)
		h.Replacements = map[string]map[string]string{"no private link": {annotation + "pls-create": "false"}}
		return h
	}
}

// Desired has the nodes of the suite's other cluster be other machines: one machine is in no two clusters.
func (l limited) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if strings.HasSuffix(spec.Owner.ClusterID, "-b") {
		spec.Nodes = slices.Clone(spec.Nodes)
		for i := range spec.Nodes {
			spec.Nodes[i].ProviderID = strings.Replace(spec.Nodes[i].ProviderID, "/virtualMachines/", "/virtualMachines/b-", 1)
		}
	}
	return l.Provider.Desired(spec)
}

func asLinked(caps *cloud.Capabilities) {
	caps.RequestedAddress, caps.Share, caps.Adopt = false, false, false
	caps.Targets.Max = 1
}

var notLinked = []string{"AdoptedWithConsent", "AdoptionCrashAnywhere", "Feature/RequestedAddress", "Feature/Share", "NotAdoptedWithoutConsent", "OfferedAndTakenOver", "SharedConcurrently", "SharedCrashAnywhere", "SharedInAnyOrder"}

func asIs(*cloud.Capabilities) {}

// oneFamily makes what takes long take less.
func oneFamily(caps *cloud.Capabilities) {
	caps.Families, caps.DualStack, caps.MixedProtocols = caps.Families[:1], false, false
}

// notDeclared are the cases of the suite about what the provider does not declare.
var notDeclared = []string{"Feature/SCTP", "HealthIsTold", "PodsAreCheap", "PodsAreTargets"}

var narrow = []string{"Feature/DualStack", "Feature/IPv6", "Feature/MixedProtocols"}

// A look is several reads, and those of two managers may come at once.
var smallAccount = cloud.Limits{Reads: cloud.Limit{PerSecond: 20, Burst: 20}, Writes: cloud.Limit{PerSecond: 2, Burst: 3}}

// suites are ways in which Azure may behave.
var suites = map[string]struct {
	factory func(t *testing.T) *cloudtest.Harness
	skipped []string
}{
	"Public": {harness(azuretest.Options{}, nil, asIs), nil},
	"Internal": {harness(azuretest.Options{}, internal, func(caps *cloud.Capabilities) { caps.RequestedAddress = false }),
		[]string{"Feature/RequestedAddress"}},
	// Each Service has a private link, so that pools are of network interfaces: a machine that comes or goes is a write.
	"Linked": {linkedHarness(azuretest.Options{}, asLinked), notLinked},
	"LinkedSlow": {linkedHarness(azuretest.Options{Slow: 2 * time.Second}, func(caps *cloud.Capabilities) {
		asLinked(caps)
		oneFamily(caps)
	}), slices.Concat(narrow, notLinked)},
	// What is written takes its time.
	"Slow": {harness(azuretest.Options{Slow: 3 * time.Second}, nil, oneFamily), narrow},
	// Reads show what was a while ago.
	"Lagging": {harness(azuretest.Options{ReadLag: 2 * time.Second, Slow: 2 * time.Second}, nil, func(caps *cloud.Capabilities) {
		oneFamily(caps)
		caps.ReadLag, caps.Share = 3*time.Second, false // a group takes minutes
	}), slices.Concat(narrow, []string{"Feature/Share", "SharedConcurrently", "SharedCrashAnywhere", "SharedInAnyOrder"})},
	"SmallAccount": {harness(azuretest.Options{Limits: smallAccount}, nil, func(caps *cloud.Capabilities) {
		oneFamily(caps)
		caps.Limits = smallAccount
	}), narrow},
}

// suiteEnv names the one of suites that TestSuite runs.
const suiteEnv = "FAIRLEAD_SUITE"

// TestSuite is what TestProvider runs in a process of its own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if name := os.Getenv(suiteEnv); name != "" {
		debug.SetGCPercent(400) // it makes much garbage, and keeps little
		cloudtest.Run(t, suites[name].factory)
	}
}

// TestProvider: the provider passes the suite, of which exactly what it does not declare is skipped.
func TestProvider(t *testing.T) {
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Passes(t, "TestSuite", suiteEnv+"="+name, slices.Sorted(slices.Values(slices.Concat(notDeclared, suite.skipped)))...)
		})
	}
}
