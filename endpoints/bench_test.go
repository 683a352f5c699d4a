package endpoints

import (
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cpu reports the time of the processor, which other work on the machine does not lengthen as it does the clock's.
func cpu(b *testing.B) func() {
	now := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	start := now()
	return func() { b.ReportMetric(float64(now()-start)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkNoChange plans for a Service in which nothing changed: Fresh from nothing, as after a start or a change of
// the Service, Incremental as after an event that changes nothing.
func BenchmarkNoChange(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		service, pods := newService(), newPods(0, n)
		set := setOf(service, pods)
		existing := apply(b, nil, Pack(set, nil, opts(100)), nil)
		b.Run(fmt.Sprintf("Fresh/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if plan := Pack(setOf(service, pods), existing, opts(100)); len(plan.Writes) > 0 {
					b.Fatalf("want no writes, got %v", describe(plan))
				}
			}
		})
		b.Run(fmt.Sprintf("Incremental/%d", n), func(b *testing.B) {
			layout := NewLayout(opts(100))
			for _, slice := range existing {
				layout.Observe(slice)
			}
			layout.Plan(set, Pass{})
			for b.Loop() {
				if plan := layout.Plan(set, Pass{}); len(plan.Writes) > 0 {
					b.Fatalf("want no writes, got %v", describe(plan))
				}
			}
		})
	}
}

// BenchmarkEvent is what one Pod costs that gets ready or unready: to make the Pod, to find its Service, to plan, and to
// take over what was written and its echo from the watch. Wire adds what any client does besides, to encode each write
// and to decode the answer.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprintf("ServicesOf10/%d", n), func(b *testing.B) { benchmarkEvent(b, n, 10, false) })
		b.Run(fmt.Sprintf("OneService/%d", n), func(b *testing.B) { benchmarkEvent(b, n, n, false) })
		b.Run(fmt.Sprintf("WireServicesOf10/%d", n), func(b *testing.B) { benchmarkEvent(b, n, 10, true) })
		b.Run(fmt.Sprintf("WireOneService/%d", n), func(b *testing.B) { benchmarkEvent(b, n, n, true) })
	}
}

func benchmarkEvent(b *testing.B, n, size int, wire bool) {
	index := NewIndex()
	sets, layouts := map[string]*Set{}, map[string]*Layout{}
	ready := make([]bool, n)
	// As from a watch, each state of a Pod is a new object.
	pod := func(i int) *corev1.Pod {
		return newPod(i, setReady(ready[i]), func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": fmt.Sprintf("s%d", i/size)}
			p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)}}
		})
	}
	for i := range n {
		service := fmt.Sprintf("s%d", i/size)
		if i%size == 0 {
			s := newService(func(s *corev1.Service) {
				s.Name, s.UID, s.Spec.Selector = service, types.UID(service), map[string]string{"app": service}
			})
			index.PutService(s)
			sets[service], layouts[service] = NewSet(s, SetOptions{}), NewLayout(opts(100))
		}
		first := pod(i)
		index.PutPod(first)
		sets[service].Put(first, Zone{Name: "a"})
	}
	index.Seed()
	version := 0
	write := func(layout *Layout, plan Plan) {
		for _, w := range plan.Writes {
			version++
			answer := *w.Slice
			answer.ResourceVersion = strconv.Itoa(version)
			answer.UID = types.UID(answer.Name)
			if wire {
				data, err := answer.Marshal()
				if err != nil {
					b.Fatal(err)
				}
				answer = discoveryv1.EndpointSlice{}
				if err := answer.Unmarshal(data); err != nil {
					b.Fatal(err)
				}
			}
			layout.Wrote(w, &answer)
			echo := answer
			layout.Observe(&echo)
		}
	}
	for name := range sets {
		write(layouts[name], layouts[name].Plan(sets[name], Pass{}))
	}
	b.ReportAllocs()
	i := 0
	runtime.GC()
	defer cpu(b)()
	for b.Loop() {
		i = (i + 7919) % n
		ready[i] = !ready[i]
		next := pod(i)
		for _, name := range index.PutPod(next) {
			sets[name].Put(next, Zone{Name: "a"})
			plan := layouts[name].Plan(sets[name], Pass{Busy: true})
			if len(plan.Writes) != 1 {
				b.Fatalf("want one write, got %v", describe(plan))
			}
			write(layouts[name], plan)
		}
	}
}

// BenchmarkClassic makes the Endpoints object of a Service where nothing changed.
func BenchmarkClassic(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			service, pods := newService(), newPods(0, n)
			current := Classic(service, pods, nil, epoch)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if Classic(service, pods, current, epoch) != nil {
					b.Fatal("want no write")
				}
			}
		})
	}
}
