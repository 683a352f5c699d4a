package portalloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func first(int) int { return 0 }

func TestAssign(t *testing.T) {
	cases := map[string]struct {
		reason string
		ports  []corev1.ServicePort
		health bool
		pools  []string
		want   map[int]int32
		check  int32
		err    string
	}{
		"None":      {reason: "nothing is missing", ports: []corev1.ServicePort{{Port: 80, NodePort: 30099}}, want: map[int]int32{}},
		"Each":      {reason: "one for each", ports: []corev1.ServicePort{{Port: 80}, {Port: 443, Protocol: "TCP"}}, want: map[int]int32{0: 30085, 1: 30086}},
		"Shared":    {reason: "TCP and UDP of one port", ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP"}, {Port: 53, Protocol: "TCP"}}, want: map[int]int32{0: 30085, 1: 30085}},
		"SharesOld": {reason: "with one that is there", ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP", NodePort: 30500}, {Port: 53}}, want: map[int]int32{1: 30500}},
		"OwnProtocol": {reason: "the protocol has that node port already", want: map[int]int32{1: 30085},
			ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP", NodePort: 30500}, {Port: 53}, {Port: 80, NodePort: 30500}}},
		"NamedMeanwhile": {reason: "what it names for another port is not chosen", ports: []corev1.ServicePort{{Port: 80}, {Port: 81, NodePort: 30085}}, want: map[int]int32{0: 30086}},
		"HealthCheck":    {reason: "one of its own", ports: []corev1.ServicePort{{Port: 80}}, health: true, want: map[int]int32{0: 30085}, check: 30086},
		"Pool":           {reason: "from the pool", ports: []corev1.ServicePort{{Port: 80}}, pools: []string{"small"}, want: map[int]int32{0: 31000}},
		"NextPool":       {reason: "the first is full", ports: []corev1.ServicePort{{Port: 80}, {Port: 81}, {Port: 82}}, pools: []string{"small", "more"}, want: map[int]int32{0: 31000, 1: 31001, 2: 31010}},
		"SkipsNamed":     {reason: "it hands out nothing", ports: []corev1.ServicePort{{Port: 80}}, pools: []string{"named", "more"}, want: map[int]int32{0: 31010}},
		"Exhausted":      {reason: "all or nothing", ports: []corev1.ServicePort{{Port: 80}, {Port: 81}, {Port: 82}}, pools: []string{"small"}, err: `31000-31001 of NodePortPool "small" is taken: `},
		"OnlyNamed":      {reason: "says what to do", ports: []corev1.ServicePort{{Port: 80}}, pools: []string{"named"}, err: "name a nodePort in 31020-31029"},
		"Unknown":        {reason: "no such pool has ports", ports: []corev1.ServicePort{{Port: 80}}, pools: []string{"gone"}, err: "spec.ranges"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			// The pools leave 2751 ports, of which 85 are static. 31015-31019 belong to nobody: neither pools nor what they leave may be mixed up.
			l := NewLedger(DefaultRange)
			l.SetPools([]Pool{{Name: "small", Ranges: Ranges{{31000, 31001}}}, {Name: "more", Ranges: Ranges{{31010, 31014}}},
				{Name: "named", Ranges: Ranges{{31020, 31029}}, Named: true}}, at(0))
			svc := service("a", 0, tc.ports...)
			before := svc.DeepCopy()
			request := Request{Service: svc, Pools: tc.pools, NodePorts: true, HealthCheck: tc.health, DryRun: true}
			free := l.shares[0].ports.Free() + l.shares[1].ports.Free() + l.shares[3].ports.Free()
			dry, dryErr := l.Assign(request, at(0), first)
			if after := l.shares[0].ports.Free() + l.shares[1].ports.Free() + l.shares[3].ports.Free(); after != free {
				t.Errorf("%s: a dry run took %d ports", tc.reason, free-after)
			}
			request.DryRun = false
			got, err := l.Assign(request, at(0), first)
			if diff := cmp.Diff(before, svc); diff != "" {
				t.Errorf("the Service was changed:\n%s", diff)
			}
			if tc.err != "" {
				_, is := errors.AsType[*ExhaustedError](err)
				if !is || dryErr == nil || !strings.Contains(err.Error(), tc.err) || len(l.promises) > 0 {
					t.Errorf("%s: got %v, %v and %d promises, want %q", tc.reason, got, err, len(l.promises), tc.err)
				}
				return
			}
			if err != nil || dryErr != nil {
				t.Fatal(err, dryErr)
			}
			if diff := cmp.Diff(Assignment{Ports: tc.want, HealthCheck: tc.check}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(got, dry); diff != "" {
				t.Errorf("the dry run said otherwise:\n%s", diff)
			}
		})
	}
}

// TestPromises: what was chosen is nobody else's until the Service is seen, the time is over, or its name asks again.
func TestPromises(t *testing.T) {
	l := NewLedger(Range{30000, 30002})
	ask := func(name string, seconds int) (int32, error) {
		given, err := l.Assign(Request{Service: service(name, 0, corev1.ServicePort{Port: 80}), NodePorts: true}, at(seconds), first)
		return given.Ports[0], err
	}
	for i, name := range []string{"a", "b", "c"} {
		if port, err := ask(name, i); err != nil || port != int32(30000+i) {
			t.Fatalf("%s got %d, %v", name, port, err)
		}
	}
	_, err := ask("d", 3)
	full, ok := errors.AsType[*ExhaustedError](err)
	if !ok || full.Kept != 3 || !strings.Contains(err.Error(), "kept (3)") {
		t.Errorf("got %v, want that all are promised", err)
	}
	// b is made, with what c was promised: another ledger was asked. c has to take another, which may be what b was promised
	// here.
	l.Set(service("b", 0, corev1.ServicePort{Port: 80, NodePort: 30002}), at(4))
	if port, err := ask("c", 5); err != nil || port != 30001 {
		t.Errorf("c got %d, %v", port, err)
	}
	// What b is promised from now on may still be on its way when something else of it is seen.
	l.Withdraw(key("c"))
	wider := service("b", 0, corev1.ServicePort{Port: 80, NodePort: 30002}, corev1.ServicePort{Port: 443})
	if given, err := l.Assign(Request{Service: wider, NodePorts: true}, at(5), first); err != nil || given.Ports[1] != 30001 {
		t.Errorf("another port of b got %v, %v", given, err)
	}
	l.Set(service("b", 0, corev1.ServicePort{Port: 80, NodePort: 30002}), at(6))
	if port, err := ask("d", 6); err == nil {
		t.Errorf("d got %d, which is promised to b", port)
	}
	l.Withdraw(key("b"))
	if port, err := ask("d", 6); err != nil || port != 30001 {
		t.Errorf("what b did not write after all: d got %d, %v", port, err)
	}
	if _, err := ask("e", int(PromiseFor/time.Second)-1); err == nil {
		t.Error("a promise ended early")
	}
	if port, err := ask("e", int(PromiseFor/time.Second)); err != nil || port != 30000 {
		t.Errorf("what a was promised in vain: e got %d, %v", port, err)
	}
}

func TestStrict(t *testing.T) {
	pools := []Pool{{Name: "mine", Ranges: Ranges{{31000, 31009}}, Keep: time.Minute, Named: true}, {Name: "theirs", Ranges: Ranges{{31010, 31019}}}}
	cases := map[string]struct {
		reason string
		name   string
		port   int32
		pools  []string
		want   any // the type of the error
		text   string
	}{
		"Own":        {reason: "one of the pool", name: "new", port: 31009, pools: []string{"mine"}},
		"Theirs":     {reason: "another pool's", name: "new", port: 31010, pools: []string{"mine"}, want: &OutOfRangeError{}, text: `31000-31009 of NodePortPool "mine": choose`},
		"Rest":       {reason: "no pool's", name: "new", port: 30500, pools: []string{"mine"}, want: &OutOfRangeError{}, text: "choose one of these"},
		"NoPool":     {reason: "a pool's", name: "new", port: 31010, want: &OutOfRangeError{}, text: "30000-30999, 31020-32767"},
		"NotThere":   {reason: "not the server's", name: "new", port: 80, want: &OutOfRangeError{}, text: "choose"},
		"Kept":       {reason: "kept for another", name: "new", port: 31001, pools: []string{"mine"}, want: &KeptError{}, text: `for Service ns/gone until 2023-11-14T22:14:20Z by NodePortPool "mine"`},
		"KeptForIt":  {reason: "kept for it", name: "gone", port: 31001, pools: []string{"mine"}},
		"Taken":      {reason: "another has it", name: "new", port: 31000, pools: []string{"mine"}, want: &TakenError{}, text: "taken by Service ns/cart"},
		"HasIt":      {reason: "it has it", name: "cart", port: 31000, pools: []string{"mine"}},
		"HasForeign": {reason: "nothing in use is taken away", name: "odd", port: 31015, pools: []string{"mine"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := NewLedger(DefaultRange)
			l.SetPools(pools, at(0))
			l.Set(service("cart", 0, corev1.ServicePort{Port: 80, NodePort: 31000}), at(0))
			l.Set(service("odd", 0, corev1.ServicePort{Port: 80, NodePort: 31015}), at(0))
			l.Set(service("gone", 0, corev1.ServicePort{Port: 80, NodePort: 31001}), at(0))
			l.Delete(key("gone"), at(0))
			_, err := l.Assign(Request{Service: service(tc.name, 0, corev1.ServicePort{Port: 80, NodePort: tc.port}), Pools: tc.pools, NodePorts: true, Strict: true, Recall: true}, at(0), first)
			if got, want := fmt.Sprintf("%T", err), fmt.Sprintf("%T", tc.want); got != want {
				t.Fatalf("%s: got %v, want a %s", tc.reason, err, want)
			}
			if err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.text)
			}
		})
	}
}

// TestStrictKeepsWhatIsThere: an update of a Service that the ledger has not seen yet.
func TestStrictKeepsWhatIsThere(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	svc := service("a", 0, corev1.ServicePort{Port: 80, NodePort: 30500})
	r := Request{Service: svc, Pools: []string{"sticky"}, NodePorts: true, Strict: true}
	if _, err := l.Assign(r, at(0), first); err == nil {
		t.Error("a new Service got a port that is not its pool's")
	}
	r.Old = svc
	if _, err := l.Assign(r, at(0), first); err != nil {
		t.Errorf("an update: %v", err)
	}
}

// TestRecallsEachUse: two ports that did not share one do not share one when they come back, and a port that the Service
// names itself is not recalled for another.
func TestRecallsEachUse(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	l.Set(service("dns", 0, corev1.ServicePort{Port: 53, NodePort: 30101}, corev1.ServicePort{Port: 53, Protocol: "UDP", NodePort: 30102}), at(0))
	l.Delete(key("dns"), at(0))
	request := Request{Service: service("dns", 1, corev1.ServicePort{Port: 53, Protocol: "UDP"}, corev1.ServicePort{Port: 53}),
		Pools: []string{"sticky"}, NodePorts: true, Recall: true, DryRun: true}
	given, err := l.Assign(request, at(1), first)
	if diff := cmp.Diff(map[int]int32{0: 30102, 1: 30101}, given.Ports); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	request.Service = service("dns", 1, corev1.ServicePort{Port: 53}, corev1.ServicePort{Port: 80, NodePort: 30101})
	if given, err := l.Assign(request, at(1), first); err != nil || given.Ports[0] != 30100 {
		t.Errorf("got %+v, %v", given, err)
	}
}

func TestRestore(t *testing.T) {
	old := service("a", 0, corev1.ServicePort{Name: "http", Port: 80, NodePort: 30100}, corev1.ServicePort{Name: "https", Port: 443, NodePort: 30101})
	none := service("a", 0, corev1.ServicePort{Name: "http", Port: 80, NodePort: 30100})
	none.Spec.Type = corev1.ServiceTypeClusterIP
	flagged := old.DeepCopy()
	flagged.Spec.Type, flagged.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, new(false)
	local := old.DeepCopy()
	local.Spec.Type, local.Spec.ExternalTrafficPolicy, local.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, "Local", 30109
	bare := local.DeepCopy()
	bare.Spec.HealthCheckNodePort, bare.Spec.Ports[0].NodePort = 0, 0
	cases := map[string]struct {
		reason   string
		old, svc *corev1.Service
		want     Assignment
	}{
		"ByName": {"the number may be another", old, service("a", 0, corev1.ServicePort{Name: "https", Port: 8443}, corev1.ServicePort{Name: "new", Port: 1}), Assignment{Ports: map[int]int32{0: 30101}}},
		"Moved":  {"another port has it now", old, service("a", 0, corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "https", Port: 443, NodePort: 30100}), Assignment{Ports: map[int]int32{}}},
		"NoNeed": {"it needed none", none, service("a", 0, corev1.ServicePort{Name: "http", Port: 80}), Assignment{Ports: map[int]int32{}}},
		"Flag":   {"a PUT without releases them", flagged, func() *corev1.Service { s := flagged.DeepCopy(); s.Spec.Ports[0].NodePort = 0; return s }(), Assignment{Ports: map[int]int32{}}},
		"Health": {"the health check's, too", local, bare, Assignment{Ports: map[int]int32{0: 30100}, HealthCheck: 30109}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Restore(tc.svc, tc.old)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// BenchmarkAssign is what the choice of a Service's port takes in a cluster of that many Services.
func BenchmarkAssign(b *testing.B) {
	for _, used := range []int{0, 1000, 2767} {
		b.Run(fmt.Sprintf("%dInUse", used), func(b *testing.B) {
			l := NewLedger(DefaultRange)
			l.SetPools([]Pool{{Name: "all", Ranges: Ranges{DefaultRange}, Keep: time.Minute}}, at(0))
			for i := range used {
				l.Set(service(fmt.Sprint("s", i), 0, corev1.ServicePort{Port: 80, NodePort: int32(30000 + i)}), at(0))
			}
			request := Request{Service: service("new", 0, corev1.ServicePort{Port: 80}), Pools: []string{"all"}, NodePorts: true, Recall: true}
			for b.Loop() {
				if _, err := l.Assign(request, at(0), rand.IntN); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestRecallsOnlyWhatWasTaken: what a Service names itself is not recalled for another of its ports although the old one
// was not seen to go, and what it gave up itself does not come back.
func TestRecallsOnlyWhatWasTaken(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	l.Set(service("dns", 0, corev1.ServicePort{Port: 53, NodePort: 30101}), at(0))
	again := service("dns", 1, corev1.ServicePort{Port: 53}, corev1.ServicePort{Port: 80, NodePort: 30101})
	again.UID = ""
	request := Request{Service: again, Pools: []string{"sticky"}, NodePorts: true, Recall: true}
	if given, err := l.Assign(request, at(1), first); err != nil || given.Ports[0] == 30101 {
		t.Errorf("beside a port that it names it got %+v, %v", given, err)
	}
	request.Service = service("dns", 0, corev1.ServicePort{Port: 53})
	if given, err := l.Assign(request, at(1), first); err != nil || given.Ports[0] == 30101 {
		t.Errorf("what it gave up came back: %+v, %v", given, err)
	}
}

// TestNamedIsPromised: a Service that names the port which is kept for it has it, although the time is over before it is
// seen.
func TestNamedIsPromised(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{{Name: "one", Ranges: Ranges{{30100, 30100}}, Keep: time.Minute}}, at(0))
	l.Set(service("a", 0, corev1.ServicePort{Port: 80, NodePort: 30100}), at(0))
	l.Delete(key("a"), at(0))
	named := Request{Service: service("a", 0, corev1.ServicePort{Port: 80, NodePort: 30100}), Pools: []string{"one"}, NodePorts: true, Strict: true}
	if _, err := l.Assign(named, at(59), first); err != nil {
		t.Fatal(err)
	}
	other := Request{Service: service("b", 0, corev1.ServicePort{Port: 80}), Pools: []string{"one"}, NodePorts: true}
	if given, err := l.Assign(other, at(61), first); err == nil {
		t.Errorf("another got %+v", given)
	}
	// Somebody else has it after all: when that one goes, it is nobody's.
	l.Set(service("c", 0, corev1.ServicePort{Port: 80, NodePort: 30100}), at(62))
	l.SetPools([]Pool{{Name: "one", Ranges: Ranges{{30100, 30100}}}}, at(63))
	l.Delete(key("c"), at(64))
	if given, err := l.Assign(other, at(65), first); err != nil || given.Ports[0] != 30100 {
		t.Errorf("then another got %+v, %v", given, err)
	}
}

// TestPromisedBeforeKept: another ledger kept a port for a name after this one had promised it to a Service, which will have it
// any moment. The name gets another one.
func TestPromisedBeforeKept(t *testing.T) {
	l := NewLedger(Range{30000, 30009})
	l.SetPools([]Pool{{Name: "a", Ranges: Ranges{{30000, 30009}}, Keep: time.Minute}}, at(0))
	ask := func(name string) int32 {
		t.Helper()
		given, err := l.Assign(Request{Service: service(name, 0, corev1.ServicePort{Port: 80}), NodePorts: true, Pools: []string{"a"}, Recall: true}, at(1), first)
		if err != nil {
			t.Fatal(err)
		}
		return given.Ports[0]
	}
	l.Keep([]Hold{{Port: 30005, Service: key("kept"), Uses: []string{"80/TCP"}, Until: at(30)}}, at(0))
	taken := ask("other")
	l.Keep([]Hold{{Port: int(taken), Service: key("late"), Uses: []string{"80/TCP"}, Until: at(30)}}, at(1))
	if port := ask("late"); port == taken {
		t.Errorf("it got %d, which is promised", port)
	}
	if port := ask("kept"); port != 30005 {
		t.Errorf("what was kept and is promised to nobody is %d", port)
	}
}
