package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// server is an API server, on the loopback of the tests' own namespace.
type server struct {
	client     kubernetes.Interface
	host       string // address and port
	kubeconfig string // file
	// written are the objects of the case that is being run, by kind and name; node is this node's.
	written map[string]conformance.Object
	node    *corev1.Node
}

// startServer starts etcd and kube-apiserver, dual stack, and makes this node's Node. They end with the test.
func startServer(t *testing.T) *server {
	t.Helper()
	environment := &envtest.Environment{ControlPlaneStartTimeout: patience, ControlPlaneStopTimeout: patience}
	var ranges []string
	for _, f := range conformance.Families {
		ranges = append(ranges, f.ServiceCIDR().String())
	}
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", strings.Join(ranges, ",")).
		// There is no other address than loopback's, which it would not publish.
		Set("advertise-address", "127.0.0.1").
		Set("endpoint-reconciler-type", "none")
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	config, err := environment.Start()
	if err != nil {
		t.Fatalf("starting the API server: %v", err)
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	s := &server{host: strings.TrimPrefix(config.Host, "https://"), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"),
		written: map[string]conformance.Object{}, node: conformance.NewNode()}
	s.host = strings.Trim(strings.TrimPrefix(s.host, "http://"), "/")
	user, err := environment.AddUser(envtest.User{Name: "proxy", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if err := s.putNode(t.Context(), s.node); err != nil {
		t.Fatal(err)
	}
	return s
}

// network makes a network in whose node the API server can be reached.
func (s *server) network(t *testing.T) *conformance.Network {
	t.Helper()
	n := conformance.NewNetwork(t)
	s.forward(t, n)
	return n
}

// forward lets programs in the node reach the API server at its own address.
func (s *server) forward(t *testing.T, network *conformance.Network) {
	t.Helper()
	var listener net.Listener
	if err := network.InNode(func() (err error) {
		listener, err = net.Listen("tcp", s.host)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = from.Close() }()
				to, err := net.DialTimeout("tcp", s.host, patience)
				if err != nil {
					return // the client tries again
				}
				defer func() { _ = to.Close() }()
				go func() {
					_, _ = io.Copy(to, from)
					_ = to.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(from, to)
			}()
		}
	}()
}

// putMarker is put for what stays over all cases.
func (s *server) putMarker(ctx context.Context, o conformance.Object) error {
	defer delete(s.written, key(o))
	return s.put(ctx, o)
}

// step writes what a step of a case changes.
func (s *server) step(ctx context.Context, step *conformance.Step) error {
	if step.Node != nil {
		step.Node(s.node)
		if err := s.putNode(ctx, s.node); err != nil {
			return err
		}
	}
	for _, o := range step.Apply {
		if err := s.put(ctx, o); err != nil {
			return err
		}
	}
	for _, o := range step.Delete {
		if err := s.remove(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// reset takes away what the last case left.
func (s *server) reset(ctx context.Context) error {
	for _, o := range s.written {
		if err := s.remove(ctx, o); err != nil {
			return err
		}
	}
	if node := conformance.NewNode(); !equality.Semantic.DeepEqual(node, s.node) {
		s.node = node
		return s.putNode(ctx, node)
	}
	return nil
}

func key(o conformance.Object) string { return fmt.Sprintf("%T %s", o, o.GetName()) }

// put creates or replaces an object, with its status.
func (s *server) put(ctx context.Context, o conformance.Object) error {
	s.written[key(o)] = o
	var err error
	// What a Service had that was deleted a moment ago may still be taken.
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		switch o := o.(type) {
		case *corev1.Service:
			err = s.putService(ctx, o)
		case *discoveryv1.EndpointSlice:
			err = write(ctx, s.client.DiscoveryV1().EndpointSlices(o.Namespace), o)
		case *networkingv1.ServiceCIDR:
			err = write(ctx, s.client.NetworkingV1().ServiceCIDRs(), o)
		default:
			err = errors.New("no case has it")
		}
		if err == nil || !strings.Contains(err.Error(), "already allocated") || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", key(o), err)
	}
	return nil
}

// kind is a client of one kind.
type kind[T any] interface {
	Create(ctx context.Context, o T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error)
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
}

// object is what write needs of one.
type object[T any] interface {
	metav1.Object
	DeepCopy() T
}

// write creates an object or replaces the one of its name. It looks first: a Service that is there already would be refused
// for its address before its name.
func write[T object[T]](ctx context.Context, client kind[T], o T) error {
	old, err := client.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, o.DeepCopy(), metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	next := o.DeepCopy()
	next.SetResourceVersion(old.GetResourceVersion())
	next.SetUID(old.GetUID())
	_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

func (s *server) putService(ctx context.Context, svc *corev1.Service) error {
	services := s.client.CoreV1().Services(svc.Namespace)
	if err := write(ctx, services, svc); err != nil {
		return err
	}
	now, err := services.Get(ctx, svc.Name, metav1.GetOptions{})
	if err != nil || equality.Semantic.DeepEqual(now.Status.LoadBalancer, svc.Status.LoadBalancer) {
		return err
	}
	now.Status.LoadBalancer = svc.Status.LoadBalancer
	_, err = services.UpdateStatus(ctx, now, metav1.UpdateOptions{})
	return err
}

func (s *server) putNode(ctx context.Context, node *corev1.Node) error {
	nodes := s.client.CoreV1().Nodes()
	if err := write(ctx, nodes, node); err != nil {
		return fmt.Errorf("writing the Node: %w", err)
	}
	now, err := nodes.Get(ctx, node.Name, metav1.GetOptions{})
	if err == nil {
		now.Status = node.Status
		_, err = nodes.UpdateStatus(ctx, now, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("writing the Node's status: %w", err)
	}
	return nil
}

// remove deletes an object; one that is gone is fine.
func (s *server) remove(ctx context.Context, o conformance.Object) error {
	delete(s.written, key(o))
	var err error
	switch o := o.(type) {
	case *corev1.Service:
		err = s.client.CoreV1().Services(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})
	case *discoveryv1.EndpointSlice:
		err = s.client.DiscoveryV1().EndpointSlices(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})
	case *networkingv1.ServiceCIDR:
		err = s.client.NetworkingV1().ServiceCIDRs().Delete(ctx, o.Name, metav1.DeleteOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", key(o), err)
	}
	return nil
}
