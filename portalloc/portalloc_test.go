package portalloc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestParseRange(t *testing.T) {
	cases := map[string]struct {
		reason string
		text   string
		want   Range
		static int
		err    string
	}{
		"Default":    {reason: "30000-30085 is static", text: "30000-32767", want: DefaultRange, static: 86},
		"Large":      {reason: "never more than 128", text: "1024-65535", want: Range{1024, 65535}, static: 128},
		"Small":      {reason: "at least 16", text: "30000-30016", want: Range{30000, 30016}, static: 16},
		"Tiny":       {reason: "too small for bands", text: "30000-30015", want: Range{30000, 30015}},
		"One":        {reason: "one port is a range", text: "30000-30000", want: Range{30000, 30000}},
		"UpsideDown": {reason: "names what was meant", text: "32767-30000", err: "write 30000-32767"},
		"Words":      {reason: "says how to write it", text: "some", err: "write it as 30000-32767"},
		"Negative":   {reason: "a third dash", text: "-1-5", err: "write it as"},
		"TooHigh":    {reason: "there is no such port", text: "65000-65536", err: "1 to 65535"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRange(tc.text)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: got error %v, want %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want || got.StaticSize() != tc.static {
				t.Errorf("%s: got %v with %d static (%v), want %v with %d", tc.reason, got, got.StaticSize(), err, tc.want, tc.static)
			}
		})
	}
}

func TestBands(t *testing.T) {
	a := New(DefaultRange)
	intn := rand.New(rand.NewSource(1)).Intn
	dynamic := DefaultRange.Size() - DefaultRange.StaticSize()
	for i := range DefaultRange.Size() {
		port, err := a.Allocate(intn)
		if err != nil {
			t.Fatalf("port %d of %d: %v", i, DefaultRange.Size(), err)
		}
		if inStatic := port < 30086; inStatic != (i >= dynamic) {
			t.Fatalf("the %dth port is %d", i, port)
		}
	}
	_, err := a.Allocate(intn)
	if _, ok := errors.AsType[*ExhaustedError](err); !ok {
		t.Errorf("a full range gives %v, want an ExhaustedError", err)
	}
	if a.Free() != 0 || len(a.Ports()) != DefaultRange.Size() {
		t.Errorf("%d are free, %d are listed", a.Free(), len(a.Ports()))
	}
}

func TestAllocationIsDeterministicAndEven(t *testing.T) {
	draw := func(seed int64) []int {
		a, intn := New(DefaultRange), rand.New(rand.NewSource(seed)).Intn
		var ports []int
		for range 100 {
			port, _ := a.Allocate(intn)
			ports = append(ports, port)
		}
		return ports
	}
	if diff := cmp.Diff(draw(7), draw(7)); diff != "" {
		t.Errorf("the same source gives other ports:\n%s", diff)
	}
	if cmp.Equal(draw(7), draw(8)) {
		t.Error("another source gives the same ports")
	}
	// A range with holes: each free port has the same chance.
	a := New(Range{30000, 30199})
	for port := 30000; port <= 30199; port++ {
		if port%7 != 0 {
			_ = a.Reserve(port)
		}
	}
	hits, intn := map[int]int{}, rand.New(rand.NewSource(1)).Intn
	for range 10000 {
		port, err := a.Allocate(intn)
		if err != nil {
			t.Fatal(err)
		}
		hits[port]++
		a.Release(port)
	}
	// 27 ports of the dynamic band are free: 370 hits each on average, with a deviation of 19.
	for port, n := range hits {
		if n < 260 || n > 490 {
			t.Errorf("port %d came %d times", port, n)
		}
	}
	if len(hits) != 27 {
		t.Errorf("%d ports came, want 27", len(hits))
	}
}

func service(name string, age int, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(age), 0))},
		Spec: corev1.ServiceSpec{Ports: ports}}
}

func TestFromServices(t *testing.T) {
	young := service("a", 2, corev1.ServicePort{NodePort: 30100}, corev1.ServicePort{NodePort: 30101})
	old := service("b", 1, corev1.ServicePort{NodePort: 30100, Protocol: "UDP"}, corev1.ServicePort{NodePort: 30100})
	local := service("c", 3, corev1.ServicePort{NodePort: 29999})
	local.Spec.HealthCheckNodePort = 30102
	a, duplicates := FromServices(DefaultRange, []*corev1.Service{young, local, old})
	if diff := cmp.Diff([]int{30100, 30101, 30102}, a.Ports()); diff != "" {
		t.Errorf("ports in use (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Duplicate{{Port: 30100, Services: []string{"ns/b", "ns/a"}}}, duplicates); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
}

func TestAssign(t *testing.T) {
	first := func(int) int { return 0 }
	cases := map[string]struct {
		reason string
		ports  []corev1.ServicePort
		full   bool
		want   map[int]int32
	}{
		"None":      {reason: "nothing is missing", ports: []corev1.ServicePort{{Port: 80, NodePort: 30099}}, want: map[int]int32{}},
		"Each":      {reason: "one for each", ports: []corev1.ServicePort{{Port: 80}, {Port: 443, Protocol: "TCP"}}, want: map[int]int32{0: 30086, 1: 30087}},
		"Shared":    {reason: "TCP and UDP of one port", ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP"}, {Port: 53, Protocol: "TCP"}}, want: map[int]int32{0: 30086, 1: 30086}},
		"SharesOld": {reason: "with one that is there", ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP", NodePort: 30500}, {Port: 53}}, want: map[int]int32{1: 30500}},
		"OwnProtocol": {reason: "the protocol has that node port already", want: map[int]int32{1: 30086},
			ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP", NodePort: 30500}, {Port: 53}, {Port: 80, NodePort: 30500}}},
		"Exhausted": {reason: "all or nothing", ports: []corev1.ServicePort{{Port: 80}, {Port: 81}}, full: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a := New(DefaultRange)
			if tc.full {
				for a.Free() > 1 {
					_, _ = a.Allocate(first)
				}
			}
			svc := service("a", 0, tc.ports...)
			before, used := svc.DeepCopy(), a.Used()
			got, err := Assign(a, svc, first)
			if tc.full {
				if _, ok := errors.AsType[*ExhaustedError](err); !ok || a.Used() != used {
					t.Errorf("%s: got %v, %v, and %d ports are kept", tc.reason, got, err, a.Used()-used)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(before, svc); diff != "" {
				t.Errorf("the Service was changed:\n%s", diff)
			}
		})
	}
}

// FuzzAllocator compares with a set of ports: the simplest thing that does the same.
func FuzzAllocator(f *testing.F) {
	f.Add(uint16(30000), uint16(200), []byte{0, 0, 1, 5, 2, 5, 1, 5, 0, 0})
	f.Add(uint16(1), uint16(0), []byte{0, 0, 0, 0})
	f.Add(uint16(65000), uint16(130), []byte{1, 255, 2, 255, 1, 64, 0, 63})
	f.Fuzz(func(t *testing.T, first, size uint16, ops []byte) {
		r := Range{First: max(1, int(first)), Last: min(65535, max(1, int(first))+int(size)%300)}
		a, model := New(r), map[int]bool{}
		for i := 0; i+1 < len(ops) && i < 2000; i += 2 {
			port := r.First + int(ops[i+1]) - 2 // also just outside
			switch ops[i] % 3 {
			case 0:
				got, err := a.Allocate(func(n int) int { return int(ops[i+1]) % n })
				if (err != nil) != (len(model) == r.Size()) {
					t.Fatalf("Allocate with %d of %d in use: %v", len(model), r.Size(), err)
				}
				if err == nil && (model[got] || !r.Contains(got)) {
					t.Fatalf("Allocate gave %d, which is taken or not in %s", got, r)
				}
				if err == nil && got < r.First+r.StaticSize() && dynamicFree(r, model) {
					t.Fatalf("Allocate gave %d of the static band while the dynamic one has room", got)
				}
				if err == nil {
					model[got] = true
				}
			case 1:
				if ok := a.Reserve(port) == nil; ok != (r.Contains(port) && !model[port]) {
					t.Fatalf("Reserve(%d) is %t", port, ok)
				} else if ok {
					model[port] = true
				}
			case 2:
				if got := a.Release(port); got != model[port] {
					t.Fatalf("Release(%d) is %t", port, got)
				}
				delete(model, port)
			}
		}
		if want := slices.Sorted(maps.Keys(model)); !slices.Equal(want, a.Ports()) || a.Used() != len(model) {
			t.Fatalf("in use are %v, want %v", a.Ports(), want)
		}
	})
}

func dynamicFree(r Range, model map[int]bool) bool {
	for port := r.First + r.StaticSize(); port <= r.Last; port++ {
		if !model[port] {
			return true
		}
	}
	return false
}

func BenchmarkAllocate(b *testing.B) {
	for _, used := range []int{0, 1000, 2767} {
		b.Run(fmt.Sprintf("%dInUse", used), func(b *testing.B) {
			a, intn := New(DefaultRange), rand.New(rand.NewSource(1)).Intn
			for range used {
				_, _ = a.Allocate(intn)
			}
			for b.Loop() {
				port, err := a.Allocate(intn)
				if err != nil {
					b.Fatal(err)
				}
				a.Release(port)
			}
		})
	}
}
