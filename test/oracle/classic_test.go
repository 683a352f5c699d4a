package oracle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/endpoint"

	"github.com/fairlead/fairlead/endpoints"
)

// classic asks kube-controller-manager's Endpoints controller what it would create. There never are any Endpoints for
// it, so that each pass creates them.
type classic struct {
	t        testing.TB
	indexers [2]cache.Indexer // Services, Pods
	handler  cache.ResourceEventHandler
	written  chan *corev1.Endpoints
	triggers map[types.NamespacedName]*endpoints.TriggerTimes
	members  map[types.NamespacedName]map[string]bool
}

func newClassic(t testing.TB, c *cluster) *classic {
	newIndexer := func() cache.Indexer {
		return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	}
	x := &classic{
		t: t, indexers: [2]cache.Indexer{newIndexer(), newIndexer()}, written: make(chan *corev1.Endpoints),
		triggers: map[types.NamespacedName]*endpoints.TriggerTimes{}, members: map[types.NamespacedName]map[string]bool{},
	}
	c.observers = append(c.observers, x)
	services := &informer{}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	controller := endpoint.NewEndpointController(ctx, podInformer{&informer{}, corelisters.NewPodLister(x.indexers[1])},
		serviceInformer{services, corelisters.NewServiceLister(x.indexers[0])},
		endpointsInformer{&informer{}, corelisters.NewEndpointsLister(newIndexer())}, classicClient{written: x.written}, 0)
	x.handler = services.handler
	done := make(chan struct{})
	go func() {
		controller.Run(ctx, 1)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return x
}

func (x *classic) service(old, now *corev1.Service) {
	if now == nil {
		_ = x.indexers[0].Delete(old)
		x.ask(old)
		delete(x.triggers, keyOf(old))
		delete(x.members, keyOf(old))
		return
	}
	_ = x.indexers[0].Add(now)
}

func (x *classic) pod(old, now *corev1.Pod) {
	if now == nil {
		_ = x.indexers[1].Delete(old)
		return
	}
	_ = x.indexers[1].Add(now)
}

func (x *classic) node(_, _ *corev1.Node) {}

// ask returns what upstream creates for a Service, or nil where it deletes.
func (x *classic) ask(service *corev1.Service) *corev1.Endpoints {
	x.t.Helper()
	x.handler.OnAdd(service, false)
	select {
	case written := <-x.written:
		return written
	case <-time.After(2 * time.Minute):
		x.t.Fatalf("the Endpoints controller does nothing for %s", keyOf(service))
		return nil
	}
}

// compare wants the same Endpoints of every Service upstream and ours.
func (x *classic) compare(c *cluster) {
	x.t.Helper()
	for _, key := range sortedKeys(c.services) {
		service := c.services[key]
		if !selected(service) {
			continue
		}
		if service.DeletionTimestamp != nil { // ours makes none any more: see TestClassicOfDeleted
			service = service.DeepCopy()
			service.DeletionTimestamp = nil
		}
		pods := podsOf(c, service)
		if x.triggers[key] == nil {
			x.triggers[key] = &endpoints.TriggerTimes{}
		}
		now := map[string]bool{}
		for _, pod := range pods {
			x.triggers[key].Note(pod)
			now[pod.Name] = true
		}
		for name := range x.members[key] {
			if !now[name] {
				x.triggers[key].Gone(name)
			}
		}
		x.members[key] = now
		want := showClassic(x.ask(service))
		got := showClassic(endpoints.Classic(service, pods, nil, x.triggers[key].Next(service)))
		if diff := cmp.Diff(want, got); diff != "" {
			x.t.Errorf("Endpoints of %s (-upstream +ours):\n%s", key, diff)
		}
	}
}

// showClassic names everything that an Endpoints object says, in an order of its own.
func showClassic(e *corev1.Endpoints) []string {
	lines := []string{fmt.Sprint("labels ", showLabels(e.Labels)), fmt.Sprint("annotations ", showLabels(e.Annotations))}
	var subsets []string
	for _, s := range e.Subsets {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprint(p.Name, " ", p.Port, " ", p.Protocol, " ", show(p.AppProtocol)))
		}
		slices.Sort(ports)
		var addresses []string
		for kind, list := range map[string][]corev1.EndpointAddress{"ready": s.Addresses, "not ready": s.NotReadyAddresses} {
			for _, a := range list {
				addresses = append(addresses, fmt.Sprintf("\n%s %s hostname %q node %s target %+v", kind, a.IP, a.Hostname, show(a.NodeName), *a.TargetRef))
			}
		}
		slices.Sort(addresses)
		subset := fmt.Sprintf("ports %q%s", ports, strings.Join(addresses, ""))
		subsets = append(subsets, subset)
	}
	slices.Sort(subsets)
	return append(lines, subsets...)
}

// informer hands out the handler that it was given.
type informer struct {
	cache.SharedIndexInformer
	handler cache.ResourceEventHandler
}

func (i *informer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	i.handler = h
	return nil, nil
}

func (i *informer) HasSynced() bool { return true }

type podInformer struct {
	informer *informer
	lister   corelisters.PodLister
}

func (i podInformer) Informer() cache.SharedIndexInformer { return i.informer }
func (i podInformer) Lister() corelisters.PodLister       { return i.lister }

type serviceInformer struct {
	informer *informer
	lister   corelisters.ServiceLister
}

func (i serviceInformer) Informer() cache.SharedIndexInformer { return i.informer }
func (i serviceInformer) Lister() corelisters.ServiceLister   { return i.lister }

type endpointsInformer struct {
	informer *informer
	lister   corelisters.EndpointsLister
}

func (i endpointsInformer) Informer() cache.SharedIndexInformer { return i.informer }
func (i endpointsInformer) Lister() corelisters.EndpointsLister { return i.lister }

var (
	_ coreinformers.PodInformer       = podInformer{}
	_ coreinformers.ServiceInformer   = serviceInformer{}
	_ coreinformers.EndpointsInformer = endpointsInformer{}
)

// classicClient shows what is written to it.
type classicClient struct {
	kubernetes.Interface
	written chan *corev1.Endpoints
}

func (c classicClient) CoreV1() coreclient.CoreV1Interface { return core{written: c.written} }

type core struct {
	coreclient.CoreV1Interface
	written chan *corev1.Endpoints
}

func (c core) Endpoints(string) coreclient.EndpointsInterface {
	return endpointsClient{written: c.written}
}

func (c core) Events(string) coreclient.EventInterface { return nil }

type endpointsClient struct {
	coreclient.EndpointsInterface
	written chan *corev1.Endpoints
}

func (c endpointsClient) Create(_ context.Context, e *corev1.Endpoints, _ metav1.CreateOptions) (*corev1.Endpoints, error) {
	c.written <- e
	return e, nil
}

func (c endpointsClient) Delete(context.Context, string, metav1.DeleteOptions) error {
	c.written <- nil
	return nil
}

// TestClassicOverCapacity: both cut Endpoints down to as many addresses, ready ones first; which ones of several sets
// of ports upstream leaves to a hash, so that ours takes any fair choice for right and does not write its own instead.
func TestClassicOverCapacity(t *testing.T) {
	for name, tc := range map[string]struct {
		port             intstr.IntOrString
		pods, everyOther int // of which one in everyOther is not ready
	}{
		"OneSet":        {port: intstr.FromInt32(8080), pods: 1150, everyOther: 7},
		"TwoSets":       {port: intstr.FromString("web"), pods: 1150, everyOther: 7},
		"TooManyReady":  {port: intstr.FromString("web"), pods: 1237, everyOther: 1000},
		"NoneReady":     {port: intstr.FromString("web"), pods: 1003, everyOther: 1},
		"ExactlyEnough": {port: intstr.FromString("web"), pods: 1000, everyOther: 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(&choices{})
			x := newClassic(t, c)
			service := newService()
			service.Spec.Ports[0].TargetPort = tc.port
			c.putService(service)
			for i := range tc.pods {
				pod := newPod(fmt.Sprint("pod-", i+1))
				pod.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{
					{Name: "web", ContainerPort: int32(8080 + i%5/3), Protocol: corev1.ProtocolTCP},
				}}}
				c.setReady(pod, i%tc.everyOther != 0)
				c.putPod(pod)
			}
			pods := podsOf(c, service)
			theirs := x.ask(service)
			ours := endpoints.Classic(service, pods, nil, time.Time{})
			counts := func(e *corev1.Endpoints) (ready, notReady int) {
				for _, s := range e.Subsets {
					ready, notReady = ready+len(s.Addresses), notReady+len(s.NotReadyAddresses)
				}
				return ready, notReady
			}
			ready, notReady := counts(theirs)
			if r, n := counts(ours); r != ready || n != notReady || r+n != 1000 {
				t.Errorf("ours has %d ready and %d not, upstream %d and %d", r, n, ready, notReady)
			}
			if got, want := ours.Annotations[corev1.EndpointsOverCapacity], theirs.Annotations[corev1.EndpointsOverCapacity]; got != want {
				t.Errorf("annotation %q, upstream %q", got, want)
			}
			if got := endpoints.Classic(service, pods, theirs, time.Time{}); got != nil {
				t.Errorf("what upstream wrote is written again")
			}
			for _, addresses := range [][]corev1.EndpointAddress{theirs.Subsets[0].Addresses, theirs.Subsets[0].NotReadyAddresses} {
				if len(addresses) == 0 {
					continue
				}
				addresses[0].NodeName = new("elsewhere")
				if endpoints.Classic(service, pods, theirs, time.Time{}) == nil {
					t.Error("an address on another node stays")
				}
			}
		})
	}
}
