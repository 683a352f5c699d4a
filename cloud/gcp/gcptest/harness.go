package gcptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/option"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
)

// UserAddress is reserved by somebody else, under the name user-address, in clouds of Harness.
const UserAddress = "203.0.113.200"

// Config of a provider for a cloud.
func Config() gcp.Config {
	return gcp.Config{Project: Project, Region: Region, Network: Network, NodeTags: []string{"node"}}
}

// Provider makes a provider for the cloud, without a socket.
func (c *Cloud) Provider(edits ...func(*cloud.Capabilities)) *gcp.Provider {
	p, err := gcp.NewProvider(context.Background(), Config(), c.Client(), edits...)
	if err != nil {
		panic(err) // the configuration is right
	}
	return p
}

// Harness is that of the suite for an empty cloud.
func (c *Cloud) Harness(edits ...func(*cloud.Capabilities)) *cloudtest.Harness {
	c.ReserveAddress("user-address", UserAddress)
	return &cloudtest.Harness{
		New:           func() cloud.Provider { return c.Provider(edits...) },
		SetHook:       c.SetHook,
		Snapshot:      c.Snapshot,
		PlantForeign:  c.plantForeign,
		PlantBalancer: c.plantBalancer,
		Throttled:     func(after time.Duration) error { return Throttled(after) },
		Address:       UserAddress,
		Adapt:         Adapt,
	}
}

// Adapt gives the suite's nodes the machines of the cloud.
func Adapt(spec cloud.Spec) cloud.Spec {
	spec.Nodes = slices.Clone(spec.Nodes)
	for i := range spec.Nodes {
		spec.Nodes[i].Zone = Zone(i)
		spec.Nodes[i].ProviderID = "gce://" + Project + "/" + Zone(i) + "/" + InstanceName(i)
	}
	return spec
}

// volatile members differ from one run to the next.
var volatile = []string{"id", "creationTimestamp", "selfLink", "kind", "fingerprint", "labelFingerprint", "IPAddress", "address", "size"}

// Snapshot describes everything that was not there at first.
func (c *Cloud) Snapshot() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(time.Now())
	var vips []string // balancers' addresses, the longest first
	for _, o := range c.objects {
		if o.collection == "forwardingRules" {
			vips = append(vips, strings.TrimSuffix(o.body["IPAddress"].(string), "/96"))
		}
	}
	slices.SortFunc(vips, func(a, b string) int { return len(b) - len(a) })
	var lines []string
	for path, o := range c.objects {
		if o.given {
			continue
		}
		body := clone(o.body)
		maps.DeleteFunc(body, func(name string, _ any) bool { return slices.Contains(volatile, name) })
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		line := strings.ReplaceAll(string(text), host, "")
		for _, vip := range vips {
			line = strings.ReplaceAll(line, vip+"/", "vip/")
		}
		lines = append(lines, fmt.Sprintf("%s %s %v", path, line, slices.Sorted(maps.Keys(o.instances))))
	}
	slices.Sort(lines)
	return lines
}

// maker makes things as somebody else would.
type maker struct {
	c   *Cloud
	svc *compute.Service
}

func (c *Cloud) maker() (*maker, error) {
	svc, err := compute.NewService(context.Background(), option.WithHTTPClient(c.Client()))
	return &maker{c, svc}, err
}

// wait has an operation end.
func (m *maker) wait(op *compute.Operation, err error) error {
	if err == nil {
		time.Sleep(m.c.options.Slow)
		if op.Error != nil {
			err = fmt.Errorf("%s", op.Error.Errors[0].Message)
		}
	}
	return err
}

func (m *maker) healthCheck(name string) error {
	return m.wait(m.svc.RegionHealthChecks.Insert(Project, Region, &compute.HealthCheck{Name: name, Type: "HTTP",
		HttpHealthCheck: &compute.HTTPHealthCheck{Port: 8080, RequestPath: "/"}}).Do())
}

func (m *maker) backendService(name, check, scheme, description string, groups []string) error {
	b := &compute.BackendService{Name: name, Description: description, LoadBalancingScheme: scheme, Protocol: "UNSPECIFIED",
		HealthChecks: []string{host + "regions/" + Region + "/healthChecks/" + check}}
	for _, group := range groups {
		b.Backends = append(b.Backends, &compute.Backend{Group: host + group, BalancingMode: "CONNECTION"})
	}
	return m.wait(m.svc.RegionBackendServices.Insert(Project, Region, b).Do())
}

func (m *maker) address(name string, attributes map[string]string) error {
	a := &compute.Address{Name: name, AddressType: attributes["scheme"], NetworkTier: attributes["tier"]}
	if attributes["subnetwork"] != "" {
		a.Subnetwork = host + "regions/" + Region + "/subnetworks/" + attributes["subnetwork"]
	}
	if a.AddressType == "INTERNAL" && attributes["family"] == "IPv4" {
		a.Purpose = "SHARED_LOADBALANCER_VIP"
	}
	if attributes["family"] == "IPv6" {
		a.IpVersion = "IPV6"
	}
	return m.wait(m.svc.Addresses.Insert(Project, Region, a).Do())
}

func (m *maker) rule(name, service, address string, attributes map[string]string) error {
	r := &compute.ForwardingRule{Name: name, LoadBalancingScheme: attributes["scheme"], NetworkTier: attributes["tier"], IpVersion: strings.ToUpper(attributes["family"]),
		IPProtocol: attributes["protocol"], Ports: strings.Split(attributes["ports"], ","), BackendService: host + "regions/" + Region + "/backendServices/" + service}
	if attributes["subnetwork"] != "" {
		r.Subnetwork = host + "regions/" + Region + "/subnetworks/" + attributes["subnetwork"]
	}
	if address != "" {
		r.IPAddress = host + "regions/" + Region + "/addresses/" + address
	}
	if r.LoadBalancingScheme == "INTERNAL" {
		r.Network = host + "global/networks/" + Network
	}
	return m.wait(m.svc.ForwardingRules.Insert(Project, Region, r).Do())
}

func (m *maker) firewall(name string) error {
	return m.wait(m.svc.Firewalls.Insert(Project, &compute.Firewall{Name: name, Network: host + "global/networks/" + Network,
		SourceRanges: []string{"0.0.0.0/0"}, Allowed: []*compute.FirewallAllowed{{IPProtocol: "tcp", Ports: []string{"80"}}}}).Do())
}

func (m *maker) endpointGroup(zone, name string, instances []string) error {
	g := &compute.NetworkEndpointGroup{Name: name, NetworkEndpointType: "GCE_VM_IP", Network: host + "global/networks/" + Network,
		Subnetwork: host + "regions/" + Region + "/subnetworks/" + Network}
	if err := m.wait(m.svc.NetworkEndpointGroups.Insert(Project, zone, g).Do()); err != nil || len(instances) == 0 {
		return err
	}
	request := &compute.NetworkEndpointGroupsAttachEndpointsRequest{}
	for _, name := range instances {
		request.NetworkEndpoints = append(request.NetworkEndpoints, &compute.NetworkEndpoint{Instance: name})
	}
	return m.wait(m.svc.NetworkEndpointGroups.AttachNetworkEndpoints(Project, zone, name, request).Do())
}

// plantForeign makes a thing under the name that the provider would give to r, with what else it needs.
func (c *Cloud) plantForeign(owner cloud.Owner, r cloud.Resource) error {
	m, err := c.maker()
	if err != nil {
		return err
	}
	name := gcp.NameOf(owner, &r)
	switch r.Kind {
	case gcp.KindAddress:
		return m.address(name, r.Attributes)
	case gcp.KindHealthCheck:
		return m.healthCheck(name)
	case gcp.KindEndpointGroup:
		return m.endpointGroup(r.Attributes["zone"], name, nil)
	case gcp.KindFirewall:
		return m.firewall(name)
	}
	if err := m.healthCheck("somebodys"); err != nil {
		return err
	}
	if r.Kind == gcp.KindBackendService {
		return m.backendService(name, "somebodys", r.Attributes["scheme"], "", nil)
	}
	if err := m.backendService("somebodys", "somebodys", r.Attributes["scheme"], "", nil); err != nil {
		return err
	}
	return m.rule(name, "somebodys", "", r.Attributes)
}

// plantBalancer makes what the Spec asks for under somebody else's names: by hand, with endpoint groups; or as the service
// controller of cloud-provider-gcp, with the instance groups of its cluster.
func (c *Cloud) plantBalancer(plant cloudtest.Plant) (string, error) {
	m, err := c.maker()
	if err != nil {
		return "", err
	}
	desired, err := c.Provider().Desired(plant.Spec)
	if err != nil {
		return "", err
	}
	name := "hand-made-" + plant.Spec.Owner.Name
	if plant.MadeFor {
		name = ("a" + strings.ReplaceAll(plant.Spec.Owner.ServiceUID, "-", ""))[:32]
	}
	steps := []error{m.healthCheck(name)}
	do := func(err error) { steps = append(steps, err) }
	var groups []string
	scheme := "EXTERNAL"
	for _, r := range desired {
		switch {
		case r.Kind == gcp.KindBackendService:
			scheme = r.Attributes["scheme"]
		case r.Kind == gcp.KindEndpointGroup && plant.MadeFor:
			c.AddInstanceGroup(r.Key, "k8s-ig--cluster")
			groups = append(groups, "zones/"+r.Key+"/instanceGroups/k8s-ig--cluster")
		case r.Kind == gcp.KindEndpointGroup:
			var instances []string
			for _, t := range r.Targets {
				instances = append(instances, t.ID)
			}
			do(m.endpointGroup(r.Key, name, instances))
			groups = append(groups, "zones/"+r.Key+"/networkEndpointGroups/"+name)
		case r.Kind == gcp.KindAddress:
			do(m.address(name+"-"+r.Key, r.Attributes))
		}
	}
	description := "made by hand, in test"
	if plant.AdoptableBy != "" {
		description += " fairlead.dev/adoptable-by=" + plant.AdoptableBy
	}
	do(m.backendService(name, name, scheme, description, groups))
	rule := name
	for _, r := range desired {
		if r.Kind == gcp.KindForwardingRule {
			do(m.rule(rule, name, name+"-"+strings.ToLower(r.Attributes["family"]), r.Attributes))
			rule = fmt.Sprintf("%s-%d", name, len(steps))
		}
	}
	if plant.MadeFor {
		do(m.firewall("k8s-fw-" + name))
		do(m.firewall(name + "-hc"))
	}
	for _, err := range steps {
		if err != nil {
			return "", err
		}
	}
	return name, nil
}

// PlantGKE makes what GKE's controller would make for the Service in the cluster: a backend service, rules, a firewall, and what
// all balancers of GKE have, a global health check and its firewall. It returns the balancer's id and the address.
func (c *Cloud) PlantGKE(spec *cloud.Spec, clusterHash string) (id, address string, err error) {
	m, err := c.maker()
	if err != nil {
		return "", "", err
	}
	desired, err := c.Provider().Desired(*spec)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(desired, func(r cloud.Resource) bool { return r.Kind == gcp.KindForwardingRule })
	shared := "k8s2-" + clusterHash + "-l4-shared-hc"
	name := clusterHash + "-" + spec.Owner.Namespace + "-" + spec.Owner.Name + "-0a1b2c3d"
	description := `{"networking.gke.io/service-name":"` + spec.Owner.Namespace + "/" + spec.Owner.Name + `","networking.gke.io/api-version":"ga"}`
	c.mu.Lock()
	c.give("global/healthChecks/"+shared, map[string]any{"type": "HTTP"})
	c.mu.Unlock()
	wall := func(name, description string) error {
		return m.wait(m.svc.Firewalls.Insert(Project, &compute.Firewall{Name: name, Description: description, Network: host + "global/networks/" + Network,
			SourceRanges: []string{"0.0.0.0/0"}, Allowed: []*compute.FirewallAllowed{{IPProtocol: "tcp", Ports: []string{"80"}}}}).Do())
	}
	b := &compute.BackendService{Name: "k8s2-" + name, Description: description, LoadBalancingScheme: "INTERNAL", Protocol: "UNSPECIFIED",
		HealthChecks: []string{host + "global/healthChecks/" + shared}}
	rule := "k8s2-tcp-" + name
	err = errors.Join(m.wait(m.svc.RegionBackendServices.Insert(Project, Region, b).Do()), m.rule(rule, b.Name, "", desired[i].Attributes),
		wall("k8s2-"+name, description), wall(shared+"-fw", `{"networking.gke.io/service-name":""}`))
	if err != nil {
		return "", "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	address, _ = c.objects["regions/"+Region+"/forwardingRules/"+rule].body["IPAddress"].(string)
	return b.Name, address, nil
}

// PlantWithoutAddress makes a balancer with one rule by hand, whose address nobody reserved. It returns its id and the address.
func (c *Cloud) PlantWithoutAddress(spec *cloud.Spec) (id, address string, err error) {
	m, err := c.maker()
	if err != nil {
		return "", "", err
	}
	desired, err := c.Provider().Desired(*spec)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(desired, func(r cloud.Resource) bool { return r.Kind == gcp.KindForwardingRule })
	name := "hand-made-" + spec.Owner.Name
	if err := errors.Join(m.healthCheck(name), m.backendService(name, name, desired[i].Attributes["scheme"], "", nil),
		m.rule(name, name, "", desired[i].Attributes)); err != nil {
		return "", "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	address, _ = c.objects["regions/"+Region+"/forwardingRules/"+name].body["IPAddress"].(string)
	return name, address, nil
}

// Has reports whether there is something at a path below the project.
func (c *Cloud) Has(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[path] != nil
}

// Patch changes, as by hand, the first thing whose path has the part.
func (c *Cloud) Patch(part, body string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(c.objects)) {
		if o := c.objects[path]; strings.Contains(path, part) && !o.given {
			var patch map[string]any
			if err := json.Unmarshal([]byte(body), &patch); err != nil {
				return err
			}
			merge(o.body, patch)
			c.fingerprint(o)
			return nil
		}
	}
	return fmt.Errorf("nothing has %s in its path", part)
}
