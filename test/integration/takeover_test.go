package integration

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// traffic is Services whose Pods come, go and flip all the time, and somebody who watches their slices.
type traffic struct {
	t         *testing.T
	namespace string
	random    *rand.Rand
	pods      map[string]*corev1.Pod
	events    int
}

const trafficServices = 8

// step is one event: a Pod of one of the Services comes, goes, or flips its readiness.
func (f *traffic) step() {
	f.t.Helper()
	f.events++
	name := fmt.Sprintf("pod-%d-%d", f.random.IntN(trafficServices), f.random.IntN(12))
	pod := f.pods[name]
	switch {
	case pod == nil:
		var service, i int
		_, _ = fmt.Sscanf(name, "pod-%d-%d", &service, &i)
		pod = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name, Labels: map[string]string{"app": fmt.Sprint("app-", service)}},
			Spec:       corev1.PodSpec{NodeName: "node-a", Containers: []corev1.Container{{Name: "main", Image: "main"}}},
		}
		create(f.t, pod)
		ip := fmt.Sprintf("10.60.%d.%d", service, i+1)
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
		setReady(f.t, pod, corev1.ConditionTrue)
		f.pods[name] = pod
	case f.random.IntN(5) == 0:
		if err := suite.admin.Delete(f.t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			f.t.Fatal(err)
		}
		delete(f.pods, name)
	case pod.Status.Conditions[0].Status == corev1.ConditionTrue:
		setReady(f.t, pod, corev1.ConditionFalse)
	default:
		setReady(f.t, pod, corev1.ConditionTrue)
	}
}

// run makes 50 events a second until done says so.
func (f *traffic) run(done func() bool) {
	f.t.Helper()
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	for !done() {
		<-tick.C
		f.step()
	}
}

// settled waits until the slices hold all Pods as they are, each once.
func (f *traffic) settled() {
	f.t.Helper()
	want := map[string]bool{}
	for name, pod := range f.pods {
		want[name] = pod.Status.Conditions[0].Status == corev1.ConditionTrue
	}
	eventually(f.t, waitFor, "the slices of all Services", func() error {
		var list discoveryv1.EndpointSliceList
		if err := suite.admin.List(f.t.Context(), &list, client.InNamespace(f.namespace)); err != nil {
			return err
		}
		got := map[string]bool{}
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if _, twice := got[e.TargetRef.Name]; twice {
					return fmt.Errorf("%s is there twice", e.TargetRef.Name)
				}
				got[e.TargetRef.Name] = *e.Conditions.Ready
			}
		}
		if !maps.Equal(want, got) {
			return fmt.Errorf("want %v, got %v", want, got)
		}
		return nil
	})
}

// observer watches slices and notes what nobody should see.
type observer struct {
	mu     sync.Mutex
	writes int
	wrong  []string
	last   map[types.UID]*discoveryv1.EndpointSlice
}

func observe(t *testing.T, namespace string) *observer {
	t.Helper()
	c, err := client.NewWithWatch(suite.config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	watching, err := c.Watch(ctx, &discoveryv1.EndpointSliceList{}, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{last: map[types.UID]*discoveryv1.EndpointSlice{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range watching.ResultChan() {
			o.see(event)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return o
}

func (o *observer) see(event watch.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	slice, ok := event.Object.(*discoveryv1.EndpointSlice)
	if !ok {
		o.wrong = append(o.wrong, fmt.Sprintf("the watch ended: %v", event))
		return
	}
	if event.Type == watch.Deleted {
		delete(o.last, slice.UID)
		return
	}
	o.writes++
	seen := map[string]struct{}{}
	for _, e := range slice.Endpoints {
		if _, twice := seen[e.TargetRef.Name]; twice {
			o.wrong = append(o.wrong, fmt.Sprintf("%s has %s twice", slice.Name, e.TargetRef.Name))
		}
		seen[e.TargetRef.Name] = struct{}{}
	}
	if before := o.last[slice.UID]; before != nil && equality.Semantic.DeepEqual(sorted(before), sorted(slice)) &&
		maps.Equal(before.Labels, slice.Labels) {
		o.wrong = append(o.wrong, fmt.Sprintf("%s was written twice: version %s is as %s was", slice.Name, slice.ResourceVersion, before.ResourceVersion))
	}
	o.last[slice.UID] = slice
}

func sorted(slice *discoveryv1.EndpointSlice) []discoveryv1.Endpoint {
	return slices.SortedFunc(slices.Values(slice.Endpoints), func(a, b discoveryv1.Endpoint) int {
		return cmp.Compare(a.TargetRef.Name, b.TargetRef.Name)
	})
}

// TestTakeOverUnderLoad: the leader is killed, and the one after it is, while 50 events a second come in. Those who take
// over lose nothing and write nothing twice, and nobody sees an endpoint twice in a slice.
func TestTakeOverUnderLoad(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	f := &traffic{t: t, namespace: namespace(t), random: rand.New(rand.NewPCG(5, 6)), pods: map[string]*corev1.Pod{}}
	for i := range trafficServices {
		create(t, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: fmt.Sprint("app-", i)},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": fmt.Sprint("app-", i)},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
		})
	}
	file := configuration(t, "endpointSlice: {maxEndpointsPerSlice: 5}")
	leader := startManager(t, "--config", file)
	names := []string{newHolder(t)}
	o := observe(t, f.namespace)
	for range 2 {
		standby := startManager(t, "--config", file)
		begin := f.events
		f.run(func() bool { return f.events >= begin+100 })
		leader.kill(t)
		expire(t)
		f.run(func() bool { name := holder(t); return name != "" && !slices.Contains(names, name) })
		names = append(names, holder(t))
		begin = f.events
		f.run(func() bool { return f.events >= begin+200 })
		f.settled()
		leader = standby
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Logf("%d events, %d writes of slices", f.events, o.writes)
	if o.writes > f.events+f.events/2 {
		t.Errorf("%d writes for %d events", o.writes, f.events)
	}
	for _, wrong := range o.wrong {
		t.Error(wrong)
	}
}
