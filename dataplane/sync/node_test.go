package sync

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/dataplane/model"
)

// hinted is a slice whose endpoints are each for one zone.
func hinted(name, service string, zones map[string]string) *discoveryv1.EndpointSlice {
	s := endpointSlice(name, service)
	for ip, zone := range zones {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}})
	}
	return s
}

// TestNodeChanges: labels, addresses and Pod ranges of the Node act when they come, whatever was there before, and a
// Node that is deleted and made again is followed. kube-proxy exits on each of these but the first.
func TestNodeChanges(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	server.put("endpointslices", hinted("web-1", "web", map[string]string{"10.244.1.1": "zone-a", "10.244.2.1": "zone-b", "10.244.3.1": "zone-b"}))
	bare := node("")
	delete(bare.Labels, corev1.LabelTopologyZone)
	server.put("nodes", bare)
	r := start(t, server, func(o *Options) { o.Model.LocalDetection.NodeCIDR, o.Grace = true, 50*time.Millisecond })
	address := func(want string) func() bool {
		return func() bool { return slices.Equal(r.node.NodePorts.Addrs, []netip.Addr{netip.MustParseAddr(want)}) }
	}
	r.eventually(t, "without a zone every endpoint serves", func() bool { return r.endpoints == 3 })
	r.eventually(t, "the node's address", address("172.30.0.11"))
	if ranges := see(r, func() int { return len(r.node.LocalRanges) }); ranges != 0 {
		t.Fatalf("%d Pod ranges before the Node has any", ranges)
	}

	zoned := node("zone-a")
	server.put("nodes", zoned)
	r.eventually(t, "the zone's endpoint, once the label is there", func() bool { return r.endpoints == 1 })
	zoned = node("zone-b")
	zoned.Spec.PodCIDRs = []string{"10.244.1.0/24"}
	server.put("nodes", zoned)
	r.eventually(t, "the other zone's two, and the Pod range", func() bool {
		return r.endpoints == 2 && slices.Equal(r.node.LocalRanges, []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")})
	})
	moved := zoned.DeepCopy()
	moved.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.30.0.99"}}
	server.put("nodes", moved)
	r.eventually(t, "the new address", address("172.30.0.99"))

	server.remove("nodes", "", "n1")
	r.eventually(t, "the Node gone", func() bool { return r.nodeGone })
	if told := see(r, func() int {
		return strings.Count(strings.Join(r.log, "\n"), "another name, start the agent anew with that as --node-name")
	}); told != 1 {
		t.Errorf("told %d times what to do where the Node got another name", told)
	}
	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "changes while there is no Node", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	if !see(r, address("172.30.0.99")) {
		t.Error("the address went with the Node; packets still come")
	}
	again := node("zone-a")
	again.UID = "another"
	again.Spec.PodCIDRs = []string{"10.244.7.0/24"}
	server.put("nodes", again)
	r.eventually(t, "all of the Node that was made again", func() bool {
		return !r.nodeGone && address("172.30.0.11")() && r.endpoints == 1 &&
			slices.Equal(r.node.LocalRanges, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")})
	})
	for i, s := range see(r, func() []recorded { return slices.Clone(r.syncs[1:]) }) {
		if s.full {
			t.Errorf("sync %d was a full one without need", i+1)
		}
	}
}

// TestPodCIDRsLate: where Pods are told by the Node's ranges, rules of a former run stay for a while until these are
// there.
func TestPodCIDRsLate(t *testing.T) {
	r := &recorder{}
	l := New(Options{Backend: r, Observer: r, Model: model.Options{LocalDetection: model.LocalDetection{NodeCIDR: true}}})
	l.addresses = true
	nodes := nodeStore(l)
	for _, store := range []cache.ReflectorStore{serviceStore(l), sliceStore(l), cidrStore(l), nodes} {
		if err := store.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	n := node("zone-a")
	if err := nodes.Add(n); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if wait := l.missing(now); wait != defaultGrace {
		t.Errorf("waits %v for the Node's podCIDRs, want %v", wait, defaultGrace)
	}
	n = n.DeepCopy()
	n.Spec.PodCIDR = "10.244.1.0/24"
	if err := nodes.Update(n); err != nil {
		t.Fatal(err)
	}
	if wait := l.missing(now); wait != 0 {
		t.Errorf("waits %v though the podCIDR is there", wait)
	}
}

// TestNodePortUse: what node ports there are is told when it changes, and not at every pass.
func TestNodePortUse(t *testing.T) {
	server := newAPIServer(t)
	nodePort := func(name string, ip string, port int32) *corev1.Service {
		s := service(name, ip)
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = port
		return s
	}
	server.put("nodes", node("zone-a"))
	server.put("services", nodePort("web", "10.96.0.1", 30080))
	r := start(t, server, func(o *Options) { o.FullInterval = 50 * time.Millisecond })
	// last is what was told last, in any Result.
	var told int
	last := func() []NodePort {
		var out []NodePort
		told = 0
		for _, result := range r.results {
			if result.NodePortUse != nil {
				out = result.NodePortUse
				told++
			}
		}
		return out
	}
	ports := func(want ...int) func() bool {
		return func() bool {
			var got []int
			for _, p := range last() {
				if p.Family != 4 || p.Protocol != model.TCP || p.Service.Namespace != metav1.NamespaceDefault {
					t.Errorf("told %+v", p)
				}
				got = append(got, int(p.Port))
			}
			return slices.Equal(got, want)
		}
	}
	r.eventually(t, "the node port", ports(30080))
	server.put("services", nodePort("api", "10.96.0.2", 30070))
	r.eventually(t, "a second one", ports(30070, 30080))
	before := see(r, func() int { last(); return told })
	server.put("services", service("plain", "10.96.0.3"))
	r.eventually(t, "full passes that change no node port", func() bool {
		full := 0
		for _, s := range r.syncs {
			if s.full {
				full++
			}
		}
		return full > 3 && slices.Contains(r.frontends, "10.96.0.3:80")
	})
	if after := see(r, func() int { last(); return told }); after != before {
		t.Errorf("told %d times, want %d: nothing changed", after, before)
	}
	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "the second one gone", ports(30080))
	server.remove("services", "default", "web")
	r.eventually(t, "none left", func() bool { return last() != nil && ports()() })
}

// TestTellsOfAddresses: a Node without addresses, and Services that ask for one address, are told once, and when it is over.
func TestTellsOfAddresses(t *testing.T) {
	server := newAPIServer(t)
	bare := node("zone-a")
	bare.Status.Addresses = nil
	server.put("nodes", bare)
	for i, name := range []string{"a", "b"} {
		s := service(name, fmt.Sprintf("10.96.0.%d", i+1))
		s.Spec.ExternalIPs = []string{"203.0.113.9"}
		server.put("services", s)
	}
	r := start(t, server)
	lines := func(words ...string) func() int {
		return func() (n int) {
			for _, line := range r.log {
				if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
					n++
				}
			}
			return n
		}
	}
	conflict := lines("Several Services", "203.0.113.9:80/TCP", "default/a", "default/b")
	unreachable := lines("on no address", "status.addresses")
	r.eventually(t, "both are told", func() bool { return conflict() == 1 && unreachable() == 1 })
	server.put("services", service("c", "10.96.0.3"))
	r.eventually(t, "another change", r.serves("10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80", "203.0.113.9:80"))
	server.put("nodes", node("zone-a"))
	r.eventually(t, "the Node's address", func() bool { return len(r.node.NodePorts.Addrs) == 1 })
	server.remove("services", "default", "a")
	r.eventually(t, "the end of the conflict", func() bool { return lines("One Service alone", "203.0.113.9:80/TCP", "default/b")() == 1 })
	if c, u := see(r, conflict), see(r, unreachable); c != 1 || u != 1 {
		t.Errorf("told %d times of the conflict, %d times of the address", c, u)
	}
	server.put("nodes", bare.DeepCopy())
	r.eventually(t, "told again", func() bool { return unreachable() == 2 })
}
