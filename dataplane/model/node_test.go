package model

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func addrs(values ...string) []netip.Addr {
	var out []netip.Addr
	for _, v := range values {
		out = append(out, addr(v))
	}
	return out
}

func TestNodePortAddresses(t *testing.T) {
	machine := []string{"127.0.0.1", "::1", "172.30.0.11", "192.168.7.1", "fd00:172:30::11", "203.0.113.5"}
	tests := map[string]struct {
		reason string
		policy []string
		want   NodePortAddresses
	}{
		"Default":        {"the Node's first InternalIP of each family", nil, NodePortAddresses{Addrs: addrs("172.30.0.11", "fd00:172:30::11")}},
		"Primary":        {"said so", []string{"primary"}, NodePortAddresses{Addrs: addrs("172.30.0.11", "fd00:172:30::11")}},
		"All":            {"said so", []string{"all"}, NodePortAddresses{AllIPv4: true, AllIPv6: true}},
		"Localhost":      {"loopback is never served", []string{"localhost"}, NodePortAddresses{}},
		"CIDR":           {"a family without a CIDR means all of it", []string{"192.168.0.0/16"}, NodePortAddresses{AllIPv6: true, Addrs: addrs("192.168.7.1")}},
		"Zero":           {"a CIDR that covers the family", []string{"0.0.0.0/0", "fd00::/8"}, NodePortAddresses{AllIPv4: true, Addrs: addrs("fd00:172:30::11")}},
		"LoopbackInCIDR": {"excluded from a CIDR too", []string{"127.0.0.0/8", "203.0.113.0/24", "::1/128"}, NodePortAddresses{Addrs: addrs("203.0.113.5")}},
		"PrimaryAndCIDR": {"both, none twice; primary speaks for IPv6", []string{"primary", "172.30.0.0/24", "192.168.7.1/32"}, NodePortAddresses{Addrs: addrs("172.30.0.11", "192.168.7.1", "fd00:172:30::11")}},
		"NoMatch":        {"no address of the machine is inside", []string{"10.0.0.0/8", "fc00::/16"}, NodePortAddresses{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			policy, err := ParseNodePortPolicy(tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			tracker := NewTracker(Options{NodePorts: policy})
			if err := tracker.SetNode(newNode()); err != nil {
				t.Fatal(err)
			}
			tracker.SetMachineAddresses(addrs(machine...))
			tracker.Changes()
			if diff := cmp.Diff(tc.want, tracker.State().Node.NodePorts, diffOptions); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	if _, err := ParseNodePortPolicy([]string{"10.0.0.0/8", "everywhere"}); err == nil || !strings.Contains(err.Error(), `"everywhere"`) {
		t.Errorf("error %v does not name the bad value", err)
	}
}

func serviceCIDR(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
}

func TestNode(t *testing.T) {
	tests := map[string]struct {
		opts Options
		want Node
	}{
		"ClusterCIDRs": {
			opts: testOptions,
			want: Node{LocalRanges: prefixes("10.244.0.0/16", "fd00:244::/56"), ServiceRanges: prefixes("10.96.0.0/12", "fd00:96::/112")},
		},
		"NodeCIDR": {
			opts: Options{LocalDetection: LocalDetection{NodeCIDR: true}},
			want: Node{LocalRanges: prefixes("10.244.1.0/24", "fd00:244:1::/64"), ServiceRanges: prefixes("10.96.0.0/12", "fd00:96::/112")},
		},
		"Interfaces": {
			opts: Options{LocalDetection: LocalDetection{InterfacePrefixes: []string{"veth", "cali", "veth"}}},
			want: Node{LocalInterfaces: []string{"cali*", "veth*"}, ServiceRanges: prefixes("10.96.0.0/12", "fd00:96::/112")},
		},
		"Coexist": {opts: Options{Coexist: true}, want: Node{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker(tc.opts)
			if err := tracker.SetNode(newNode()); err != nil {
				t.Fatal(err)
			}
			// Ranges that overlap are merged, since a kernel's interval set refuses them.
			for _, cidr := range []*networkingv1.ServiceCIDR{serviceCIDR("a", "10.96.0.0/16", "fd00:96::/112"), serviceCIDR("b", "10.96.0.0/12")} {
				if err := tracker.SetServiceCIDR(cidr); err != nil {
					t.Fatal(err)
				}
			}
			if !tracker.Changes().Node {
				t.Error("the node's facts are not reported as changed")
			}
			got := tracker.State().Node
			got.NodePorts = NodePortAddresses{}
			if diff := cmp.Diff(tc.want, got, diffOptions); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodeChanges(t *testing.T) {
	tracker := NewTracker(testOptions)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tracker.SetNode(newNode()))
	must(tracker.SetService(newService()))
	must(tracker.SetSlice(newSlice("s1", ep("10.244.1.5", "n1", forZone("zone-a")), ep("10.244.2.5", "n2", forZone("zone-b")))))
	must(tracker.SetServiceCIDR(serviceCIDR("kubernetes", "10.96.0.0/16")))
	tracker.Changes()

	heartbeat := newNode()
	heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	must(tracker.SetNode(heartbeat))
	must(tracker.SetServiceCIDR(serviceCIDR("kubernetes", "10.96.0.0/16")))
	if c := tracker.Changes(); !c.Empty() {
		t.Errorf("a heartbeat gave changes: %+v", c)
	}

	moved := newNode()
	moved.Labels[corev1.LabelTopologyZone] = "zone-b"
	must(tracker.SetNode(moved))
	c := tracker.Changes()
	if c.Node || len(c.Groups) != 1 || c.Groups[0].Endpoints[0].Addr.String() != "10.244.2.5:8080" {
		t.Errorf("after a move to zone-b: %+v; want one group with the endpoint for zone-b, and no change of the node", c)
	}

	tracker.DeleteServiceCIDR("kubernetes")
	if c := tracker.Changes(); !c.Node || len(tracker.State().Node.ServiceRanges) != 0 || len(c.Groups) != 0 {
		t.Errorf("after a ServiceCIDR went: %+v, ranges %v", c, tracker.State().Node.ServiceRanges)
	}

	other := NewTracker(Options{LocalDetection: LocalDetection{NodeCIDR: true}})
	late := newNode()
	late.Spec.PodCIDRs = nil
	must(other.SetNode(late))
	must(other.SetService(newService()))
	other.Changes()
	must(other.SetNode(newNode()))
	if c := other.Changes(); !c.Node || len(c.Frontends) != 1 || !c.Frontends[0].Masquerade.Outside {
		t.Errorf("after the node got its Pod ranges: %+v; want them, and the frontend that can tell Pods from others now", c)
	}

	broken := newNode()
	broken.Status.Addresses[2].Address = "nonsense"
	if err := tracker.SetNode(broken); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("error %v does not name the address", err)
	}
	if c := tracker.Changes(); !c.Node {
		t.Error("an address that went is no change")
	}
}
