package main

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
)

// Users of the API server. All are administrators, so that rights cost everyone the same, and priority and fairness
// holds nobody back.
const (
	userLoad   = "load"
	userTheirs = "system:kube-controller-manager"
	userOurs   = "fairlead-manager"
)

// auditPolicy logs the writes of the two peers and nothing else: it is how writes are counted, at the one place where
// both are seen the same way, at a cost that is the API server's and not theirs.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["` + userTheirs + `", "` + userOurs + `"]
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// controlPlane is an etcd and an API server on loopback.
type controlPlane struct {
	dir, url  string
	authority *pki.Authority
	etcd, api *process
	client    kubernetes.Interface
	audit     *auditLog
}

// startControlPlane starts both, waits until the API is served, and adds our kinds, which are in the folder crds.
// Whatever it returns has to be stopped.
func startControlPlane(ctx context.Context, dir, assets, crds string) (*controlPlane, error) {
	c := &controlPlane{dir: dir, audit: newAuditLog(filepath.Join(dir, "audit.log"))}
	if err := os.WriteFile(filepath.Join(dir, "audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return c, fmt.Errorf("writing the audit policy: %w", err)
	}
	var err error
	if c.authority, err = pki.NewAuthority(filepath.Join(dir, "pki")); err != nil {
		return c, err
	}
	etcd, err := c.startEtcd(filepath.Join(assets, "etcd"))
	if err != nil {
		return c, err
	}
	if err := c.startAPIServer(filepath.Join(assets, "kube-apiserver"), etcd); err != nil {
		return c, err
	}
	kubeconfig, err := c.kubeconfig(userLoad)
	if err != nil {
		return c, err
	}
	config, err := unlimited(kubeconfig)
	if err != nil {
		return c, err
	}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return c, fmt.Errorf("preparing a client: %w", err)
	}
	err = poll(ctx, 200*time.Millisecond, 90*time.Second, "the API server", func() (bool, error, error) {
		if err := c.alive(); err != nil {
			return false, nil, err
		}
		err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return err == nil, err, nil
	})
	if err != nil {
		return c, err
	}
	ours := rest.CopyConfig(config)
	ours.ContentType, ours.AcceptContentTypes = "", "" // definitions of kinds are not served as protobuf
	if _, err := envtest.InstallCRDs(ours, envtest.CRDInstallOptions{Paths: []string{crds}, ErrorIfPathMissing: true}); err != nil {
		return c, fmt.Errorf("adding our kinds from %s: %w", crds, err)
	}
	return c, nil
}

func (c *controlPlane) startEtcd(program string) (url string, err error) {
	client, err := freeAddress()
	if err != nil {
		return "", err
	}
	peers, err := freeAddress()
	if err != nil {
		return "", err
	}
	url = "http://" + client
	c.etcd, err = start(c.dir, "etcd", program,
		"--name=bench", "--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls=http://"+peers, "--initial-advertise-peer-urls=http://"+peers, "--initial-cluster=bench=http://"+peers,
		// The disk is no part of what is compared.
		"--unsafe-no-fsync", "--quota-backend-bytes=8589934592", "--log-level=warn")
	return url, err
}

func (c *controlPlane) startAPIServer(program, etcd string) error {
	serving, err := c.authority.Issue(pki.Identity{
		Name: "kube-apiserver", CommonName: "kube-apiserver", Hosts: []string{pki.ServerName, "localhost", "127.0.0.1"},
	})
	if err != nil {
		return err
	}
	tokens, err := c.authority.KeyPair("service-accounts")
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	c.url = "https://" + address
	c.api, err = start(c.dir, "kube-apiserver", program,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port, "--etcd-servers="+etcd,
		// It would publish its own address, and refuses one on loopback.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/12", "--authorization-mode=RBAC",
		// Nobody makes service accounts here; the Pods bring along what it would add to them.
		"--disable-admission-plugins=ServiceAccount",
		"--client-ca-file="+c.authority.CAFile(), "--tls-cert-file="+serving.CertFile, "--tls-private-key-file="+serving.KeyFile,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+tokens.CertFile, "--service-account-signing-key-file="+tokens.KeyFile,
		"--audit-policy-file="+filepath.Join(c.dir, "audit-policy.yaml"), "--audit-log-path="+c.audit.file,
		// One file, whatever its size in MB: it is read while it grows.
		"--audit-log-maxsize=100000")
	return err
}

// kubeconfig writes one for a user, of the group of administrators, and returns its path.
func (c *controlPlane) kubeconfig(user string) (string, error) {
	file := filepath.Join(c.dir, user+".kubeconfig")
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

// alive is an error once one of them has ended.
func (c *controlPlane) alive() error {
	for _, p := range []*process{c.etcd, c.api} {
		if err := p.alive(); err != nil {
			return err
		}
	}
	return nil
}

func (c *controlPlane) stop() {
	for _, p := range []*process{c.api, c.etcd} {
		if p != nil {
			p.stop()
		}
	}
}
