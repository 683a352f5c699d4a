package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/test/peers/controlplane"
)

// namespace of all Services.
const namespace = "bench"

// fleet makes Nodes and Services, and watches which Services have an address.
type fleet struct {
	client kubernetes.Interface

	mu sync.Mutex
	// served is whether each Service that there is has an address.
	served map[string]bool
	with   int // an address
	// changed is when one last got an address, or went.
	changed time.Time
}

// watch begins to follow the Services, until ctx ends.
func watch(ctx context.Context, client kubernetes.Interface) (*fleet, error) {
	f := &fleet{client: client, served: map[string]bool{}}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Services().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    f.seen,
		UpdateFunc: func(_, object any) { f.seen(object) },
		DeleteFunc: f.gone,
	})
	if err != nil {
		return nil, fmt.Errorf("watching Services: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, errors.New("watching Services: the watch did not begin")
	}
	return f, nil
}

func (f *fleet) seen(object any) {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := len(svc.Status.LoadBalancer.Ingress) > 0
	if now && !f.served[svc.Name] {
		f.with++
		f.changed = time.Now()
	}
	f.served[svc.Name] = now || f.served[svc.Name]
}

func (f *fleet) gone(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	svc, ok := object.(*corev1.Service)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.served[svc.Name] {
		f.with--
	}
	delete(f.served, svc.Name)
	f.changed = time.Now()
}

// all is when the last of n Services got its address, or the last of all went where n is 0; an error before that.
func (f *fleet) all(n int) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.served) != n || f.with != n {
		return time.Time{}, fmt.Errorf("of %d Services %d have an address, want %d", len(f.served), f.with, n)
	}
	return f.changed, nil
}

func serviceName(n int) string { return fmt.Sprintf("web-%04d", n) }

// create makes Services of one port each, with numbers from first on.
func (f *fleet) create(ctx context.Context, first, count int) error {
	operations := make([]controlplane.Operation, count)
	for i := range operations {
		operations[i] = func(ctx context.Context) error {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceName(first + i)}, Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
			_, err := f.client.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
			return err
		}
	}
	if err := controlplane.InParallel(ctx, operations); err != nil {
		return fmt.Errorf("creating Services: %w", err)
	}
	return nil
}

// remove deletes them.
func (f *fleet) remove(ctx context.Context, first, count int) error {
	operations := make([]controlplane.Operation, count)
	for i := range operations {
		operations[i] = func(ctx context.Context) error {
			return f.client.CoreV1().Services(namespace).Delete(ctx, serviceName(first+i), metav1.DeleteOptions{})
		}
	}
	if err := controlplane.InParallel(ctx, operations); err != nil {
		return fmt.Errorf("deleting Services: %w", err)
	}
	return nil
}

func nodeName(n int) string    { return fmt.Sprintf("node-%03d", n) }
func nodeAddress(n int) string { return fmt.Sprintf("172.30.0.%d", n+1) }

// addNode makes a Node as a kubelet registers it, with its address.
func (f *fleet) addNode(ctx context.Context, n int) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(n)}, Spec: corev1.NodeSpec{ProviderID: "fake:///" + nodeName(n)},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress(n)}}}}
	if _, err := f.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{FieldManager: "kubelet"}); err != nil {
		return fmt.Errorf("creating a Node: %w", err)
	}
	return nil
}

func (f *fleet) removeNode(ctx context.Context, n int) error {
	if err := f.client.CoreV1().Nodes().Delete(ctx, nodeName(n), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting a Node: %w", err)
	}
	return nil
}

// prepare makes the namespace and the Nodes.
func (f *fleet) prepare(ctx context.Context, nodes int) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := f.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the namespace: %w", err)
	}
	for n := range nodes {
		if err := f.addNode(ctx, n); err != nil {
			return err
		}
	}
	return nil
}
