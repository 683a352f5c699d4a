//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// zoned is a Service with topology mode Auto. Its Pods are bare, so that nobody puts another where one goes.
const zoned = `
apiVersion: v1
kind: Service
metadata:
  name: zoned
  annotations: {service.kubernetes.io/topology-mode: Auto}
spec:
  selector: {app: zoned}
  ports: [{port: 80}]
`

// podOn is a Pod on a node that goes on serving for a few seconds after its deletion.
func podOn(name, node string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: zoned}}
spec:
  nodeName: %s
  containers:
  - name: c
    image: nginx
    ports: [{containerPort: 80}]
    readinessProbe: {httpGet: {path: /healthz, port: 80}, periodSeconds: 1}
    lifecycle: {preStop: {sleep: {seconds: 3}}}
`, name, node)
}

// zones returns the nodes of the playground's two zones: the one with two nodes, and the one with one.
func zones(t *testing.T) (large, small []string) {
	t.Helper()
	var list corev1.NodeList
	if err := cluster.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	byZone := map[string][]string{}
	for _, n := range list.Items {
		byZone[n.Labels[corev1.LabelTopologyZone]] = append(byZone[n.Labels[corev1.LabelTopologyZone]], n.Name)
	}
	for _, names := range byZone {
		if len(names) == 2 {
			large = names
		} else {
			small = names
		}
	}
	if len(byZone) != 2 || len(large) != 2 || len(small) != 1 {
		t.Fatalf("the zones are %v, want two nodes in one and one in the other", byZone)
	}
	return large, small
}

// newZoned makes the Service with so many Pods in the zone of two nodes, on each in turn, and in the other.
func newZoned(t *testing.T, ns string, large, small []string, inLarge, inSmall int) *corev1.Service {
	t.Helper()
	manifest := zoned
	for i := range inLarge {
		manifest += "---" + podOn(fmt.Sprintf("large-%d", i), large[i%2])
	}
	for i := range inSmall {
		manifest += "---" + podOn(fmt.Sprintf("small-%d", i), small[0])
	}
	apply(t, ns, manifest)
	return ready(t, ns, "zoned", inLarge+inSmall)
}

// hinted waits until the Service has the condition, and every ready endpoint of it a hint.
func hinted(t *testing.T, ns string, n int) {
	t.Helper()
	eventually(t, "hints", func() error {
		found, err := endpoints(t.Context(), ns, "zoned")
		if err != nil {
			return err
		}
		ready := found[discoveryv1.AddressTypeIPv4]
		for _, e := range ready {
			if e.Hints == nil || len(e.Hints.ForZones) != 1 {
				return fmt.Errorf("%s has %+v", e.TargetRef.Name, e.Hints)
			}
		}
		c := meta.FindStatusCondition(service(t, ns, "zoned").Status.Conditions, v1alpha1.ConditionTopologyHints)
		if len(ready) != n || c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%d endpoints, condition %+v", len(ready), c)
		}
		return nil
	})
}

// TestPacketsTopology: connections counted from each zone agree with the shares that the manager reports. Of five Pods
// two are in the zone of two nodes, which has two thirds of the clients and needs three.
func TestPacketsTopology(t *testing.T) {
	ns := namespace(t)
	large, small := zones(t)
	svc := newZoned(t, ns, large, small, 2, 3)
	hinted(t, ns, 5)
	to := addrPort(t, svc.Spec.ClusterIP, 80)
	var crossZone, overload float64
	ask := asScraper(t, ns)
	// A node that has just come may have its first taint still.
	eventually(t, "every node's clients in the report", func() (err error) {
		if crossZone, err = reported(ns, ask, "cross_zone_ratio"); err != nil {
			return err
		}
		if overload, err = reported(ns, ask, "overload_ratio"); err != nil {
			return err
		}
		if math.Abs(crossZone-2.0/9) > 1e-3 || math.Abs(overload-1.0/9) > 1e-3 {
			return fmt.Errorf("reported are %f and %f, want 2/9 and 1/9", crossZone, overload)
		}
		return nil
	})
	// Every node has as many clients, as its CPU is alike.
	const each = 2000
	crossed, total, counts, forLarge := 0, 0, map[string]int{}, map[string]bool{}
	for _, node := range append(large, small...) {
		serving := 3
		if node == small[0] {
			serving = 2
		}
		served(t, nodeNS(node), to)
		eventually(t, "hints on "+node, func() error {
			if pods := spread(t, nodeNS(node), to, 100); len(pods) != serving {
				return fmt.Errorf("%v answer", pods)
			}
			return nil
		})
		from := spread(t, nodeNS(node), to, each)
		for pod, n := range from {
			total += n
			counts[pod] += n
			forLarge[pod] = forLarge[pod] || node != small[0]
			if strings.HasPrefix(pod, "large") == (node == small[0]) {
				crossed += n
			}
		}
		if node != small[0] {
			if p := chiSquare(from); p < 1e-6 {
				t.Errorf("from %s it is not even: %v, p = %.3g", node, from, p)
			}
		}
	}
	agrees(t, "connections that crossed zones", crossed, total, crossZone)
	for pod, n := range counts {
		share := 1.0 / 3 / 2
		if forLarge[pod] { // These have the most.
			share = (1 + overload) / 5
		}
		agrees(t, "connections of "+pod, n, total, share)
	}
}

// agrees fails where a chi-square test, of one degree of freedom, says that so many of total are not a share of it: p
// below 1e-6.
func agrees(t *testing.T, what string, n, total int, share float64) {
	t.Helper()
	want := share * float64(total)
	d := float64(n) - want
	x := d*d/want + d*d/(float64(total)-want)
	p := math.Erfc(math.Sqrt(x / 2))
	t.Logf("%s: %d of %d, want %.0f, p = %.3g", what, n, total, want, p)
	if p < 1e-6 {
		t.Errorf("%s: %d of %d are not %.4f, p = %.3g", what, n, total, share, p)
	}
}

// asScraper returns the token of an account that may read the manager's metrics, until the test ends.
func asScraper(t *testing.T, ns string) (token string) {
	t.Helper()
	binding := "scraper-" + ns
	for _, args := range [][]string{
		{"create", "serviceaccount", "-n", ns, "scraper"},
		{"create", "clusterrolebinding", binding, "--clusterrole=fairlead-metrics-reader", "--serviceaccount=" + ns + ":scraper"},
	} {
		if _, err := kubectl(args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := kubectl("delete", "clusterrolebinding", binding); err != nil {
			t.Error(err)
		}
	})
	token, err := kubectl("create", "token", "-n", ns, "scraper")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(token)
}

// reported asks the manager for a figure of the Service.
func reported(ns, token, figure string) (float64, error) {
	conn, err := dial(network.RootName, "tcp", netip.MustParseAddrPort("127.0.0.1:8443"))
	if err != nil {
		return 0, err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // Its certificate is signed by itself.
	defer func() { _ = secure.Close() }()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://127.0.0.1:8443/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if err := request.Write(secure); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(secure), request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	name := fmt.Sprintf(`fairlead_topology_%s{namespace=%q,service="zoned"} `, figure, ns)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("status %s, and no figure %s", response.Status, figure)
}

// TestPacketsZoneEmptied: a zone that loses its last endpoint is served by the other, without a connection that fails.
func TestPacketsZoneEmptied(t *testing.T) {
	ns := namespace(t)
	large, small := zones(t)
	svc := newZoned(t, ns, large, small, 2, 1)
	hinted(t, ns, 3)
	to := addrPort(t, svc.Spec.ClusterIP, 80)
	near, far := source{nodeNS(small[0]), to}, source{nodeNS(large[0]), to}
	served(t, far.ns, to)
	eventually(t, "the zone's own Pod", func() error {
		if a, err := get(near.ns, to); err != nil || a.Pod != "small-0" {
			return fmt.Errorf("%s answers (%w)", a.Pod, err)
		}
		return nil
	})
	all := []source{near, far}
	before := retransmitted(t, all)
	l := begin(220, all...)
	l.reach(t, 200)
	if _, err := kubectl("delete", "pod", "-n", ns, "small-0", "--wait=false"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an end of the zone's Pod", func() error {
		if left := pods(t, ns, "app", "zoned"); len(left) != 2 {
			return fmt.Errorf("%d Pods", len(left))
		}
		_, err := kubectl("get", "pod", "-n", ns, "small-0")
		if err == nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	l.reach(t, l.soFar()+200)
	lost(t, l, 200, before, all)
	hinted(t, ns, 2)

	// One that comes again is its zone's again.
	apply(t, ns, podOn("small-1", small[0]))
	ready(t, ns, "zoned", 3)
	hinted(t, ns, 3)
	eventually(t, "the zone's own Pod", func() error {
		if a, err := get(near.ns, to); err != nil || a.Pod != "small-1" {
			return fmt.Errorf("%s answers (%w)", a.Pod, err)
		}
		return nil
	})
}
