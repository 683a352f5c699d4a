//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// The address of the client outside the cluster.
var outside = netip.MustParseAddr("203.0.113.10")

// TestPacketsClusterIP: one stable address, all Pods reached evenly, from a Pod, a node and by hairpin, in both
// families where the Service has both.
func TestPacketsClusterIP(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "nginx-clusterip.yaml")
	svc := ready(t, ns, "nginx-service", 3)
	backends := pods(t, ns, "app", "nginx")
	pod := podNS(t, netip.MustParseAddr(backends[0].Status.PodIP))
	to := addrPort(t, svc.Spec.ClusterIP, 80)
	for _, from := range []string{pod, nodeNS("n1"), nodeNS("n3")} {
		even(t, from, to, 3000, 3)
	}
	t.Run("Hairpin", func(t *testing.T) {
		own := netip.MustParseAddr(backends[0].Status.PodIP)
		seen := map[bool]bool{}
		for range 60 {
			a, err := get(pod, to)
			if err != nil {
				t.Fatal(err)
			}
			hairpin := a.Pod == backends[0].Name
			seen[hairpin] = true
			if masqueraded := clientAddr(t, a) != own; masqueraded != hairpin {
				t.Fatalf("answered by %s, which saw %s: a Pod's address is replaced where it reaches itself, and there alone", a.Pod, a.Client)
			}
		}
		if len(seen) != 2 {
			t.Errorf("60 connections never went both to the Pod itself and to others: %v", seen)
		}
	})
	t.Run("UnusedPort", func(t *testing.T) { refused(t, nodeNS("n1"), addrPort(t, svc.Spec.ClusterIP, 81)) })
	t.Run("Equal", func(t *testing.T) { sameEndpoints(t, ns, "nginx-service", 3) })
}

// sameEndpoints compares the Endpoints object with the slices: both are there, equal in content.
func sameEndpoints(t *testing.T, ns, name string, n int) {
	t.Helper()
	eventually(t, "an Endpoints object equal to the slices", func() error {
		found, err := endpoints(t.Context(), ns, name)
		if err != nil {
			return err
		}
		slice := map[string]string{}
		for _, e := range found[discoveryv1.AddressTypeIPv4] {
			slice[e.Addresses[0]] = fmt.Sprint(*e.NodeName, e.TargetRef.Name, e.TargetRef.UID)
		}
		object := &corev1.Endpoints{}
		if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, object); err != nil {
			return err
		}
		count := 0
		for _, s := range object.Subsets {
			for _, a := range s.Addresses {
				count++
				if got := fmt.Sprint(*a.NodeName, a.TargetRef.Name, a.TargetRef.UID); slice[a.IP] != got {
					return fmt.Errorf("%s is %q in Endpoints and %q in slices", a.IP, got, slice[a.IP])
				}
			}
		}
		if count != n || len(slice) != n {
			return fmt.Errorf("%d addresses in Endpoints, %d in slices, want %d", count, len(slice), n)
		}
		return nil
	})
}

// refused wants a refusal, at once and not by a time-out.
func refused(t *testing.T, ns string, to netip.AddrPort) {
	t.Helper()
	eventually(t, fmt.Sprintf("a refusal from %s to %s", ns, to), func() error {
		if _, err := get(ns, to); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}

// TestPacketsTwoPorts: both ports by name in slices, and each leads to its own target port.
func TestPacketsTwoPorts(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "internal-api.yaml")
	svc := service(t, ns, "internal-api")
	ready(t, ns, svc.Name, 2)
	portNames(t, ns, svc)
	for _, p := range svc.Spec.Ports {
		if a := served(t, nodeNS("n2"), addrPort(t, svc.Spec.ClusterIP, p.Port)); a.Port != int(p.TargetPort.IntVal) && p.TargetPort.IntVal != 0 {
			t.Errorf("port %s arrived at %d, want %s", p.Name, a.Port, p.TargetPort.String())
		}
	}
}

// portNames wants each port of a Service in its slices, by name.
func portNames(t *testing.T, ns string, svc *corev1.Service) {
	t.Helper()
	var slices discoveryv1.EndpointSliceList
	if err := cluster.List(t.Context(), &slices, client.InNamespace(ns), client.MatchingLabels{discoveryv1.LabelServiceName: svc.Name}); err != nil {
		t.Fatal(err)
	}
	if len(slices.Items) != len(svc.Spec.IPFamilies) {
		t.Errorf("%d slices, want one a family (%v)", len(slices.Items), svc.Spec.IPFamilies)
	}
	for _, s := range slices.Items {
		got := map[string]int32{}
		for _, p := range s.Ports {
			got[*p.Name] = *p.Port
		}
		for _, p := range svc.Spec.Ports {
			if _, ok := got[p.Name]; !ok {
				t.Errorf("slice %s has ports %v, without %s", s.Name, got, p.Name)
			}
		}
	}
}

// TestPacketsMultiPort: three ports, one set of slices.
func TestPacketsMultiPort(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "multi-port-service.yaml")
	svc := service(t, ns, "multi-port-service")
	ready(t, ns, svc.Name, 3)
	portNames(t, ns, svc)
	for port, target := range map[int32]int{80: 8080, 443: 8443, 9090: 9090} {
		to := addrPort(t, svc.Spec.ClusterIP, port)
		if target == 8443 { // plain TCP: the server answers whatever comes
			eventually(t, "plain TCP", func() error { return plainTCP(nodeNS("n1"), to) })
			continue
		}
		if a := served(t, nodeNS("n1"), to); a.Port != target {
			t.Errorf("port %d arrived at %d, want %d", port, a.Port, target)
		}
	}
}

func plainTCP(ns string, to netip.AddrPort) error {
	conn, err := dial(ns, "tcp", to)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return line(conn)
}

// line sends a line and wants something back.
func line(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1500))
	return err
}

// TestPacketsNodePort: any node's address from outside, the cluster IP from inside; ports that cannot be are refused
// in words.
func TestPacketsNodePort(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "webapp-nodeport.yaml")
	svc := ready(t, ns, "webapp-nodeport", 3)
	for _, addr := range nodeAddrs(t) {
		to := netip.AddrPortFrom(addr, 30080)
		even(t, internet, to, 3000, 3)
	}
	served(t, nodeNS("n1"), addrPort(t, svc.Spec.ClusterIP, svc.Spec.Ports[0].Port))
	for name, tc := range map[string]struct{ port, want string }{
		"OutOfRange": {"31", "The range of valid ports is 30000-32767"},
		"Taken":      {"30080", "provided port is already allocated"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := kubectl("create", "-n", ns, "service", "nodeport", "other", "--tcp=80:80", "--node-port="+tc.port)
			if err == nil || !strings.Contains(out, tc.want) {
				t.Errorf("answered %q, %v; want a refusal with %q", out, err, tc.want)
			}
		})
	}
}

func nodeAddrs(t *testing.T) []netip.Addr {
	t.Helper()
	var list corev1.NodeList
	if err := cluster.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != len(nodes) {
		t.Fatalf("%d nodes, want %d", len(list.Items), len(nodes))
	}
	var addrs []netip.Addr
	for _, n := range list.Items {
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && ip.Is4() {
				addrs = append(addrs, ip)
			}
		}
	}
	return addrs
}

// balancer waits for the address of a LoadBalancer Service.
func balancer(t *testing.T, ns, name string) netip.AddrPort {
	t.Helper()
	var to netip.AddrPort
	eventually(t, "a balancer address of "+name, func() error {
		svc := service(t, ns, name)
		for _, i := range svc.Status.LoadBalancer.Ingress {
			if ip, err := netip.ParseAddr(i.IP); err == nil && ip.Is4() {
				to = netip.AddrPortFrom(ip, uint16(svc.Spec.Ports[0].Port))
				return nil
			}
		}
		return errors.New("none in status")
	})
	return to
}

// TestPacketsLoadBalancerCluster: reached from outside, from a node and from a Pod; the client's address is replaced.
func TestPacketsLoadBalancerCluster(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "webapp-lb-cluster.yaml")
	svc := ready(t, ns, "webapp-lb-cluster", 3)
	to := balancer(t, ns, svc.Name)
	if a := served(t, internet, to); clientAddr(t, a) == outside {
		t.Errorf("the Pod saw the client's own address under policy Cluster")
	}
	even(t, internet, to, 3000, 3)
	backend := pods(t, ns, "app", "webapp")[0]
	for _, from := range []string{nodeNS("n1"), podNS(t, netip.MustParseAddr(backend.Status.PodIP))} {
		even(t, from, to, 3000, 3)
	}
}

// TestPacketsLoadBalancerLocal: the Pod sees the client's own address, and only nodes with a Pod get connections.
func TestPacketsLoadBalancerLocal(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "webapp-lb-local.yaml")
	svc := ready(t, ns, "webapp-lb-local", 3)
	to := balancer(t, ns, svc.Name)
	served(t, internet, to)
	for range 50 {
		a, err := get(internet, to)
		if err != nil {
			t.Fatal(err)
		}
		if got := clientAddr(t, a); got != outside {
			t.Fatalf("the Pod saw %s, want the client's own address %s", got, outside)
		}
	}
}

// TestPacketsNoEndpoints: nobody serves, so the client is told at once.
func TestPacketsNoEndpoints(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, `
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  type: NodePort
  selector: {app: nobody}
  ports: [{port: 80}]
`)
	svc := service(t, ns, "nobody")
	refused(t, nodeNS("n2"), addrPort(t, svc.Spec.ClusterIP, 80))
	refused(t, internet, netip.AddrPortFrom(nodeAddrs(t)[0], uint16(svc.Spec.Ports[0].NodePort)))
}

// TestPacketsDualStackUDP: both families and both protocols of one Service.
func TestPacketsDualStackUDP(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: dual}
spec:
  replicas: 3
  selector: {matchLabels: {app: dual}}
  template:
    metadata: {labels: {app: dual}}
    spec:
      containers:
      - name: c
        image: nginx
        ports: [{containerPort: 80, name: http}, {containerPort: 5353, protocol: UDP, name: talk}]
---
apiVersion: v1
kind: Service
metadata: {name: dual}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: dual}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: talk, port: 53, targetPort: talk, protocol: UDP}
`)
	svc := ready(t, ns, "dual", 3)
	for _, ip := range svc.Spec.ClusterIPs {
		to := addrPort(t, ip, 80)
		even(t, nodeNS("n1"), to, 900, 3)
		eventually(t, "an answer by UDP from "+ip, func() error {
			conn, err := dial(nodeNS("n1"), "udp", addrPort(t, ip, 53))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			return line(conn)
		})
	}
}

// TestPacketsZone: trafficDistribution keeps traffic in the client's zone.
func TestPacketsZone(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "topology-aware-service.yaml")
	svc := service(t, ns, "topology-aware-service")
	ready(t, ns, svc.Name, 6)
	to := addrPort(t, svc.Spec.ClusterIP, svc.Spec.Ports[0].Port)
	for node, zone := range map[string]string{"n1": "zone-a", "n2": "zone-a", "n3": "zone-b"} {
		eventually(t, "traffic from "+node+" stays in "+zone, func() error {
			for range 50 {
				a, err := get(nodeNS(node), to)
				if err != nil {
					return err
				}
				if a.Zone != zone {
					return fmt.Errorf("answered from %s", a.Zone)
				}
			}
			return nil
		})
	}
}

// TestPacketsLocalOneNode: with policy Local only the Pod's node is healthy to the balancer and answers; the others drop,
// so that a client tries elsewhere, and the balancer sends every connection to the one.
func TestPacketsLocalOneNode(t *testing.T) {
	ns := namespace(t)
	sample, err := os.ReadFile(filepath.Join(samples, "webapp-lb-local.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// One from the start: Pods that are scaled away serve their nodes until they have ended.
	apply(t, ns, strings.Replace(string(sample), "replicas: 3", "replicas: 1", 1))
	svc := ready(t, ns, "webapp-lb-local", 1)
	home := pods(t, ns, "app", "webapp-local")[0].Spec.NodeName
	for i, node := range nodes {
		url := fmt.Sprintf("http://%s:%d/healthz", nodeAddrs(t)[i], svc.Spec.HealthCheckNodePort)
		want := "503"
		if node == home {
			want = "200"
		}
		eventually(t, node+" says "+want, func() error {
			return network.Enter("fl-cloud", func() error {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				err := httpOK(ctx, url)
				if (err == nil) != (want == "200") || err != nil && !strings.Contains(err.Error(), want) {
					return fmt.Errorf("%s said %w", url, err)
				}
				return nil
			})
		})
	}
	to := balancer(t, ns, svc.Name)
	// Until the Pod was ready no node was healthy, and a balancer then sends to all.
	eventually(t, "every connection goes to the Pod's node", func() error {
		for range 50 {
			if a, err := get(internet, to); err != nil || a.Node != home || clientAddr(t, a) != outside {
				return fmt.Errorf("answered by %+v, %w; want the Pod on %s to see %s", a, err, home, outside)
			}
		}
		return nil
	})
	for i, addr := range nodeAddrs(t) {
		if nodes[i] == home {
			continue
		}
		err := network.Enter(internet, func() error {
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, uint16(svc.Spec.Ports[0].NodePort)).String(), time.Second)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		if silent := net.Error(nil); !errors.As(err, &silent) || !silent.Timeout() {
			t.Errorf("the node port of %s: %v, want no answer", nodes[i], err)
		}
	}
}

// TestPacketsOwnEndpoints: a Service without a selector leads to the addresses that somebody wrote for it.
func TestPacketsOwnEndpoints(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "nginx-clusterip.yaml")
	ready(t, ns, "nginx-service", 3)
	target := pods(t, ns, "app", "nginx")[0]
	apply(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec:
  ports: [{port: 8000, targetPort: 80}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: by-hand}
subsets:
- addresses: [{ip: %s}]
  ports: [{port: 80}]
`, target.Status.PodIP))
	if a := served(t, nodeNS("n3"), addrPort(t, service(t, ns, "by-hand").Spec.ClusterIP, 8000)); a.Pod != target.Name {
		t.Errorf("answered by %s, want %s", a.Pod, target.Name)
	}
}
