package kubelet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/cmd/playground/cri/critest"
)

const (
	nodeName  = "n1"
	nodeIP    = "172.30.0.11"
	nodeIP6   = "fd00:172:30::11"
	apiServer = "https://" + nodeIP + ":6443"
)

func TestMain(m *testing.M) { critest.Main(m) }

// programs finds the folder of the control plane's programs, or skips.
func programs(t *testing.T) string {
	t.Helper()
	var tried []string
	for _, dir := range candidates() {
		missing := ""
		for _, name := range []string{"etcd", "kube-apiserver", "kubelet", "kubectl"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				missing = name
			}
		}
		if missing == "" {
			return dir
		}
		tried = append(tried, fmt.Sprintf("%s has no %s", dir, missing))
	}
	t.Skipf("the control plane's programs are missing (%s): run `make controlplane`, or set FAIRLEAD_ASSETS", strings.Join(tried, "; "))
	return ""
}

func candidates() []string {
	var dirs []string
	for _, env := range []string{"FAIRLEAD_ASSETS", "KUBEBUILDER_ASSETS"} {
		if dir := os.Getenv(env); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(cache, "fairlead", "controlplane", "v*-linux-"+runtime.GOARCH))
		dirs = append(dirs, found...)
	}
	return dirs
}

// cluster is a control plane and one node, all in this process's namespaces.
type cluster struct {
	t      *testing.T
	assets string
	dir    string
	client kubernetes.Interface
	config *rest.Config
	// runtime is the container runtime, which runtimeArgs start.
	runtime     *exec.Cmd
	runtimeArgs []string
}

func startCluster(t *testing.T, assets string) *cluster {
	t.Helper()
	dir, _ := critest.Inside()
	c := &cluster{t: t, assets: assets, dir: dir}
	c.prepareNetwork()
	c.writeSecrets()
	c.start("etcd", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380")
	c.start("kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address="+nodeIP, "--advertise-address="+nodeIP,
		"--secure-port=6443", "--cert-dir="+c.path("apiserver"), "--token-auth-file="+c.path("tokens.csv"),
		"--authorization-mode=Node,RBAC", "--kubelet-preferred-address-types=InternalIP", "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("sa.key"),
		"--service-account-signing-key-file="+c.path("sa.key"), "--client-ca-file="+c.path("ca.crt"),
		"--kubelet-client-certificate="+c.path("kubelet-client.crt"), "--kubelet-client-key="+c.path("kubelet-client.key"))
	c.config = &rest.Config{Host: apiServer, BearerToken: "admin", QPS: 100, Burst: 200, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	client, err := kubernetes.NewForConfig(c.config)
	must(t, err)
	c.client = client
	c.eventually("the API server is ready", func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
	c.eventually("the namespace default exists", c.preparePods)
	c.startNode()
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// eventually polls until check succeeds.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// start starts one program, whose output goes to a file; all end with this process, the first of its PID namespace.
func (c *cluster) start(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	binary := filepath.Join(c.assets, name)
	if name == "cri" {
		binary, args = "/proc/self/exe", append([]string{"cri"}, args...)
	}
	log, err := os.Create(c.path(name + ".log"))
	must(c.t, err)
	defer func() { _ = log.Close() }()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	must(c.t, cmd.Start())
	c.t.Cleanup(func() {
		if c.t.Failed() {
			data, _ := os.ReadFile(c.path(name + ".log"))
			c.t.Logf("end of %s's log:\n%s", name, data[max(0, len(data)-3000):])
		}
	})
	return cmd
}

// restartRuntime kills the container runtime and starts it again.
func (c *cluster) restartRuntime() {
	must(c.t, c.runtime.Process.Kill())
	_ = c.runtime.Wait()
	c.runtime = c.start("cri", c.runtimeArgs...)
}

func (c *cluster) prepareNetwork() {
	pair := netlink.NewVeth(netlink.NewLinkAttrs())
	pair.Name, pair.PeerName = "node0", "node1"
	must(c.t, netlink.LinkAdd(pair))
	for _, name := range []string{"lo", "node1", "node0"} {
		link, err := netlink.LinkByName(name)
		must(c.t, err)
		must(c.t, netlink.LinkSetUp(link))
	}
	link, err := netlink.LinkByName("node0")
	must(c.t, err)
	for _, cidr := range []string{nodeIP + "/24", nodeIP6 + "/64"} {
		addr, err := netlink.ParseAddr(cidr)
		must(c.t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(c.t, netlink.AddrAdd(link, addr))
	}
	must(c.t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP("172.30.0.1")}))
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(c.t, os.WriteFile("/proc/sys/"+sysctl, []byte("1"), 0))
	}
}

// writeSecrets makes a certificate authority, the API server's client certificate for the kubelet, the key of service
// account tokens, and tokens for the administrator and the node.
func (c *cluster) writeSecrets() {
	t := c.t
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(t, err)
	c.writePEM("ca.crt", "CERTIFICATE", caDER)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Subject: pkix.Name{CommonName: "kube-apiserver", Organization: []string{"system:masters"}}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(t, err)
	c.writePEM("kubelet-client.crt", "CERTIFICATE", leafDER)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	c.writePEM("kubelet-client.key", "EC PRIVATE KEY", keyDER)
	sa, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	c.writePEM("sa.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sa))
	c.write("tokens.csv", "admin,admin,1,system:masters\nnode,system:node:"+nodeName+",2,system:nodes\n")
	for user, token := range map[string]string{"admin": "admin", "node": "node"} {
		c.write(user+".kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, apiServer, token))
	}
}

func (c *cluster) write(name, content string) {
	must(c.t, os.WriteFile(c.path(name), []byte(content), 0o600))
}

func (c *cluster) writePEM(name, kind string, der []byte) {
	c.write(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// preparePods makes what the controller manager otherwise makes in each namespace.
func (c *cluster) preparePods() error {
	ctx := c.t.Context()
	_, err := c.client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "test"}}
	_, err = c.client.CoreV1().ConfigMaps("default").Create(ctx, ca, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func (c *cluster) startNode() {
	t := c.t
	o := Options{
		Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}, NodeIPs: []string{nodeIP, nodeIP6},
		ConfigFile: c.path("kubelet.yaml"), Kubeconfig: c.path("node.kubeconfig"), Socket: c.path("cri.sock"), Root: c.path("node"),
		ClientCAFile: c.path("ca.crt"), ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local",
	}
	config, err := Config(o)
	must(t, err)
	c.write("kubelet.yaml", string(config))
	c.runtimeArgs = []string{"--socket=" + o.Socket, "--node=" + nodeName, "--zone=zone-a", "--node-ips=" + strings.Join(o.NodeIPs, ","),
		"--root=" + c.path("cri"), "--images=" + c.path("images")}
	c.runtime = c.start("cri", c.runtimeArgs...)
	c.eventually("the container runtime listens", func() error { _, err := os.Stat(o.Socket); return err })
	c.start("kubelet", Flags(o)...)
	c.eventually("the node registers", func() error {
		patch := `{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:244:0:1::/64"]}}`
		_, err := c.client.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	})
	c.eventually("the node is ready", func() error {
		node, err := c.client.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				return fmt.Errorf("%s: %s", condition.Reason, condition.Message)
			} else if condition.Type == corev1.NodeReady {
				return nil
			}
		}
		return fmt.Errorf("no condition Ready")
	})
}
