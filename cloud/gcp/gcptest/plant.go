package gcptest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/option"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
)

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

// checkPath is the path of a regional health check.
func checkPath(name string) string { return "regions/" + Region + "/healthChecks/" + name }

func (m *maker) healthCheck(name string) error {
	return m.wait(m.svc.RegionHealthChecks.Insert(Project, Region, &compute.HealthCheck{Name: name, Type: "HTTP",
		HttpHealthCheck: &compute.HTTPHealthCheck{Port: 8080, RequestPath: "/"}}).Do())
}

func (m *maker) backendService(name, check, scheme, protocol, description string, groups []string) error {
	b := &compute.BackendService{Name: name, Description: description, LoadBalancingScheme: scheme, Protocol: protocol,
		HealthChecks: []string{host + check}}
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
	r := &compute.ForwardingRule{Name: name, LoadBalancingScheme: attributes["scheme"], NetworkTier: attributes["tier"],
		IPProtocol: attributes["protocol"], BackendService: host + "regions/" + Region + "/backendServices/" + service}
	switch ports := attributes["ports"]; {
	case ports == "all":
		r.AllPorts = true
	case strings.Contains(ports, "-"):
		r.PortRange = ports
	default:
		r.Ports = strings.Split(ports, ",")
	}
	if attributes["subnetwork"] != "" {
		r.Subnetwork = host + "regions/" + Region + "/subnetworks/" + attributes["subnetwork"]
	}
	if address != "" {
		r.IPAddress = host + "regions/" + Region + "/addresses/" + address
	}
	if attributes["family"] == "IPv6" {
		r.IpVersion = "IPV6"
	}
	if r.LoadBalancingScheme == "INTERNAL" {
		r.Network = host + "global/networks/" + Network
	}
	return m.wait(m.svc.ForwardingRules.Insert(Project, Region, r).Do())
}

func (m *maker) firewall(name, description string) error {
	return m.wait(m.svc.Firewalls.Insert(Project, &compute.Firewall{Name: name, Description: description, Network: host + "global/networks/" + Network,
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
		return m.firewall(name, "")
	}
	const other = "somebodys"
	service := other
	if r.Kind == gcp.KindBackendService {
		service = name
	}
	err = errors.Join(m.healthCheck(other), m.backendService(service, checkPath(other), r.Attributes["scheme"], "UNSPECIFIED", "", nil))
	if err == nil && r.Kind == gcp.KindForwardingRule {
		err = m.rule(name, service, "", r.Attributes)
	}
	return err
}

// planted is a balancer of somebody else's, where it is not as a Service asks for it.
type planted struct {
	// name of the backend service, and of the rest with something behind it; rule is that of the first rule, check the path of
	// the health check. Empty: the name, and one that is made with it.
	name, rule, check string
	description       string
	groups            []string // paths of what it sends to
	// reserved: its addresses are; else only the rules have them.
	reserved bool
	// single: it has no other rule than the first.
	single bool
}

// plant makes one, and returns the address of its first rule.
func (c *Cloud) plant(m *maker, desired []cloud.Resource, b planted) (address string, err error) {
	do := func(step error) { err = errors.Join(err, step) }
	if b.check == "" {
		b.check = checkPath(b.name)
		do(m.healthCheck(b.name))
	}
	for _, r := range desired {
		switch {
		case r.Kind == gcp.KindBackendService:
			do(m.backendService(b.name, b.check, r.Attributes["scheme"], protocolOf(desired), b.description, b.groups))
		case r.Kind == gcp.KindAddress && b.reserved:
			do(m.address(b.name+"-"+r.Key, r.Attributes))
		}
	}
	if b.rule == "" {
		b.rule = b.name
	}
	name := b.rule
	for i, r := range desired {
		if r.Kind != gcp.KindForwardingRule || b.single && name != b.rule {
			continue
		}
		reserved := ""
		if b.reserved {
			reserved = b.name + "-" + strings.ToLower(r.Attributes["family"])
		}
		do(m.rule(name, b.name, reserved, r.Attributes))
		name = fmt.Sprintf("%s-%d", b.rule, i)
	}
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	address, _ = c.objects["regions/"+Region+"/forwardingRules/"+b.rule].body["IPAddress"].(string)
	return address, nil
}

// protocolOf is that of a backend service for rules: theirs, as people and other controllers have it, where all have the same.
func protocolOf(desired []cloud.Resource) string {
	var protocol string
	for _, r := range desired {
		if r.Kind != gcp.KindForwardingRule || r.Attributes["protocol"] == protocol {
			continue
		}
		if protocol != "" || r.Attributes["protocol"] == "L3_DEFAULT" {
			return "UNSPECIFIED"
		}
		protocol = r.Attributes["protocol"]
	}
	return protocol
}

// asked is what a Service asks for, and who makes it otherwise.
func (c *Cloud) asked(spec *cloud.Spec) (*maker, []cloud.Resource, error) {
	m, err := c.maker()
	if err != nil {
		return nil, nil, err
	}
	desired, err := c.Provider().Desired(*spec)
	return m, desired, err
}

// plantBalancer makes what the Spec asks for under somebody else's names: by hand, with endpoint groups; or as the service
// controller of cloud-provider-gcp, with the instance groups of its cluster.
func (c *Cloud) plantBalancer(plant cloudtest.Plant) (string, error) {
	id, _, err := c.PlantBalancer(plant, true)
	return id, err
}

// PlantBalancer is what Harness has for that, with an address that is reserved, or that only rules have, which it returns, too. One that
// is not reserved and internal can have one rule.
func (c *Cloud) PlantBalancer(plant cloudtest.Plant, reserved bool) (id, address string, err error) {
	m, desired, err := c.asked(&plant.Spec)
	if err != nil {
		return "", "", err
	}
	return c.plantParts(m, desired, plant, reserved)
}

// PlantServiceController is PlantBalancer for what the service controller makes, which has one rule for all ports.
func (c *Cloud) PlantServiceController(spec *cloud.Spec) (id, address string, err error) {
	m, desired, err := c.asked(spec)
	if err != nil {
		return "", "", err
	}
	return c.plantParts(m, oneRule(desired, spec.Ports), cloudtest.Plant{Spec: *spec, MadeFor: true}, false)
}

func (c *Cloud) plantParts(m *maker, desired []cloud.Resource, plant cloudtest.Plant, reserved bool) (id, address string, err error) {
	b := planted{name: "hand-made-" + plant.Spec.Owner.Name, description: "made by hand, in test", reserved: reserved}
	if plant.AdoptableBy != "" {
		b.description += " fairlead.dev/adoptable-by=" + plant.AdoptableBy
	}
	if plant.MadeFor {
		b.name = ("a" + strings.ReplaceAll(plant.Spec.Owner.ServiceUID, "-", ""))[:32]
		err = errors.Join(m.firewall("k8s-fw-"+b.name, ""), m.firewall(b.name+"-hc", ""))
	}
	for _, r := range desired {
		switch {
		case r.Kind != gcp.KindEndpointGroup:
		case plant.MadeFor:
			c.AddInstanceGroup(r.Key, "k8s-ig--cluster")
			b.groups = append(b.groups, "zones/"+r.Key+"/instanceGroups/k8s-ig--cluster")
		default:
			var instances []string
			for _, t := range r.Targets {
				instances = append(instances, t.ID)
			}
			err = errors.Join(err, m.endpointGroup(r.Key, b.name, instances))
			b.groups = append(b.groups, "zones/"+r.Key+"/networkEndpointGroups/"+b.name)
		}
	}
	if err == nil {
		address, err = c.plant(m, desired, b)
	}
	return b.name, address, err
}

// PlantGKE makes what GKE's controller would make for the Service in the cluster: a backend service, a rule, a firewall, and what
// all balancers of GKE have, a global health check and its firewall. It returns the balancer's id and the address.
func (c *Cloud) PlantGKE(spec *cloud.Spec, clusterHash string) (id, address string, err error) {
	m, desired, err := c.asked(spec)
	if err != nil {
		return "", "", err
	}
	desired = oneRule(desired, spec.Ports)
	shared := "k8s2-" + clusterHash + "-l4-shared-hc"
	c.mu.Lock()
	c.give("global/healthChecks/"+shared, map[string]any{"type": "HTTP"})
	c.mu.Unlock()
	name := clusterHash + "-" + spec.Owner.Namespace + "-" + spec.Owner.Name + "-0a1b2c3d"
	b := planted{name: "k8s2-" + name, rule: "k8s2-tcp-" + name, check: "global/healthChecks/" + shared, single: true,
		description: `{"networking.gke.io/service-name":"` + spec.Owner.Namespace + "/" + spec.Owner.Name + `","networking.gke.io/api-version":"ga"}`}
	if err := errors.Join(m.firewall(b.name, b.description), m.firewall(shared+"-fw", `{"networking.gke.io/service-name":""}`)); err != nil {
		return "", "", err
	}
	address, err = c.plant(m, desired, b)
	return b.name, address, err
}

// oneRule has one rule in the place of all, for the protocol and the ports that it can name; for more, an external one has the range from the
// first to the last (kubernetes/ingress-gce, pkg/forwardingrules), else it is for all.
func oneRule(desired []cloud.Resource, ports []cloud.Port) []cloud.Resource {
	var protocols, numbers []string
	low, high, scheme := ports[0].Port, ports[0].Port, ""
	for _, port := range ports {
		protocols, numbers = append(protocols, port.Protocol), append(numbers, fmt.Sprint(port.Port))
		low, high = min(low, port.Port), max(high, port.Port)
	}
	for _, r := range desired {
		scheme = cmp.Or(scheme, r.Attributes["scheme"])
	}
	list, protocol := cloud.List(numbers), cloud.List(protocols)
	switch {
	case strings.Contains(protocol, ","):
		protocol, list = "L3_DEFAULT", "all"
	case len(numbers) > maxPorts && scheme == "EXTERNAL":
		list = fmt.Sprintf("%d-%d", low, high)
	case len(numbers) > maxPorts:
		list = "all"
	}
	var all []cloud.Resource
	rules := 0
	for _, r := range desired {
		if r.Kind == gcp.KindForwardingRule {
			if rules++; rules > 1 {
				continue
			}
			r.Attributes = maps.Clone(r.Attributes)
			r.Attributes["protocol"], r.Attributes["ports"] = protocol, list
		}
		all = append(all, r)
	}
	return all
}

// PlantWithoutAddress makes a balancer with one rule by hand, whose address nobody reserved. It returns its id and the address.
func (c *Cloud) PlantWithoutAddress(spec *cloud.Spec) (id, address string, err error) {
	m, desired, err := c.asked(spec)
	if err != nil {
		return "", "", err
	}
	b := planted{name: "hand-made-" + spec.Owner.Name, single: true}
	address, err = c.plant(m, desired, b)
	return b.name, address, err
}

// PlantRule makes an external balancer by hand that has one rule, of TCP, at a reserved address.
func (c *Cloud) PlantRule(name, address string, port int) error {
	m, err := c.maker()
	if err != nil {
		return err
	}
	attributes := map[string]string{"scheme": "EXTERNAL", "tier": "PREMIUM", "family": "IPv4", "protocol": "TCP", "ports": fmt.Sprint(port)}
	return errors.Join(m.healthCheck(name), m.backendService(name, checkPath(name), "EXTERNAL", "TCP", "", nil), m.rule(name, name, address, attributes))
}
