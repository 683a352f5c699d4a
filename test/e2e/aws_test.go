//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// amazon is the emulated account, as its owner's SDK sees it.
var amazon = aws.Config{Region: "eu-north-1", BaseEndpoint: aws.String("http://" + network.Amazon), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}

// onAmazon has the Services of a manifest be of the class of network load balancers.
func onAmazon(t *testing.T, sample string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(samples, sample))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "  type: LoadBalancer\n", "  type: LoadBalancer\n  loadBalancerClass: service.k8s.aws/nlb\n", 1)
	if changed == string(text) {
		t.Fatalf("%s has no LoadBalancer", sample)
	}
	return changed
}

// nlb is a network load balancer in the account.
type nlb struct {
	types.LoadBalancer
	attributes map[string]string
	group      types.TargetGroup
	// zones by address.
	zones map[netip.Addr]string
}

// described waits for a Service's balancer and reads it through the SDK.
func described(t *testing.T, ns, name string) nlb {
	t.Helper()
	var b nlb
	client := elb.NewFromConfig(amazon)
	eventually(t, "a network load balancer of "+name, func() error {
		in := service(t, ns, name).Status.LoadBalancer.Ingress
		if len(in) != 1 || in[0].Hostname == "" || in[0].IP != "" {
			return fmt.Errorf("status has %+v", in)
		}
		out, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(out.LoadBalancers, func(one types.LoadBalancer) bool { return *one.DNSName == in[0].Hostname })
		if i < 0 {
			return fmt.Errorf("none has the name %s", in[0].Hostname)
		}
		b.LoadBalancer = out.LoadBalancers[i]
		groups, err := client.DescribeTargetGroups(t.Context(), &elb.DescribeTargetGroupsInput{LoadBalancerArn: b.LoadBalancerArn})
		if err != nil {
			return err
		}
		if n := len(groups.TargetGroups); n != 1 {
			return fmt.Errorf("it has %d target groups", n)
		}
		b.group = groups.TargetGroups[0]
		return nil
	})
	attributes, err := client.DescribeLoadBalancerAttributes(t.Context(), &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: b.LoadBalancerArn})
	if err != nil {
		t.Fatal(err)
	}
	b.attributes, b.zones = map[string]string{}, map[netip.Addr]string{}
	for _, a := range attributes.Attributes {
		b.attributes[*a.Key] = *a.Value
	}
	interfaces, err := ec2.NewFromConfig(amazon).DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces.NetworkInterfaces {
		if !strings.HasSuffix(*b.LoadBalancerArn, strings.TrimPrefix(*i.Description, "ELB ")) {
			continue
		}
		text := aws.ToString(i.PrivateIpAddress)
		if i.Association != nil {
			text = aws.ToString(i.Association.PublicIp)
		}
		b.zones[netip.MustParseAddr(text)] = *i.AvailabilityZone
	}
	return b
}

// resolve asks the account for the addresses of a balancer's name.
func resolve(b nlb) ([]netip.Addr, error) {
	response, err := http.Get("http://" + network.Amazon + "/names/" + *b.DNSName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	var addresses []netip.Addr
	return addresses, json.NewDecoder(response.Body).Decode(&addresses)
}

// healthy waits until exactly these nodes pass the balancer's health check, by what the account says.
func (b nlb) healthy(t *testing.T, want []string) {
	t.Helper()
	names := map[string]string{}
	for _, n := range network.Nodes() {
		names[n.Instance()] = n.Name
	}
	eventually(t, fmt.Sprintf("%q healthy, and no other", want), func() error {
		out, err := elb.NewFromConfig(amazon).DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: b.group.TargetGroupArn})
		if err != nil {
			return err
		}
		states := map[string]types.TargetHealthStateEnum{}
		expected := map[string]types.TargetHealthStateEnum{}
		for _, d := range out.TargetHealthDescriptions {
			states[names[*d.Target.Id]] = d.TargetHealth.State
		}
		for _, n := range nodes {
			expected[n] = types.TargetHealthStateEnumUnhealthy
			if slices.Contains(want, n) {
				expected[n] = types.TargetHealthStateEnumHealthy
			}
		}
		if !maps.Equal(states, expected) {
			return fmt.Errorf("targets are %v", states)
		}
		return nil
	})
}

// homes are the nodes that have a Pod, sorted.
func homes(pods []corev1.Pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Spec.NodeName)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// answering waits until connections to an address are answered by all of these nodes' Pods, and by no others, and returns
// the addresses of clients that those saw.
func answering(t *testing.T, from string, to netip.AddrPort, want []string) []netip.Addr {
	t.Helper()
	var seen []netip.Addr
	eventually(t, fmt.Sprintf("answers from %q to %s at %s", want, from, to), func() error {
		found := map[string]bool{}
		seen = nil
		for range 40 {
			a, err := get(from, to)
			if err != nil {
				return err
			}
			found[a.Node] = true
			seen = append(seen, clientAddr(t, a))
		}
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
			return fmt.Errorf("%q answered", got)
		}
		return nil
	})
	slices.SortFunc(seen, netip.Addr.Compare)
	return slices.Compact(seen)
}

// TestPacketsAmazon: what guides show of network load balancers, on the emulated AWS, which drives the playground's
// forwarders: the manager calls it through the SDK, with credentials, region and VPC from the metadata of its machine.
func TestPacketsAmazon(t *testing.T) {
	class := filepath.Join(samples, "../overlays/aws/class.yaml")
	if out, err := kubectl("apply", "-f", class); err != nil {
		t.Fatal(err, out)
	}
	t.Cleanup(func() {
		if _, err := kubectl("delete", "--wait=false", "-f", class); err != nil {
			t.Error(err)
		}
	})
	four, six := namespace(t), namespace(t)
	// With two Pods there is a node that has none.
	two := func(manifest string) string { return strings.Replace(manifest, "replicas: 3", "replicas: 2", 1) }
	local := two(onAmazon(t, "webapp-lb.yaml"))
	apply(t, four, two(onAmazon(t, "webapp-loadbalancer.yaml")))
	apply(t, four, local)
	apply(t, six, strings.Replace(local, "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", 1))
	for ns, name := range map[string]string{four: "webapp-loadbalancer", six: "webapp-lb"} {
		ready(t, ns, name, 2)
	}
	ready(t, four, "webapp-lb", 2)

	t.Run("Local", func(t *testing.T) {
		b := described(t, four, "webapp-loadbalancer")
		if b.Type != types.LoadBalancerTypeEnumNetwork || b.Scheme != types.LoadBalancerSchemeEnumInternetFacing {
			t.Errorf("it is %s, %s", b.Type, b.Scheme)
		}
		with := homes(pods(t, four, "app", "webapp-loadbalancer"))
		b.healthy(t, with)
		var addresses []netip.Addr
		inZone := map[string][]string{}
		for _, n := range network.Nodes() {
			if slices.Contains(with, n.Name) {
				inZone[n.Zone] = append(inZone[n.Zone], n.Name)
			}
		}
		eventually(t, "the addresses of zones with a healthy node", func() (err error) {
			if addresses, err = resolve(b); err == nil && len(addresses) != len(inZone) {
				err = fmt.Errorf("the name has %v", addresses)
			}
			return err
		})
		for _, address := range addresses { // each sends to its own zone
			seen := answering(t, internet, netip.AddrPortFrom(address, 80), inZone[b.zones[address]])
			if !slices.Equal(seen, []netip.Addr{outside}) {
				t.Errorf("Pods saw clients %v, want the client's own address %s", seen, outside)
			}
		}
	})
	t.Run("Internal", func(t *testing.T) {
		b := described(t, four, "webapp-lb")
		if b.Scheme != types.LoadBalancerSchemeEnumInternal || b.attributes["load_balancing.cross_zone.enabled"] != "true" {
			t.Errorf("it is %s with %v", b.Scheme, b.attributes)
		}
		with := homes(pods(t, four, "app", "webapp-lb"))
		b.healthy(t, with)
		if len(b.zones) != 2 {
			t.Fatalf("it has addresses %v", b.zones)
		}
		for address := range b.zones { // each sends to both zones
			answering(t, network.RootName, netip.AddrPortFrom(address, 80), with)
			err := network.Enter(internet, func() error {
				conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(address, 80).String(), time.Second)
				if err == nil {
					_ = conn.Close()
				}
				return err
			})
			if silent := net.Error(nil); !errors.As(err, &silent) || !silent.Timeout() {
				t.Errorf("from the internet %s says %v, want no answer", address, err)
			}
		}
	})
	t.Run("Cluster", func(t *testing.T) {
		b := described(t, six, "webapp-lb")
		with := homes(pods(t, six, "app", "webapp-lb"))
		b.healthy(t, nodes) // those without a Pod pass on
		client := netip.MustParseAddr(network.APIServer)
		for address := range b.zones {
			for _, seen := range answering(t, network.RootName, netip.AddrPortFrom(address, 80), with) {
				if seen == client || seen == netip.MustParseAddr("172.30.0.254") {
					t.Errorf("a Pod saw %s: the address is to be replaced by that of a node that it came through", seen)
				}
			}
		}
	})
	t.Run("Gone", func(t *testing.T) {
		for ns, name := range map[string]string{four: "webapp-loadbalancer", six: "webapp-lb"} {
			if _, err := kubectl("delete", "service", "-n", ns, name, "--wait=false"); err != nil {
				t.Error(err)
			}
		}
		if _, err := kubectl("delete", "service", "-n", four, "webapp-lb", "--wait=false"); err != nil {
			t.Error(err)
		}
		eventually(t, "nothing in the account", func() error {
			balancers, err := elb.NewFromConfig(amazon).DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
			if err != nil {
				return err
			}
			groups, err := elb.NewFromConfig(amazon).DescribeTargetGroups(t.Context(), &elb.DescribeTargetGroupsInput{})
			if err != nil {
				return err
			}
			security, err := ec2.NewFromConfig(amazon).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{})
			if err != nil {
				return err
			}
			if n := len(balancers.LoadBalancers) + len(groups.TargetGroups) + len(security.SecurityGroups); n > 0 {
				return fmt.Errorf("%d balancers and groups are left", n)
			}
			return nil
		})
	})
}
