package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/test/peers/controlplane"
)

const (
	// namespaceAll has all Services but the one that is made last, which is alone in namespaceLast, so that it is the
	// last by name, too.
	namespaceAll, namespaceLast = "bench", "zz-last"
	// numberAnnotation tells events apart.
	numberAnnotation = "bench.fairlead.dev/number"
	nodeName         = "node"
)

// Size is how many Services there are, and how many endpoints each has.
type Size struct{ Services, Endpoints int }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Services, s.Endpoints) }

// fleet are the objects that both peers are shown. The Services 0 to size.Services-1 are all alike, of TCP; the last one,
// of UDP and for the stream, is measured.
type fleet struct {
	client kubernetes.Interface
	etcd   string // the API server's, by URL
	size   Size

	mu sync.Mutex
	// moved are the Services whose first endpoint has its other address.
	moved map[int]bool
	// number is of the last write to the last Service's slice.
	number int
}

// serviceAddress is where a Service is, by its cluster IP.
func (f *fleet) serviceAddress(n int) netip.Addr { return offset(serviceRange, 1<<16+n) }

func (f *fleet) service(n int) netip.AddrPort {
	return netip.AddrPortFrom(f.serviceAddress(n), servicePort)
}

func (f *fleet) last(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(f.serviceAddress(f.size.Services), port)
}

// endpoint is the address of one; each has another for when it moves.
func (f *fleet) endpoint(service, n int, moved bool) netip.Addr {
	at := 1<<16 + service*f.size.Endpoints + n
	if moved {
		at += 1 << 19
	}
	return offset(endpointRange, at)
}

// target is an endpoint as it is reached without a Service.
func (f *fleet) target(service int) netip.AddrPort {
	return netip.AddrPortFrom(f.endpoint(service, f.size.Endpoints-1, false), targetPort)
}

// offset is the nth address of an IPv4 range.
func offset(within string, n int) netip.Addr {
	a := netip.MustParsePrefix(within).Addr().As4()
	at := int(a[0])<<24 + int(a[1])<<16 + int(a[2])<<8 + int(a[3]) + n
	return netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
}

func place(service int, size Size) (namespace, name string) {
	if service == size.Services {
		return namespaceLast, "last"
	}
	return namespaceAll, fmt.Sprintf("service-%d", service)
}

func (f *fleet) newService(n int) *corev1.Service {
	namespace, name := place(n, f.size)
	ports := []corev1.ServicePort{{Name: "http", Port: servicePort, TargetPort: intstr.FromInt32(targetPort)}}
	if n == f.size.Services {
		ports = []corev1.ServicePort{
			{Name: "stream", Port: streamPort, TargetPort: intstr.FromInt32(streamTargetPort)},
			{Name: "probes", Port: udpPort, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(udpTargetPort)},
		}
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}},
		Spec:       corev1.ServiceSpec{ClusterIP: f.serviceAddress(n).String(), Ports: ports},
	}
}

// newSlice is the Service's slice as it is to be.
func (f *fleet) newSlice(n int) *discoveryv1.EndpointSlice {
	f.mu.Lock()
	defer f.mu.Unlock()
	namespace, name := place(n, f.size)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](targetPort), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	if n == f.size.Services {
		slice.Annotations = map[string]string{numberAnnotation: fmt.Sprint(f.number)}
		slice.Ports = []discoveryv1.EndpointPort{
			{Name: ptr.To("stream"), Port: ptr.To[int32](streamTargetPort), Protocol: ptr.To(corev1.ProtocolTCP)},
			{Name: ptr.To("probes"), Port: ptr.To[int32](udpTargetPort), Protocol: ptr.To(corev1.ProtocolUDP)},
		}
	}
	for e := range f.size.Endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{f.endpoint(n, e, e == 0 && f.moved[n]).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(fmt.Sprintf("worker-%d", e)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, e)},
		})
	}
	return slice
}

// create makes the Node and all Services with their slices, the last one last.
func (f *fleet) create(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName}}}
	node, err := f.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating the Node: %w", err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	if _, err := f.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the Node's status: %w", err)
	}
	for _, name := range []string{namespaceAll, namespaceLast} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := f.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	if err := f.createService(ctx, 0); err != nil {
		return err
	}
	if err := f.copyFirst(ctx); err != nil {
		return err
	}
	operations := make([]controlplane.Operation, f.size.Services)
	for n := range operations {
		operations[n] = func(ctx context.Context) error { return f.createSlice(ctx, n) }
	}
	if err := controlplane.InParallel(ctx, operations); err != nil {
		return err
	}
	if err := f.createService(ctx, f.size.Services); err != nil {
		return err
	}
	return f.createSlice(ctx, f.size.Services)
}

func (f *fleet) createService(ctx context.Context, n int) error {
	svc := f.newService(n)
	if _, err := f.client.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating Service: %w", err)
	}
	return nil
}

func (f *fleet) createSlice(ctx context.Context, n int) error {
	slice := f.newSlice(n)
	if _, err := f.client.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating EndpointSlice: %w", err)
	}
	return nil
}

// move gives a Service's first endpoint its other address and returns that.
func (f *fleet) move(ctx context.Context, n int) error {
	f.mu.Lock()
	f.moved[n] = !f.moved[n]
	f.mu.Unlock()
	slice := f.newSlice(n)
	if _, err := f.client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing EndpointSlice: %w", err)
	}
	return nil
}

// moveLast moves that of the last Service; expect is told the number of the write and the new address before it is sent.
func (f *fleet) moveLast(ctx context.Context, expect func(number int, to netip.Addr)) error {
	f.mu.Lock()
	f.number++
	number, to := f.number, f.endpoint(f.size.Services, 0, !f.moved[f.size.Services])
	f.mu.Unlock()
	expect(number, to)
	return f.move(ctx, f.size.Services)
}

// watchLast watches the last Service's slice until ctx ends. Of each number it tells when the event was there, decoded.
func (f *fleet) watchLast(ctx context.Context) (<-chan event, error) {
	namespace, name := place(f.size.Services, f.size)
	one := fields.OneTermEqualSelector(metav1.ObjectNameField, name+"-1").String()
	w, err := f.client.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: one})
	if err != nil {
		return nil, fmt.Errorf("watching the EndpointSlice: %w", err)
	}
	events := make(chan event, 1024)
	go func() {
		defer close(events)
		for e := range w.ResultChan() {
			now := time.Now()
			slice, ok := e.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				events <- event{err: fmt.Errorf("watching the EndpointSlice: %w", apierrors.FromObject(e.Object))}
				return
			}
			events <- event{number: slice.Annotations[numberAnnotation], at: now}
		}
		if ctx.Err() == nil {
			events <- event{err: errors.New("the watch of the EndpointSlice has ended")}
		}
	}()
	return events, nil
}

// event is one of the last Service's slice, or the end of the watch.
type event struct {
	number string
	at     time.Time
	err    error
}
