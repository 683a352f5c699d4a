// Package controlplane runs the part of a control plane that a benchmark measures against: etcd and a real API server.
// All users are administrators, so that rights cost everyone the same, and priority and fairness holds nobody back.
package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fairlead/fairlead/cmd/playground/pki"
	"github.com/fairlead/fairlead/test/peers/process"
	"github.com/fairlead/fairlead/test/peers/wait"
)

// Options of a ControlPlane.
type Options struct {
	// Dir is the folder for all its files; Assets is where etcd and kube-apiserver are.
	Dir, Assets string
	// Address, an IP address, is where the API is served.
	Address string
	// Audited are the users whose writes are logged in Dir/AuditLog. None: nothing is logged.
	Audited []string
	// ServiceRange is where cluster IPs come from.
	ServiceRange string
}

// AuditLog is the name of the audit log's file.
const AuditLog = "audit.log"

// ControlPlane is an etcd, on loopback, and an API server.
type ControlPlane struct {
	Etcd, API *process.Process
	// Client is an administrator's without a limit of requests, and Config is what it was made from.
	Client  kubernetes.Interface
	Config  *rest.Config
	Options Options
	// EtcdURL is where etcd serves, without credentials.
	EtcdURL string

	url       string
	authority *pki.Authority
}

// Start starts both and waits until the API is served. Whatever it returns has to be stopped.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	c := &ControlPlane{Options: options}
	var err error
	if c.authority, err = pki.NewAuthority(filepath.Join(options.Dir, "pki")); err != nil {
		return c, err
	}
	if err := c.startEtcd(filepath.Join(options.Assets, "etcd")); err != nil {
		return c, err
	}
	if err := c.startAPIServer(filepath.Join(options.Assets, "kube-apiserver")); err != nil {
		return c, err
	}
	kubeconfig, err := c.Kubeconfig("load")
	if err != nil {
		return c, err
	}
	if c.Config, err = unlimited(kubeconfig); err != nil {
		return c, err
	}
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return c, fmt.Errorf("preparing a client: %w", err)
	}
	return c, wait.Poll(ctx, 200*time.Millisecond, 90*time.Second, "the API server", func() (bool, error, error) {
		if err := c.Alive(); err != nil {
			return false, nil, err
		}
		err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return err == nil, err, nil
	})
}

// auditing writes the policy by which the writes of some users are logged and nothing else. It returns the flags for it.
func (c *ControlPlane) auditing() ([]string, error) {
	if len(c.Options.Audited) == 0 {
		return nil, nil
	}
	policy := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users:\n"
	for _, user := range c.Options.Audited {
		policy += fmt.Sprintf("  - %q\n", user)
	}
	policy += "  verbs: [create, update, patch, delete, deletecollection]\n- level: None\n"
	file := filepath.Join(c.Options.Dir, "audit-policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return nil, fmt.Errorf("writing the audit policy: %w", err)
	}
	return []string{
		"--audit-policy-file=" + file, "--audit-log-path=" + filepath.Join(c.Options.Dir, AuditLog),
		// One file, whatever its size in MB: it is read while it grows.
		"--audit-log-maxsize=100000",
	}, nil
}

func (c *ControlPlane) startEtcd(program string) error {
	client, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return err
	}
	peers, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return err
	}
	url := "http://" + client
	c.EtcdURL = url
	c.Etcd, err = process.Start(c.Options.Dir, "etcd", program,
		"--name=bench", "--data-dir="+filepath.Join(c.Options.Dir, "etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls=http://"+peers, "--initial-advertise-peer-urls=http://"+peers, "--initial-cluster=bench=http://"+peers,
		// The disk is no part of what is compared.
		"--unsafe-no-fsync", "--quota-backend-bytes=8589934592", "--log-level=warn")
	return err
}

func (c *ControlPlane) startAPIServer(program string) error {
	serving, err := c.authority.Issue(pki.Identity{
		Name: "kube-apiserver", CommonName: "kube-apiserver", Hosts: []string{pki.ServerName, "localhost", c.Options.Address},
	})
	if err != nil {
		return err
	}
	tokens, err := c.authority.KeyPair("service-accounts")
	if err != nil {
		return err
	}
	auditing, err := c.auditing()
	if err != nil {
		return err
	}
	address, err := process.FreeAddress(c.Options.Address)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	c.url = "https://" + address
	c.API, err = process.Start(c.Options.Dir, "kube-apiserver", append([]string{
		program,
		"--bind-address=" + c.Options.Address, "--advertise-address=" + c.Options.Address, "--secure-port=" + port, "--etcd-servers=" + c.EtcdURL,
		// It would publish its own address, and refuses one on loopback.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=" + c.Options.ServiceRange, "--authorization-mode=RBAC",
		// Nobody makes service accounts here; the Pods bring along what it would add to them.
		"--disable-admission-plugins=ServiceAccount",
		"--client-ca-file=" + c.authority.CAFile(), "--tls-cert-file=" + serving.CertFile, "--tls-private-key-file=" + serving.KeyFile,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + tokens.CertFile, "--service-account-signing-key-file=" + tokens.KeyFile,
	}, auditing...)...)
	return err
}

// Kubeconfig writes one for a user, of the group of administrators, and returns its path.
func (c *ControlPlane) Kubeconfig(user string) (string, error) {
	file := filepath.Join(c.Options.Dir, user+".kubeconfig")
	pair, err := c.authority.Issue(pki.Identity{Name: user, CommonName: user, Organizations: []string{"system:masters"}})
	if err != nil {
		return "", err
	}
	return file, c.authority.WriteKubeconfig(file, c.url, user, pki.Credentials{Pair: &pair})
}

// unlimited is a client configuration without a limit of requests.
func unlimited(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.DisableCompression = -1, true
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	config.WarningHandler = rest.NoWarnings{} // of Endpoints, which are deprecated
	return config, nil
}

// AddKinds adds our kinds, which are in the folder crds.
func (c *ControlPlane) AddKinds(crds string) error {
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.AcceptContentTypes = "", "" // definitions of kinds are not served as protobuf
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{crds}, ErrorIfPathMissing: true}); err != nil {
		return fmt.Errorf("adding our kinds from %s: %w", crds, err)
	}
	return nil
}

// Alive is an error once one of them has ended.
func (c *ControlPlane) Alive() error {
	for _, p := range []*process.Process{c.Etcd, c.API} {
		if err := p.Alive(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends both.
func (c *ControlPlane) Stop() {
	for _, p := range []*process.Process{c.API, c.Etcd} {
		if p != nil {
			p.Stop()
		}
	}
}
