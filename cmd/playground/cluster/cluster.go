// Package cluster runs a real Kubernetes cluster in the playground's namespaces: etcd, API server, controller manager
// and scheduler in fl-root, a kubelet and a container runtime in every node's namespace, and Fairlead's own programs
// beside them. What it starts ends with the process namespace it runs in; it cleans up nothing.
package cluster

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/pki"
)

// Files of the run folder that people use.
const (
	// KubeconfigFile is for outside, InsideKubeconfigFile for inside. Both are the administrator's.
	KubeconfigFile       = "kubeconfig"
	InsideKubeconfigFile = "kubeconfig-inside"
	// LogDirName is the folder of logs.
	LogDirName = "logs"
)

// Cluster is the cluster being made.
type Cluster struct {
	Config   control.Config
	Network  *network.Network
	Nodes    []network.Node
	Programs *Programs

	authority *pki.Authority
	// Client and Dynamic are the administrator's.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	rest    *rest.Config
}

// serverURL is the API server inside.
func serverURL() string {
	return "https://" + net.JoinHostPort(network.APIServer, strconv.Itoa(network.APIServerPort))
}

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Config.RunDir}, elements...)...)
}

func (c *Cluster) asset(name string) string { return filepath.Join(c.Config.Assets, name) }

// PreparePKI makes the authority and the administrator's credentials.
func (c *Cluster) PreparePKI() error {
	authority, err := pki.NewAuthority(c.path("pki"))
	if err != nil {
		return err
	}
	c.authority = authority
	admin, err := authority.Issue(pki.Identity{Name: "admin", CommonName: "playground-admin", Organizations: []string{"system:masters"}})
	if err != nil {
		return err
	}
	outside := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Config.APIPort))
	for file, url := range map[string]string{KubeconfigFile: outside, InsideKubeconfigFile: serverURL()} {
		if err := authority.WriteKubeconfig(c.path(file), url, "admin", pki.Credentials{Pair: &admin}); err != nil {
			return err
		}
	}
	c.rest = &rest.Config{
		Host: serverURL(),
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: pki.ServerName, CAData: authority.CA(), CertData: admin.Cert, KeyData: admin.Key,
		},
		QPS: 200, Burst: 400, Timeout: 30 * time.Second,
	}
	if c.Client, err = kubernetes.NewForConfig(c.rest); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.rest); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return nil
}

// kubeconfig writes the kubeconfig of a component that proves itself by certificate, and returns its path.
func (c *Cluster) kubeconfig(name, user string, groups ...string) (string, error) {
	pair, err := c.authority.Issue(pki.Identity{Name: name, CommonName: user, Organizations: groups})
	if err != nil {
		return "", err
	}
	path := c.path("pki", name+".kubeconfig")
	return path, c.authority.WriteKubeconfig(path, serverURL(), user, pki.Credentials{Pair: &pair})
}

// get reads a path of the API server, such as /readyz.
func (c *Cluster) get(ctx context.Context, path string) error {
	return c.Client.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Error()
}
