//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// rolling is a Deployment whose Pods go on serving for a few seconds after their deletion, as graceful ones do.
const rolling = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: rolling}
spec:
  replicas: 5
  selector: {matchLabels: {app: rolling}}
  template:
    metadata: {labels: {app: rolling}}
    spec:
      containers:
      - name: c
        image: nginx
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /healthz, port: 80}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
---
apiVersion: v1
kind: Service
metadata: {name: rolling}
spec:
  type: LoadBalancer
  selector: {app: rolling}
  ports: [{port: 80}]
`

// sources are a Pod, a node and the client outside, by cluster IP, node port and balancer address of a Service with five
// endpoints.
func sources(t *testing.T, ns, name string) []source {
	t.Helper()
	svc := ready(t, ns, name, 5)
	apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  containers: [{name: c, image: nginx}]
`)
	var pod corev1.Pod
	eventually(t, "an address of the client Pod", func() error {
		if list := pods(t, ns, "app", "client"); len(list) == 1 && list[0].Status.PodIP != "" {
			pod = list[0]
			return nil
		}
		return errors.New("none yet")
	})
	vip := addrPort(t, svc.Spec.ClusterIP, 80)
	all := []source{
		{podNS(t, netip.MustParseAddr(pod.Status.PodIP)), vip},
		{nodeNS("n2"), vip},
		{internet, netip.AddrPortFrom(nodeAddrs(t)[0], uint16(svc.Spec.Ports[0].NodePort))},
		{internet, balancer(t, ns, name)},
	}
	for _, s := range all {
		served(t, s.ns, s.to)
	}
	return all
}

// lost ends a load and wants no failure at the promised rate; it reports the SYNs that were sent again.
func lost(t *testing.T, l *load, want float64, before int, all []source) {
	t.Helper()
	rate, err := l.end()
	t.Logf("%d connections in %s, %.0f a second, %d failed, %d SYNs retransmitted", l.made, l.took.Round(time.Second), rate,
		len(l.failures), retransmitted(t, all)-before)
	if err != nil {
		t.Errorf("lost connections: %v", err)
	}
	if rate < want {
		t.Errorf("the load was %.0f connections a second, want at least %.0f for the test to mean what it says", rate, want)
	}
}

func retransmitted(t *testing.T, all []source) int {
	t.Helper()
	seen, sum := map[string]bool{}, 0
	for _, s := range all {
		if !seen[s.ns] {
			seen[s.ns] = true
			sum += counter(t, s.ns, "netstat", "TcpExt", "TCPSynRetrans")
		}
	}
	return sum
}

// TestPacketsReplacement: 20 graceful replacements of Pods under 200 new connections a second lose none.
func TestPacketsReplacement(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, rolling)
	all := sources(t, ns, "rolling")
	before := retransmitted(t, all)
	l := begin(220, all...)
	for range 20 {
		alive := pods(t, ns, "app", "rolling")
		oldest := slices.MinFunc(alive, func(a, b corev1.Pod) int {
			return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		})
		if err := cluster.Delete(t.Context(), &oldest); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a successor of "+oldest.Name, func() error { return replaced(t, ns, oldest.UID) })
	}
	lost(t, l, 200, before, all)
}

// replaced wants five ready endpoints, none of them the Pod that was deleted.
func replaced(t *testing.T, ns string, uid types.UID) error {
	found, err := endpoints(t.Context(), ns, "rolling")
	if err != nil {
		return err
	}
	for family, list := range found {
		if len(list) != 5 {
			return fmt.Errorf("%d endpoints of %s", len(list), family)
		}
		for _, e := range list {
			if e.TargetRef.UID == uid {
				return errors.New("the old one is still there")
			}
		}
	}
	return nil
}

// TestPacketsCrash: a Pod that dies costs only connections that began before its endpoint was withdrawn from the slices
// and then, within the agents' pace, from the nodes.
func TestPacketsCrash(t *testing.T) {
	const settle = 5 * time.Second
	ns := namespace(t)
	apply(t, ns, rolling)
	all := sources(t, ns, "rolling")
	apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: mortal, labels: {app: rolling}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: nginx
    ports: [{containerPort: 80}]
`)
	ready(t, ns, "rolling", 6)
	mortal := corev1.Pod{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "mortal"}, &mortal); err != nil {
		t.Fatal(err)
	}
	l := begin(220, all...)
	l.reach(t, 200)
	if err := network.Enter(nodeNS("n1"), func() error { return exit(addrPort(t, mortal.Status.PodIP, 80)) }); err != nil {
		t.Fatal(err)
	}
	crashed := time.Now()
	ready(t, ns, "rolling", 5)
	withdrawn := time.Now()
	l.mu.Lock()
	made := l.made
	l.mu.Unlock()
	l.reach(t, made+int(220*2*settle.Seconds()))
	rate, _ := l.end()
	late := 0
	var last time.Duration
	for _, f := range l.failures {
		last = max(last, f.at.Sub(crashed))
		if f.at.After(withdrawn.Add(settle)) {
			late++
		}
	}
	t.Logf("%d connections at %.0f a second: %d failed, the last of them begun %s after the crash; the slices were without "+
		"the Pod after %s", l.made, rate, len(l.failures), last.Round(time.Millisecond), withdrawn.Sub(crashed).Round(time.Millisecond))
	if late > 0 || l.pods["mortal"] == 0 {
		t.Errorf("%d connections begun after the withdrawal failed; the Pod had served %d before", late, l.pods["mortal"])
	}
}

// exit tells a server to end.
func exit(server netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", server.String(), patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /exit?code=1 HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n")
	return err
}

// process finds the one process whose command line holds all words.
func process(t *testing.T, words ...string) int {
	t.Helper()
	pids, err := processes(words...)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) != 1 {
		t.Fatalf("%d processes with %v, want 1", len(pids), words)
	}
	return pids[0]
}

func processes(words ...string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")
		args[0] = filepath.Base(args[0])
		missing := slices.ContainsFunc(words, func(w string) bool {
			return !slices.ContainsFunc(args, func(a string) bool { return a == w || strings.HasSuffix(a, "="+w) })
		})
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && !missing {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// TestPacketsAgentRestart: an agent that is killed and comes back interrupts neither new nor established connections.
func TestPacketsAgentRestart(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, rolling)
	all := sources(t, ns, "rolling")
	conn := established(t, all[1])
	before := retransmitted(t, all)
	l := begin(220, all...)
	for _, node := range nodes {
		old := process(t, "node-agent", node)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a new agent on "+node, func() error {
			pids, err := processes("node-agent", node)
			if err != nil || len(pids) != 1 || pids[0] == old {
				return fmt.Errorf("agents %v, error %w", pids, err)
			}
			return agentReady(node)
		})
		if _, err := ask(conn); err != nil {
			t.Errorf("an established connection, after the agent of %s restarted: %v", node, err)
		}
	}
	l.reach(t, 2500)
	lost(t, l, 200, before, all)
}

// agentReady says whether an agent has written its rules.
func agentReady(node string) error {
	return network.Enter(nodeNS(node), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return httpOK(ctx, "http://127.0.0.1:10256/readyz")
	})
}

// TestPacketsServerAway: with the API server stopped for a minute every node keeps its last good rules.
func TestPacketsServerAway(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, rolling)
	all := sources(t, ns, "rolling")
	conn := established(t, all[1])
	server := process(t, "kube-apiserver")
	before := retransmitted(t, all)
	if err := syscall.Kill(server, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = syscall.Kill(server, syscall.SIGCONT) }
	t.Cleanup(resume)
	l := begin(220, all...)
	// An agent that restarts meanwhile adopts what the kernel holds.
	if err := syscall.Kill(process(t, "node-agent", "n2"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for minute := time.Now().Add(time.Minute); time.Now().Before(minute); {
		l.mu.Lock()
		made := l.made
		l.mu.Unlock()
		l.reach(t, made+220)
		if _, err := ask(conn); err != nil {
			t.Fatalf("an established connection, with the API server away: %v", err)
		}
	}
	lost(t, l, 200, before, all)
	resume()
	eventually(t, "the API server back", func() error {
		_, err := endpoints(t.Context(), ns, "rolling")
		return err
	})
	eventually(t, "the agent of n2 back", func() error { return agentReady("n2") })
}

// TestPacketsForeignRules: nft reads our table on every node, and --cleanup removes it and nothing else, and tells of an
// agent that would write it again.
func TestPacketsForeignRules(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed: install the package nftables")
	}
	nft := func(ns string, args ...string) (string, error) {
		var out []byte
		err := network.Enter(ns, func() (err error) {
			out, err = exec.Command("nft", args...).CombinedOutput()
			return err
		})
		return string(out), err
	}
	for _, node := range nodes {
		out, err := nft(nodeNS(node), "list", "ruleset")
		for _, table := range []string{"table ip fairlead", "table ip6 fairlead"} {
			if err != nil || !strings.Contains(out, table) {
				t.Errorf("%s: nft list ruleset: %v, %d bytes; want %s in it", node, err, len(out), table)
			}
		}
	}
	ns := nodeNS("n3")
	if out, err := nft(ns, "add", "table", "inet", "foreign"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _, _ = nft(ns, "delete", "table", "inet", "foreign") })
	// The agent must not write the table anew while we look: it is stopped, not killed.
	agent := process(t, "node-agent", "n3")
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(agent, syscall.SIGKILL) }) // its successor writes the rules again
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", agent))
	if err != nil {
		t.Fatal(err)
	}
	var said []byte
	if err := network.Enter(ns, func() (err error) {
		said, err = exec.Command(program, "--cleanup").CombinedOutput()
		return err
	}); err == nil || !strings.Contains(string(said), "written again") {
		t.Errorf("node-agent --cleanup does not tell of the agent that would undo it: %v, %q", err, said)
	}
	out, err := nft(ns, "list", "tables")
	if want := "table ip fairlead-agent\ntable inet foreign"; err != nil || strings.TrimSpace(out) != want {
		t.Errorf("after --cleanup nft list tables says %q, %v; want the foreign table and the stopped agent's claim", out, err)
	}
}
