package nodeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fairlead/fairlead/portalloc"
)

// shapedKind is a kind with the shape of a Service, which no allocator of the API server knows.
var shapedKind = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Service"}

func shapedCRD() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "services.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: shapedKind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "services", Kind: shapedKind.Kind},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: shapedKind.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {Type: "object", XPreserveUnknownFields: ptr.To(true)}}}}}}}}
}

// shaped numbers such Services: it is the only allocator that they have.
type shaped struct {
	client.Client
	pool     portalloc.Pool
	prefix   netip.Prefix
	failed   error // of the last pass, what could not be numbered
	writings int
	// dieAt is the write before which the process ends; 0: none.
	dieAt int
}

var errDied = errors.New("died")

// pass builds ledger and addresses from what is stored, numbers what lacks something and mends duplicates.
func (s *shaped) pass(ctx context.Context) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(shapedKind)
	if err := s.List(ctx, list); err != nil {
		return err
	}
	var services []*corev1.Service
	addresses, err := portalloc.NewAddresses(s.prefix)
	if err != nil {
		return err
	}
	for i := range list.Items {
		svc := &corev1.Service{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, svc); err != nil {
			return err
		}
		services = append(services, svc)
		if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
			if err := addresses.Reserve(ip); err != nil {
				return fmt.Errorf("two have one address: %w", err)
			}
		}
	}
	now := time.Now()
	ledger := portalloc.Rebuild(portalloc.DefaultRange, []portalloc.Pool{s.pool}, services, nil, now)
	loser := map[portalloc.Key]int{}
	for _, d := range ledger.Duplicates() {
		for _, key := range d.Services[1:] {
			loser[key] = d.Port
		}
	}
	s.failed = nil
	for i, svc := range services {
		key := portalloc.KeyOf(svc)
		if port := loser[key]; port != 0 {
			for j := range svc.Spec.Ports {
				if int(svc.Spec.Ports[j].NodePort) == port {
					svc.Spec.Ports[j].NodePort = 0
				}
			}
		}
		given, err := ledger.Assign(portalloc.Request{Service: svc, Pools: []string{s.pool.Name}, NodePorts: true}, now, rand.IntN)
		if err != nil {
			s.failed = err
			continue
		}
		if given.Empty() && svc.Spec.ClusterIP != "" {
			continue
		}
		given.Apply(svc)
		if svc.Spec.ClusterIP == "" {
			ip, err := addresses.Allocate(rand.Uint64N)
			if err != nil {
				return err
			}
			svc.Spec.ClusterIP = ip.String()
		}
		if s.writings++; s.writings == s.dieAt {
			return errDied
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(svc)
		if err != nil {
			return err
		}
		list.Items[i].Object["spec"] = object["spec"]
		// The resourceVersion of what was read: who wrote meanwhile, wins.
		switch err := s.Update(ctx, &list.Items[i]); {
		case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
			ledger.Withdraw(key)
		case err != nil:
			return err
		default:
			ledger.Set(svc, now)
		}
	}
	return nil
}

// TestWithoutAnAllocator: Services of a kind that the API server does not number get ports and addresses from the library
// alone, while others write to them, whenever the process ends, and duplicates are mended.
func TestWithoutAnAllocator(t *testing.T) {
	w := newWorld(t, first)
	_, err := envtest.InstallCRDs(w.Config, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{shapedCRD()}})
	w.Must(err)
	t.Cleanup(func() { // their ports are the next run's
		all := &unstructured.Unstructured{}
		all.SetGroupVersionKind(shapedKind)
		w.Must(w.DeleteAllOf(context.Background(), all, client.InNamespace(w.Namespace)))
	})
	const count = 40
	s := &shaped{Client: w.Client, pool: portalloc.Pool{Name: "all", Ranges: portalloc.Ranges{{First: 31000, Last: 31000 + count - 1}}},
		prefix: netip.MustParsePrefix("10.96.0.0/26")}
	create := func(name string, port int64) {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"type": "NodePort", "ports": []any{
			map[string]any{"name": "dns", "port": int64(53), "protocol": "UDP", "nodePort": port},
			map[string]any{"name": "dns-tcp", "port": int64(53), "protocol": "TCP", "nodePort": port}}}}}
		u.SetGroupVersionKind(shapedKind)
		u.SetNamespace(w.Namespace)
		u.SetName(name)
		w.Must(w.Create(t.Context(), u))
		for i := range 3 { // whoever writes, too, makes conflicts
			patch := fmt.Sprintf(`{"metadata":{"annotations":{"edit":"%d"}}}`, i)
			w.Must(w.Patch(t.Context(), u, client.RawPatch(types.MergePatchType, []byte(patch))))
		}
	}
	var clients sync.WaitGroup
	for i := range count {
		clients.Go(func() { create(fmt.Sprint("s", i), int64(i%4/3*31005)) }) // each fourth names the same port
	}
	// The process ends before its n-th write, and another one goes on.
	for n := 1; n < 12; n++ {
		s.writings, s.dieAt = 0, n
		if err := s.pass(t.Context()); err != nil && !errors.Is(err, errDied) {
			t.Fatal(err)
		}
	}
	s.dieAt = 0
	clients.Wait()
	w.Eventually(func() error {
		w.Must(s.pass(t.Context()))
		before := s.writings
		w.Must(s.pass(t.Context()))
		if s.writings != before || s.failed != nil {
			return fmt.Errorf("a pass still wrote, or failed: %w", s.failed)
		}
		return nil
	})
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(shapedKind)
	w.Must(w.List(t.Context(), list))
	ports, ips := map[int32]string{}, map[string]string{}
	for _, u := range list.Items {
		svc := &corev1.Service{}
		w.Must(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, svc))
		udp, tcp := svc.Spec.Ports[0].NodePort, svc.Spec.Ports[1].NodePort
		if udp != tcp || ports[udp] != "" || udp < 31000 || udp >= 31000+count || ips[svc.Spec.ClusterIP] != "" || svc.Spec.ClusterIP == "" {
			t.Errorf("%s has %d, %d and %s beside %s and %s", svc.Name, udp, tcp, svc.Spec.ClusterIP, ports[udp], ips[svc.Spec.ClusterIP])
		}
		ports[udp], ips[svc.Spec.ClusterIP] = svc.Name, svc.Name
	}
	if len(ports) != count {
		t.Errorf("%d have ports", len(ports))
	}
	create("one-more", 0)
	w.Must(s.pass(t.Context()))
	if s.failed == nil || !strings.Contains(s.failed.Error(), `NodePortPool "all" is taken`) {
		t.Errorf("one more got %v", s.failed)
	}
}
