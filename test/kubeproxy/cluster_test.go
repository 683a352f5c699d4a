package kubeproxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

const (
	repository  = "../.."
	nodeName    = "node-a"
	nodeAddress = "192.0.2.10"
	// patience is for processes to start on a busy machine.
	patience = 2 * time.Minute
)

// TestMain moves the tests into a network namespace of their own: the node.
func TestMain(m *testing.M) { nstest.Main(m) }

// cluster is an API server, and the node on which the test runs.
type cluster struct {
	admin      client.Client
	kubeconfig string
	config     string // a KubeProxyConfiguration
	kubeProxy  string
	nodeAgent  string
	// The Service's ports on the node.
	nodePort, healthPort int32
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	nstest.New(t, "alone") // skips where the test cannot have a namespace
	c := &cluster{kubeProxy: kubeProxy(t), nodeAgent: filepath.Join(t.TempDir(), "node-agent")}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("kube-proxy's nftables mode needs the program nft: install nftables")
	}
	must(t, beNode())
	build := exec.Command("go", "build", "-o", c.nodeAgent, "./cmd/node-agent")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v: %s", err, out)
	}
	ctrl.SetLogger(logr.Discard())
	environment := &envtest.Environment{ControlPlaneStartTimeout: patience, ControlPlaneStopTimeout: patience}
	// Its default address is that of an interface, which the namespace does not have.
	environment.ControlPlane.GetAPIServer().Configure().Set("advertise-address", nodeAddress)
	config, err := environment.Start()
	t.Cleanup(func() { must(t, environment.Stop()) })
	must(t, err)
	c.admin, err = client.New(config, client.Options{})
	must(t, err)
	user, err := environment.AddUser(envtest.User{Name: "proxy", Groups: []string{"system:masters"}}, nil)
	must(t, err)
	kubeconfig, err := user.KubeConfig()
	must(t, err)
	c.kubeconfig = write(t, "kubeconfig", string(kubeconfig))
	c.config = write(t, "config.yaml", fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: 10.244.0.0/16
enableProfiling: true
conntrack: {maxPerCore: 0}
`, nodeName, c.kubeconfig))
	c.objects(t)
	return c
}

// kubeProxy is the program's path.
func kubeProxy(t *testing.T) string {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: `make test-unit` sets it")
	}
	path := filepath.Join(assets, "kube-proxy")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("there is no kube-proxy: %v; `make test-unit` builds it", err)
	}
	return path
}

// beNode gives the test's namespace what a node has.
func beNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(nodeAddress + "/32")
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func (c *cluster) objects(t *testing.T) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	must(t, c.admin.Create(t.Context(), node))
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	must(t, c.admin.Status().Update(t.Context(), node))
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	must(t, c.admin.Create(t.Context(), service))
	c.nodePort, c.healthPort = service.Spec.Ports[0].NodePort, service.Spec.HealthCheckNodePort
	must(t, c.admin.Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{},
	}))
}

func (c *cluster) healthCheck() string {
	return fmt.Sprintf("http://%s:%d/", nodeAddress, c.healthPort)
}

// endpoint makes the Service have one on this node, or none.
func (c *cluster) endpoint(t *testing.T, there bool) {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{}
	must(t, c.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "web"}, slice))
	slice.Endpoints = []discoveryv1.Endpoint{}
	slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)}
	if there {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.1.1"}, NodeName: new(nodeName)})
	}
	must(t, c.admin.Update(t.Context(), slice))
}

// unexpose takes the Service's ports on the node away.
func (c *cluster) unexpose(t *testing.T) {
	t.Helper()
	must(t, c.admin.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}))
}

func (c *cluster) taint(t *testing.T, taints ...corev1.Taint) {
	t.Helper()
	node := &corev1.Node{}
	must(t, c.admin.Get(t.Context(), client.ObjectKey{Name: nodeName}, node))
	node.Spec.Taints = taints
	must(t, c.admin.Update(t.Context(), node))
}

// synced is true when both families have been written.
func (c *cluster) synced() bool {
	resp, err := http.Get(metrics + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Count(string(text), "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{") == 2
}

func (c *cluster) startKubeProxy(t *testing.T) func() {
	return start(t, c.kubeProxy, "--config="+c.config)
}

func (c *cluster) startNodeAgent(t *testing.T) func() {
	return start(t, c.nodeAgent, "--config="+c.config)
}

// start runs a program until stop, or the end of the test.
func start(t *testing.T, path string, args ...string) (stop func()) {
	t.Helper()
	log := &locked{}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended, done := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		// Pdeathsig is sent when the thread that started the child ends.
		runtime.LockOSThread()
		started <- cmd.Start()
		_ = cmd.Wait() // it was told to end
		close(ended)
		<-done
	}()
	must(t, <-started)
	stop = sync.OnceFunc(func() {
		defer close(done)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(path), log)
		}
	})
	return stop
}

// locked is a buffer that a process writes while the test reads.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
