//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// byHand is a Service whose slice the test writes.
const byHand = `
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec:
  type: LoadBalancer
  ports: [{port: 80}]
`

// churn writes a Service's slice again and again. Its Pods all serve, whether the slice shows them or not.
type churn struct {
	ns     string
	pods   []corev1.Pod
	random *rand.Rand
	// shown is what the slice has of each Pod: nothing, not ready, ready.
	shown []state
}

type state int

const (
	gone state = iota
	unready
	inUse
)

// newChurn starts with five Pods in use.
func newChurn(t *testing.T, seed uint64) *churn {
	t.Helper()
	c := &churn{ns: namespace(t), random: rand.New(rand.NewPCG(seed, 0))}
	apply(t, c.ns, rolling)
	ready(t, c.ns, "rolling", 5)
	apply(t, c.ns, byHand)
	c.pods = pods(t, c.ns, "app", "rolling")
	if len(c.pods) != 5 {
		t.Fatalf("%d Pods, want 5", len(c.pods))
	}
	c.shown = []state{inUse, inUse, inUse, inUse, inUse}
	if err := cluster.Create(t.Context(), c.slice()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *churn) slice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "by-hand", Labels: map[string]string{
			discoveryv1.LabelServiceName: "by-hand", discoveryv1.LabelManagedBy: "e2e",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](80), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for i, pod := range c.pods {
		if c.shown[i] == gone {
			continue
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, NodeName: ptr.To(pod.Spec.NodeName),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(c.shown[i] == inUse)},
		})
	}
	return s
}

// change changes one endpoint and leaves at least one in use.
func (c *churn) change(ctx context.Context) error {
	i := c.random.IntN(len(c.pods))
	others := 0
	for j, s := range c.shown {
		if j != i && s == inUse {
			others++
		}
	}
	switch {
	case c.shown[i] != inUse:
		c.shown[i] = inUse
	case others == 0: // the only one
		c.shown[(i+1)%len(c.pods)] = inUse
	default:
		c.shown[i] = state(c.random.IntN(2))
	}
	if err := cluster.Update(ctx, c.slice()); err != nil {
		return fmt.Errorf("writing the slice: %w", err)
	}
	return nil
}

// settle leaves one Pod in use and wants all connections to go there: every node has followed to the end.
func (c *churn) settle(t *testing.T, all []source) {
	t.Helper()
	last := c.random.IntN(len(c.pods))
	for i := range c.shown {
		c.shown[i] = state(c.random.IntN(2))
	}
	c.shown[last] = inUse
	if err := cluster.Update(t.Context(), c.slice()); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		eventually(t, fmt.Sprintf("only %s answers %s", c.pods[last].Name, s.ns), func() error {
			for range 20 {
				a, err := get(s.ns, s.to)
				if err != nil {
					return err
				}
				if a.Pod != c.pods[last].Name {
					return fmt.Errorf("%s answered", a.Pod)
				}
			}
			return nil
		})
	}
}

// established makes a connection that is to last, and closes it at the end of the test.
func established(t *testing.T, from source) net.Conn {
	t.Helper()
	conn, err := dial(from.ns, "tcp", from.to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// metric reads one metric of a node's agent.
func metric(t *testing.T, node, name string) float64 {
	t.Helper()
	var value float64
	asking := http.Client{Transport: network.Transport(nodeNS(node)), Timeout: patience}
	response, err := asking.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			if value, err = strconv.ParseFloat(text, 64); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("the agent of %s has no metric %s", node, name)
	return 0
}

// TestPacketsManyChanges: 1,000 changes of endpoints under load lose no connection, new or established.
func TestPacketsManyChanges(t *testing.T) {
	const (
		changes, burst = 1000, 10
		seen           = "kubeproxy_sync_proxy_rules_endpoint_changes_total"
	)
	c := newChurn(t, 1)
	all := sources(t, c.ns, "by-hand")
	conn := established(t, all[1])
	events := map[string]float64{}
	for _, node := range nodes {
		events[node] = metric(t, node, seen)
	}
	before := retransmitted(t, all)
	l := begin(220, all...)
	for n := 0; n < changes; {
		for range burst {
			if err := c.change(t.Context()); err != nil {
				t.Fatal(err)
			}
			n++
		}
		l.reach(t, 3*n)
		if _, err := ask(conn); err != nil {
			t.Fatalf("an established connection, after %d changes: %v", n, err)
		}
	}
	lost(t, l, 200, before, all)
	c.settle(t, all)
	for _, node := range nodes {
		if n := metric(t, node, seen) - events[node]; n < changes {
			t.Errorf("the agent of %s saw %.0f changes, want %d", node, n, changes)
		}
	}
}

// TestPacketsAgentKilledWhileWriting: agents that are killed at random moments of their start and of their writes, while
// endpoints change all the time, lose no connection, and their successors follow to the end.
func TestPacketsAgentKilledWhileWriting(t *testing.T) {
	const (
		kills = 18
		// Most of an agent's start and first write, and the pause between two writes and the write after it.
		moments = 250 * time.Millisecond
	)
	c := newChurn(t, 2)
	all := sources(t, c.ns, "by-hand")
	conn := established(t, all[1])
	before := retransmitted(t, all)
	l := begin(220, all...)
	ctx, cancel := context.WithCancel(t.Context())
	var changing sync.WaitGroup
	var problem error
	changed := 0
	changing.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ; problem == nil; changed++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			problem = c.change(t.Context())
		}
	})
	random := rand.New(rand.NewPCG(3, 0))
	for n := range kills {
		node := nodes[n%len(nodes)]
		agent := process(t, "node-agent", node)
		// Not a wait for anything: the moment is what is tried. Every other agent has just begun.
		time.Sleep(time.Duration(random.Int64N(int64(moments))))
		kill(t, node, agent)
		if n%2 == 1 {
			agent = process(t, "node-agent", node)
			time.Sleep(time.Duration(random.Int64N(int64(moments))))
			kill(t, node, agent)
		}
		eventually(t, "a ready agent on "+node, func() error { return agentReady(node) })
		if _, err := ask(conn); err != nil {
			t.Errorf("an established connection, after kill %d, of the agent of %s: %v", n, node, err)
		}
	}
	cancel()
	changing.Wait()
	lost(t, l, 200, before, all)
	if problem != nil || changed < 10*kills {
		t.Errorf("%d changes between %d kills, error %v", changed, kills, problem)
	}
	c.settle(t, all)
}

// kill ends a node's agent and waits until it has a successor.
func kill(t *testing.T, node string, agent int) {
	t.Helper()
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new agent on "+node, func() error {
		pids, err := processes("node-agent", node)
		if err == nil && (len(pids) != 1 || pids[0] == agent) {
			err = fmt.Errorf("agents %v", pids)
		}
		return err
	})
}

// TestPacketsLocalReplacement: all Pods behind a Local node port are replaced, twice, under 200 new connections a second
// from a balancer that goes by the health checks; none is lost, and the clients' addresses are kept. Established ones last as
// long as their Pods.
func TestPacketsLocalReplacement(t *testing.T) {
	ns := namespace(t)
	sample, err := os.ReadFile(filepath.Join(samples, "webapp-lb-local.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, ns, string(sample))
	svc := ready(t, ns, "webapp-lb-local", 3)
	if svc.Spec.HealthCheckNodePort == 0 {
		t.Fatal("the Service has no healthCheckNodePort")
	}
	all := []source{{internet, balancer(t, ns, svc.Name)}}
	if a := served(t, all[0].ns, all[0].to); clientAddr(t, a) != outside {
		t.Fatalf("the Pod saw %s, want the client's own address", a.Client)
	}
	names := map[string]bool{}
	note := func() {
		for _, p := range pods(t, ns, "app", "webapp-local") {
			names[p.Name] = true
		}
	}
	note()
	before := retransmitted(t, all)
	l := begin(220, all...)
	for range 2 {
		outlived := outlive(t, ns, all[0])
		if out, err := kubectl("rollout", "restart", "-n", ns, "deployment/webapp-local"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if out, err := kubectl("rollout", "status", "-n", ns, "deployment/webapp-local", "--timeout=90s"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		note()
		eventually(t, "the end of the old Pods, and that the new ones serve", func() error {
			var list corev1.PodList
			if err := cluster.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
				return err
			}
			if len(list.Items) != 3 {
				return fmt.Errorf("%d Pods", len(list.Items))
			}
			for _, p := range list.Items {
				if !l.reached(p.Name) { // The balancer looks at each node's health first.
					return fmt.Errorf("%s has not served yet", p.Name)
				}
			}
			return nil
		})
		if err := <-outlived; err != nil {
			t.Error(err)
		}
	}
	lost(t, l, 200, before, all)
	if len(names) != 9 || len(l.pods) != 9 {
		t.Errorf("%d Pods there were, and %d of them served: want 9", len(names), len(l.pods))
	}
}

// outlive keeps a connection to a Pod of webapp-lb-local until it ends, and says whether that was before the Pod had served
// for as long as it does when it is told to end.
func outlive(t *testing.T, ns string, from source) <-chan error {
	t.Helper()
	const lasts = 5 * time.Second // its preStop
	conn := established(t, from)
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var pod corev1.Pod
		for {
			answer, broken := ask(conn)
			if broken == nil {
				pod.Name = answer.Pod
				<-tick.C
				continue
			}
			err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: pod.Name}, &pod)
			switch {
			case apierrors.IsNotFound(err):
				err = nil
			case err == nil && (pod.DeletionTimestamp == nil || time.Since(told(&pod)) < lasts-time.Second): // it tells seconds
				err = fmt.Errorf("an established connection, to %s, which still serves: %w", pod.Name, broken)
			}
			ended <- err
			return
		}
	}()
	return ended
}

// told is when a Pod that terminates was told to.
func told(pod *corev1.Pod) time.Time {
	return pod.DeletionTimestamp.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
}
