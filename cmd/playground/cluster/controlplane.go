package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/pki"
)

// startLimit is how long one part may take to come up before it is given up: a cold disk and two busy cores fit.
const startLimit = 2 * time.Minute

// withoutOurs is the controller manager's list of controllers less those that Fairlead replaces.
const withoutOurs = "*,bootstrapsigner,tokencleaner,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"

const etcdURL = "http://127.0.0.1:2379"

// StartAPIServer starts etcd and the API server and waits until the API is served.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	serving, err := c.authority.Issue(pki.Identity{
		Name: "kube-apiserver", CommonName: "kube-apiserver",
		Hosts: []string{
			"kubernetes", "kubernetes.default", pki.ServerName, "kubernetes.default.svc.cluster.local", "localhost",
			"127.0.0.1", network.APIServer, "10.96.0.1", "fd00:96::1",
		},
	})
	if err != nil {
		return err
	}
	toKubelets, err := c.authority.Issue(pki.Identity{Name: "kube-apiserver-kubelet-client", CommonName: kubeletClientUser})
	if err != nil {
		return err
	}
	tokens, err := c.authority.KeyPair("service-accounts")
	if err != nil {
		return err
	}
	c.Programs.Run(ctx, "etcd", c.Network.Root, c.asset("etcd"),
		"--name=playground", "--data-dir=/run/etcd",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		// A single member still wants an address for its peers.
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=playground=http://127.0.0.1:2380",
		// What is written must not outlive the playground.
		"--unsafe-no-fsync", "--log-level=warn")
	c.Programs.Run(ctx, "kube-apiserver", c.Network.Root, c.asset("kube-apiserver"),
		"--advertise-address="+network.APIServer, "--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", network.APIServerPort),
		"--etcd-servers="+etcdURL,
		"--service-cluster-ip-range="+network.ServiceCIDRs, "--service-node-port-range=30000-32767",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--client-ca-file="+c.authority.CAFile(), "--tls-cert-file="+serving.CertFile, "--tls-private-key-file="+serving.KeyFile,
		// Nobody is in front of this API server, but those behind it look for the authority of such a one.
		"--requestheader-client-ca-file="+c.authority.CAFile(), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--kubelet-certificate-authority="+c.authority.CAFile(), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate="+toKubelets.CertFile, "--kubelet-client-key="+toKubelets.KeyFile,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+tokens.CertFile, "--service-account-signing-key-file="+tokens.KeyFile)
	return c.Programs.await(ctx, "kube-apiserver", func(ctx context.Context) (bool, error) {
		err := c.get(ctx, "/readyz")
		return err == nil, err
	})
}

// StartControllers starts the controller manager and the scheduler. Nothing waits for them: nodes and Pods show that
// they work.
func (c *Cluster) StartControllers(ctx context.Context) error {
	manager, err := c.kubeconfig("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	scheduler, err := c.kubeconfig("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	c.Programs.Run(ctx, "kube-controller-manager", c.Network.Root, c.asset("kube-controller-manager"),
		"--kubeconfig="+manager, "--authentication-kubeconfig="+manager, "--authorization-kubeconfig="+manager,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
		"--controllers="+withoutOurs,
		"--allocate-node-cidrs=true", "--cluster-cidr="+network.PodCIDRs, "--service-cluster-ip-range="+network.ServiceCIDRs,
		"--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64",
		"--root-ca-file="+c.authority.CAFile(), "--service-account-private-key-file="+c.path("pki", "service-accounts.key"),
		// The defaults are for a cluster that others use, too; here they cost 5 s of the start.
		"--kube-api-qps=300", "--kube-api-burst=600")
	c.Programs.Run(ctx, "kube-scheduler", c.Network.Root, c.asset("kube-scheduler"),
		"--kubeconfig="+scheduler, "--authentication-kubeconfig="+scheduler, "--authorization-kubeconfig="+scheduler,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--kube-api-qps=300", "--kube-api-burst=600")
	return nil
}

// kubeletClientUser is whom the API server is to the kubelets.
const kubeletClientUser = "kube-apiserver-kubelet-client"
