package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// Namespaces names the namespaces and what they stand for. Those of Pods are told by their addresses.
func (c *Cluster) Namespaces() ([]control.Namespace, error) {
	names, err := network.Names()
	if err != nil {
		return nil, err
	}
	what := map[string]string{
		network.RootName:     "control plane, manager, the nodes' bridge",
		network.CloudName:    "the cloud's router and load balancers",
		network.InternetName: "a client outside",
	}
	for _, n := range c.Nodes {
		what[n.Namespace()] = "node " + n.Name + " in " + n.Zone
	}
	pods := c.podsByAddress()
	var all []control.Namespace
	for _, name := range names {
		if strings.HasPrefix(name, network.PodPrefix) {
			addresses, err := network.Addresses(name)
			if errors.Is(err, os.ErrNotExist) {
				continue // it ended meanwhile
			}
			if err != nil {
				return nil, err
			}
			for _, a := range addresses {
				if pod, ok := pods[a]; ok {
					what[name] = "Pod " + pod
				}
			}
		}
		all = append(all, control.Namespace{Name: name, What: what[name]})
	}
	return all, nil
}

// podsByAddress is as complete as the API server is reachable: a list of namespaces without Pods' names is better than
// none.
func (c *Cluster) podsByAddress() map[netip.Addr]string {
	if c.Client == nil {
		return nil // it is too early
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	byAddress := map[netip.Addr]string{}
	for _, pod := range pods.Items {
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil && !pod.Spec.HostNetwork {
			byAddress[ip] = fmt.Sprintf("%s/%s on %s", pod.Namespace, pod.Name, pod.Spec.NodeName)
		}
	}
	return byAddress
}
