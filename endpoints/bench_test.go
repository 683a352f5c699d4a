package endpoints

import (
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// BenchmarkEvent is the whole cost of one Pod that gets ready or unready, but for the API server: to find its Service,
// to plan, and to take over what was written and its echo from the watch.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprintf("ServicesOf10/%d", n), func(b *testing.B) { benchmarkEvent(b, n, 10) })
		b.Run(fmt.Sprintf("OneService/%d", n), func(b *testing.B) { benchmarkEvent(b, n, n) })
	}
}

func benchmarkEvent(b *testing.B, n, size int) {
	index := NewIndex()
	sets, layouts := map[string]*Set{}, map[string]*Layout{}
	pods := make([][2]*corev1.Pod, n)
	states := make([]int, n)
	for i := range n {
		service := fmt.Sprintf("s%d", i/size)
		if i%size == 0 {
			s := newService(func(s *corev1.Service) {
				s.Name, s.UID, s.Spec.Selector = service, types.UID(service), map[string]string{"app": service}
			})
			index.PutService(s)
			sets[service], layouts[service] = NewSet(s, SetOptions{}), NewLayout(opts(100))
		}
		for state := range 2 {
			pods[i][state] = newPod(i, setReady(state == 0), func(p *corev1.Pod) {
				p.Labels = map[string]string{"app": service}
				p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)}}
			})
		}
		index.PutPod(pods[i][0])
		sets[service].Put(pods[i][0], Zone{Name: "a"})
	}
	index.Seed()
	version := 0
	write := func(layout *Layout, plan Plan) {
		for _, w := range plan.Writes {
			version++
			answer := *w.Slice
			answer.ResourceVersion = strconv.Itoa(version)
			answer.UID = types.UID(answer.Name)
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
		states[i] = 1 - states[i]
		pod := pods[i][states[i]]
		for _, name := range index.PutPod(pod) {
			sets[name].Put(pod, Zone{Name: "a"})
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
