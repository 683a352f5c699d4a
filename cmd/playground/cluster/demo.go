package cluster

import (
	"context"
	_ "embed" // the manifest
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/table"
)

//go:embed demo.yaml
var demoManifest []byte

// Demo deploys the demonstration, waits until all of it serves, and returns what can be reached of it: from outside, and
// by whom inside.
func (c *Cluster) Demo(ctx context.Context) ([]control.Target, []table.Client, error) {
	objects, err := decode(demoManifest)
	if err != nil {
		return nil, nil, err
	}
	// Pods are refused until their namespace has its service account.
	err = c.Programs.await(ctx, "the default service account", func(ctx context.Context) (bool, error) {
		_, err := c.Client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := c.apply(ctx, objects); err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"web", "client"} {
		err := c.Programs.await(ctx, "Deployment "+name, func(ctx context.Context) (bool, error) {
			d, err := c.Client.AppsV1().Deployments(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			return d.Status.AvailableReplicas == *d.Spec.Replicas, available(d)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	web, err := c.awaitBalanced(ctx, "web")
	if err != nil {
		return nil, nil, err
	}
	local, err := c.awaitBalanced(ctx, "web-local")
	if err != nil {
		return nil, nil, err
	}
	client, err := c.clientPod(ctx)
	if err != nil {
		return nil, nil, err
	}
	n1, internet := c.Nodes[0], network.InternetName
	nodePort := join(n1.Addresses[0].Addr().String(), web.Spec.Ports[0].NodePort)
	targets := []control.Target{
		{Label: "web, ClusterIP", Namespace: n1.Namespace(), Address: join(web.Spec.ClusterIP, 80)},
		{Label: "web, NodePort of n1", Namespace: internet, Address: nodePort},
		{Label: "web, LoadBalancer", Namespace: internet, Address: join(ingress(web), 80)},
		{Label: "web-local, LoadBalancer", Namespace: internet, Address: join(ingress(local), 80)},
	}
	clients := []table.Client{
		{Name: "Pod " + client.name, Namespace: client.namespace, Via: "ClusterIP", Address: targets[0].Address},
		{Name: "node n1", Namespace: n1.Namespace(), Via: "ClusterIP", Address: targets[0].Address},
		{Name: "internet", Namespace: internet, Via: "NodePort of n1", Address: targets[1].Address},
		{Name: "internet", Namespace: internet, Via: "LoadBalancer", Address: targets[2].Address},
		{Name: "internet", Namespace: internet, Via: "LoadBalancer, Local", Address: targets[3].Address},
	}
	return targets, clients, nil
}

func available(d *appsv1.Deployment) error {
	return fmt.Errorf("%d of %d Pods are available", d.Status.AvailableReplicas, *d.Spec.Replicas)
}

func join(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

func ingress(s *corev1.Service) string { return s.Status.LoadBalancer.Ingress[0].IP }

// awaitBalanced waits until a Service has its balancer's address and answers there.
func (c *Cluster) awaitBalanced(ctx context.Context, name string) (service *corev1.Service, err error) {
	err = c.Programs.await(ctx, "an answer from the balancer of Service "+name, func(ctx context.Context) (bool, error) {
		service, err = c.Client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if len(service.Status.LoadBalancer.Ingress) == 0 {
			return false, errors.New("it has no address yet")
		}
		return healthy(ctx, network.InternetName, "http://"+join(ingress(service), 80)+"/")
	})
	return service, err
}

type podClient struct{ name, namespace string }

// clientPod finds the demonstration's client and its network namespace.
func (c *Cluster) clientPod(ctx context.Context) (podClient, error) {
	pods, err := c.Client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=client"})
	if err != nil {
		return podClient{}, fmt.Errorf("finding the client Pod: %w", err)
	}
	for _, pod := range pods.Items {
		ip, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil {
			continue // not started yet
		}
		namespace, err := network.PodNamespace(ip)
		if err != nil {
			return podClient{}, err
		}
		return podClient{name: pod.Name + " on " + pod.Spec.NodeName, namespace: namespace}, nil
	}
	return podClient{}, errors.New("finding the client Pod: it is gone")
}
