package sync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	dataplane "github.com/fairlead/fairlead/dataplane/nftables"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// victims is a node with an API server that has many Services, each of which leads to one of three Pods. Which one the shift
// decides; the first Service, steady, always leads to the first Pod.
type victims struct {
	t            *testing.T
	node, client *nstest.Namespace
	server       *apiServer
	program      string
	args         []string
	rules        *nftables.Conn
	shift        int
}

const (
	victimCount = 700
	victimPods  = 3
)

func newVictims(t *testing.T) *victims {
	t.Helper()
	v := &victims{t: t, node: nstest.New(t, "node"), client: nstest.New(t, "client"), program: filepath.Join(t.TempDir(), "node-agent")}
	v.node.Forward(t)
	link := func(i int, ns *nstest.Namespace) {
		prefix := func(last byte) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), last}), 24)
		}
		v.node.Connect(t, ns.Name, []netip.Prefix{prefix(1)}, ns, "eth0", []netip.Prefix{prefix(2)})
		ns.Route(t, netip.MustParsePrefix("0.0.0.0/0"), prefix(1).Addr())
	}
	link(0, v.client)
	for i := 1; i <= victimPods; i++ {
		pod := nstest.New(t, fmt.Sprint("pod", i))
		link(i, pod)
		all := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i), 0, 0}), 16)
		pod.Own(t, all)
		v.node.Route(t, all, netip.AddrFrom4([4]byte{10, 9, byte(i), 2}))
		pod.Serve(t, pod.Name, netip.MustParseAddrPort("0.0.0.0:8080"))
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", v.program, "./cmd/node-agent")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v: %s", err, out)
	}
	v.server = newAPIServer(t)
	v.move()
	v.put()
	v.args = []string{"--node-name=n1", "--kubeconfig=" + v.file("kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %s}}]
users: [{name: u}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, v.server.URL)), "--config=" + v.file("config", `apiVersion: config.fairlead.dev/v1alpha1
kind: NodeAgentConfiguration
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
clientConnection: {qps: -1}
`)}
	var err error
	v.rules, err = nftables.New(nftables.WithNetNSFd(v.node.FD()), nftables.AsLasting())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.rules.CloseLasting() })
	return v
}

// move puts the API server's listener on the node.
func (v *victims) move() {
	v.t.Helper()
	v.server.Close()
	v.server.Server = httptest.NewUnstartedServer(v.server)
	_ = v.server.Listener.Close()
	if err := v.node.Do(func() (err error) {
		v.server.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		v.t.Fatal(err)
	}
	v.server.Start()
}

func (v *victims) file(name, text string) string {
	v.t.Helper()
	path := filepath.Join(v.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return path
}

func victimAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80)
}

// pod is which Pod a Service leads to.
func (v *victims) pod(i int) int {
	if i == 0 {
		return 1
	}
	return 1 + (i+v.shift)%victimPods
}

// put tells the API server of all Services and endpoints.
func (v *victims) put() {
	for i := range victimCount {
		name := fmt.Sprint("victim-", i)
		meta := metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}
		ip := victimAddr(i).Addr().String()
		if v.shift == 0 {
			v.server.put("services", &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP,
				ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}})
		}
		es := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}}
		for e := range 1 + (i+v.shift)%4 {
			a := netip.AddrFrom4([4]byte{10, byte(100 + v.pod(i)), byte(16*e + i>>8), byte(i)})
			es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}})
		}
		v.server.put("endpointslices", es)
	}
}

// generation is the number of transactions that the node's nftables have seen.
func (v *victims) generation() uint32 {
	v.t.Helper()
	gen, err := v.rules.GetGen()
	if err != nil {
		v.t.Fatal(err)
	}
	return gen.ID
}

// agent is a process of the real program on the node.
type agent struct {
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{}
}

func (v *victims) start() *agent {
	v.t.Helper()
	a := &agent{cmd: exec.Command(v.program, v.args...), ended: make(chan struct{})}
	a.cmd.Stderr = &a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- v.node.Do(a.cmd.Start)
		_ = a.cmd.Wait() // it is killed
		close(a.ended)
	}()
	if err := <-started; err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(a.kill)
	return a
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.ended
}

// killAt kills an agent as soon as there have been so many transactions, or when done says that there will be no more: how
// much goes into one depends on how fast the kernel is.
func (v *victims) killAt(a *agent, generation uint32, done func() bool) {
	v.t.Helper()
	asked := time.Now()
	for deadline := asked.Add(patience); int32(v.generation()-generation) < 0; {
		if now := time.Now(); now.Sub(asked) > 200*time.Millisecond { // Not so often that the moment is missed.
			if asked = now; done() {
				break
			}
		}
		select {
		case <-a.ended:
			v.t.Fatalf("the agent ended by itself:\n%s", &a.log)
		default:
		}
		if time.Now().After(deadline) {
			a.kill()
			v.t.Fatalf("no transaction %d in %s:\n%s", generation, patience, &a.log)
		}
	}
	a.kill()
}

// wrong asks at every Service and says which answer is wrong.
func (v *victims) wrong() error {
	var mu sync.Mutex
	var problems []error
	var asking sync.WaitGroup
	const askers = 4
	for first := range askers {
		asking.Go(func() {
			for i := first; i < victimCount; i += askers {
				got, err := v.client.Ask("tcp", victimAddr(i), 2*time.Second)
				if want := fmt.Sprint("pod", v.pod(i)); err != nil || got.Server != want {
					mu.Lock()
					problems = append(problems, fmt.Errorf("Service %d answers as %q, want %s", i, got.Server, want), err)
					mu.Unlock()
					return
				}
			}
		})
	}
	asking.Wait()
	return errors.Join(problems...)
}

// synced says whether the agent that runs has written its rules.
func (v *victims) synced() bool {
	get := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
			err = v.node.Do(func() (err error) {
				c, err = net.Dial(network, address)
				return err
			})
			return c, err
		}}}
	resp, err := get.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Count(string(text), "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{") == 2
}

// mends starts an agent, waits until it has written its rules and all is right, and returns it.
func (v *victims) mends(after string) *agent {
	v.t.Helper()
	a := v.start()
	err := errors.New("it never wrote its rules")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if !v.synced() {
			continue
		}
		if err = v.wrong(); err == nil {
			return a
		}
	}
	a.kill()
	v.t.Fatalf("%s: %v\nThe next agent said:\n%s", after, err, &a.log)
	return nil
}

func (v *victims) cleanup() {
	v.t.Helper()
	if err := dataplane.Cleanup(dataplane.Options{NetNS: v.node.FD()}); err != nil {
		v.t.Fatal(err)
	}
}

// TestAgentKilled kills the real agent at each transaction of a cold start, of a start to which everything is new, and of a
// change of everything under way. The next agent puts all right, and no connection to a Service that does not change is harmed.
func TestAgentKilled(t *testing.T) {
	v := newVictims(t)
	// How many transactions there are that write rules, and how many that come before: those of the claim and of what the
	// kernel can do.
	count := func(after string) uint32 {
		begin := v.generation()
		a := v.mends(after)
		defer a.kill()
		return v.generation() - begin
	}
	cold := count("nothing")
	before := count("a clean end")
	writing := cold - before
	if int32(writing) < 2 {
		t.Fatalf("only %d transactions write rules", writing)
	}
	t.Logf("%d transactions come before rules are written, %d write them", before, writing)
	for n := uint32(1); n <= writing; n++ {
		v.cleanup()
		at := v.generation() + before + n
		v.killAt(v.start(), at, v.synced)
		v.mends(fmt.Sprintf("killed at transaction %d of a cold start", n)).kill()
	}

	harmed := v.load()
	for n := uint32(1); n <= writing; n++ {
		v.shift++
		v.put()
		at := v.generation() + before + n
		v.killAt(v.start(), at, v.synced)
		v.mends(fmt.Sprintf("killed at transaction %d of a start to which all is new", n)).kill()
	}
	for n := uint32(1); n <= 6; n++ {
		a := v.mends("the last one")
		v.shift++
		at := v.generation() + n
		var changing sync.WaitGroup
		changing.Go(v.put)
		v.killAt(a, at, func() bool { return v.wrong() == nil })
		changing.Wait()
		v.mends(fmt.Sprintf("killed at transaction %d of a change", n)).kill()
	}
	harmed()
}

// load connects to the steady Service all the time, and keeps one connection, until the function that it returns is called.
func (v *victims) load() (stop func()) {
	v.t.Helper()
	kept, err := v.client.Dial("tcp", victimAddr(0), patience)
	if err != nil {
		v.t.Fatal(err)
	}
	var end atomic.Bool
	failed, made := make(chan error, 1), 0
	go func() {
		for !end.Load() {
			made++
			if got, err := v.client.Ask("tcp", victimAddr(0), patience); err != nil || got.Server != "pod1" {
				failed <- fmt.Errorf("new connection %d: %v, %w", made, got, err)
				return
			}
			if _, err := kept.Ask(patience); err != nil {
				failed <- fmt.Errorf("the connection that was kept, after %d others: %w", made, err)
				return
			}
		}
		failed <- nil
	}()
	return func() {
		v.t.Helper()
		end.Store(true)
		if err := <-failed; err != nil {
			v.t.Error(err)
		}
		v.t.Logf("%d connections were made meanwhile", made)
	}
}
