package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/cmd/playground/kubelet"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/pki"
)

// fixedKubeletDir is where every kubelet puts its device plugins' socket, whatever its --root-dir.
const fixedKubeletDir = "/var/lib/kubelet"

// nodePath is a path in a node's own folder.
func (c *Cluster) nodePath(n network.Node, elements ...string) string {
	return c.path(append([]string{"nodes", n.Name}, elements...)...)
}

func (c *Cluster) runtimeSocket(n network.Node) string { return c.nodePath(n, "cri.sock") }

func addresses(n network.Node) []string {
	return []string{n.Addresses[0].Addr().String(), n.Addresses[1].Addr().String()}
}

// StartRuntimes gives every node its mounts and starts its container runtime, which needs no API server.
func (c *Cluster) StartRuntimes(ctx context.Context) error {
	if err := os.MkdirAll(fixedKubeletDir, 0o755); err != nil {
		return fmt.Errorf("making the kubelets' folder: %w", err)
	}
	for _, n := range c.Nodes {
		ns := c.Network.Nodes[n.Name]
		if err := ns.PrivateMounts(); err != nil {
			return err
		}
		err := ns.Do(func() error {
			if err := unix.Mount("tmpfs", fixedKubeletDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
				return fmt.Errorf("mounting the kubelet's folder of %s: %w", n.Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := os.MkdirAll(c.nodePath(n), 0o700); err != nil {
			return fmt.Errorf("making the folder of %s: %w", n.Name, err)
		}
		args := []string{
			"/proc/self/exe", "cri", "--socket=" + c.runtimeSocket(n), "--node=" + n.Name, "--zone=" + n.Zone,
			"--root=" + c.nodePath(n, "runtime"), "--netns-dir=" + network.Dir, "--netns-prefix=" + network.PodPrefix,
		}
		for _, a := range addresses(n) {
			args = append(args, "--node-ips="+a)
		}
		if c.Config.Images != "" {
			args = append(args, "--images="+c.Config.Images)
		}
		c.Programs.Run(ctx, "cri-"+n.Name, ns, args...)
	}
	return nil
}

// StartKubelets starts the nodes' kubelets.
func (c *Cluster) StartKubelets(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := c.startKubelet(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startKubelet(ctx context.Context, n network.Node) error {
	kubeconfig, err := c.kubeconfig("kubelet-"+n.Name, "system:node:"+n.Name, "system:nodes")
	if err != nil {
		return err
	}
	serving, err := c.authority.Issue(pki.Identity{
		Name: "kubelet-" + n.Name + "-serving", CommonName: "system:node:" + n.Name, Hosts: append(addresses(n), n.Name),
	})
	if err != nil {
		return err
	}
	options := kubelet.Options{
		Name: n.Name, NodeIPs: addresses(n), ProviderID: n.ProviderID(),
		Labels:     map[string]string{corev1.LabelTopologyZone: n.Zone},
		ConfigFile: c.nodePath(n, "kubelet.yaml"), Kubeconfig: kubeconfig, Socket: c.runtimeSocket(n),
		Root: c.nodePath(n), ClientCAFile: c.authority.CAFile(),
	}
	config, err := kubelet.Config(options)
	if err != nil {
		return err
	}
	if err := os.WriteFile(options.ConfigFile, config, 0o600); err != nil {
		return fmt.Errorf("writing the kubelet's configuration: %w", err)
	}
	args := append([]string{c.asset("kubelet")}, kubelet.Flags(options)...)
	// A certificate of the cluster's authority, so that the API server knows whom it asks for logs.
	args = append(args, "--tls-cert-file="+serving.CertFile, "--tls-private-key-file="+serving.KeyFile)
	c.Programs.Run(ctx, "kubelet-"+n.Name, c.Network.Nodes[n.Name], args...)
	return nil
}

// RoutePods watches nodes and leads each one's Pod networks to it, as a cloud's route controller would.
func (c *Cluster) RoutePods(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(c.Client, 0)
	route := func(object any) {
		node, ok := object.(*corev1.Node)
		if !ok {
			return
		}
		at := slices.IndexFunc(c.Nodes, func(n network.Node) bool { return n.Name == node.Name })
		cidrs, err := prefixes(node.Spec.PodCIDRs)
		if err == nil && at >= 0 {
			err = c.Network.RoutePods(c.Nodes[at], cidrs)
		}
		if err != nil {
			c.Programs.Notice(fmt.Sprintf("Pods of %s cannot be reached from other nodes: %v", node.Name, err))
		}
	}
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: route, UpdateFunc: func(_, object any) { route(object) },
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	factory.Start(ctx.Done())
	return nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("reading a Pod network: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// AwaitNodes waits until all nodes are ready and have their Pod networks.
func (c *Cluster) AwaitNodes(ctx context.Context) error {
	return c.Programs.await(ctx, "nodes", func(ctx context.Context) (bool, error) {
		list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		if len(list.Items) < len(c.Nodes) {
			return false, fmt.Errorf("%d of %d have registered", len(list.Items), len(c.Nodes))
		}
		for _, n := range list.Items {
			if err := nodeReady(&n); err != nil {
				return false, fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		return true, nil
	})
}

func nodeReady(n *corev1.Node) error {
	if len(n.Spec.PodCIDRs) < 2 {
		return errors.New("has no Pod networks yet")
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
			return errors.New(condition.Message)
		}
		if condition.Type == corev1.NodeReady {
			return nil
		}
	}
	return errors.New("has not said anything yet")
}
