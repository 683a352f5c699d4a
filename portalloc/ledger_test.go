package portalloc

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// at is a moment of the tests' time, which begins when nothing was there.
func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }

func service(name string, age int, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(at(age))},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports}}
}

func key(name string) Key { return Key{"ns", name} }

func TestDivide(t *testing.T) {
	server := Range{30000, 30999}
	pools := []Pool{
		{Name: "first", Ranges: Ranges{{30100, 30199}, {30900, 31099}}},
		{Name: "second", Ranges: Ranges{{30150, 30249}}},
		{Name: "third", Ranges: Ranges{{29000, 29099}, {30190, 30209}}},
		{Name: "nothing", Ranges: Ranges{{30950, 30960}}},
	}
	shares, rest := Divide(server, pools)
	type view struct{ Has, Outside, Overlaps string }
	got := map[string]view{}
	for _, s := range shares {
		v := view{Has: s.Ranges.String(), Outside: s.Outside.String()}
		for _, o := range s.Overlaps {
			v.Overlaps += o.With + " " + o.Ranges.String() + ";"
		}
		got[s.Pool.Name] = v
	}
	want := map[string]view{
		"first":   {Has: "30100-30199, 30900-30999", Outside: "31000-31099"},
		"second":  {Has: "30200-30249", Outside: "no ports", Overlaps: "first 30150-30199;"},
		"third":   {Has: "no ports", Outside: "29000-29099", Overlaps: "first 30190-30199;second 30200-30209;"},
		"nothing": {Has: "no ports", Outside: "no ports", Overlaps: "first 30950-30960;"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
	if rest.String() != "30000-30099, 30250-30899" {
		t.Errorf("what is left is %s", rest)
	}
}

func TestRebuild(t *testing.T) {
	young := service("a", 2, corev1.ServicePort{NodePort: 30100}, corev1.ServicePort{NodePort: 30101})
	old := service("b", 1, corev1.ServicePort{NodePort: 30100, Protocol: "UDP"}, corev1.ServicePort{NodePort: 30100})
	twin := service("0", 2, corev1.ServicePort{NodePort: 30100})
	local := service("c", 3, corev1.ServicePort{NodePort: 29999})
	local.Spec.HealthCheckNodePort = 30102
	l := Rebuild(DefaultRange, nil, []*corev1.Service{young, local, old, twin, service("none", 0, corev1.ServicePort{Port: 80})}, nil, at(9))
	want := []Claim{
		{29999, []Key{key("c")}}, {30100, []Key{key("b"), key("0"), key("a")}}, {30101, []Key{key("a")}}, {30102, []Key{key("c")}},
	}
	if diff := cmp.Diff(want, l.Claims()); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:2], l.Duplicates()); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Usage{Size: 2768, Used: 3, Free: 2765}, l.Usage("")); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if free := l.Free("").String(); free != "30000-30099, 30103-32767" {
		t.Errorf("free are %s", free)
	}
	// The port of a duplicate is free when the last of them is gone.
	for _, name := range []string{"b", "a", "0"} {
		if l.Free("").Contains(30100) {
			t.Errorf("before %s goes the port is free", name)
		}
		l.Delete(key(name), at(10))
	}
	if !l.Free("").Contains(30100) || len(l.Duplicates()) != 0 {
		t.Error("the port is not free")
	}
}

var sticky = Pool{Name: "sticky", Ranges: Ranges{{30100, 30109}}, Keep: time.Minute}

// TestKeeps: the story of a name that comes back.
func TestKeeps(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky, {Name: "other", Ranges: Ranges{{30200, 30209}}}}, at(0))
	cart := service("cart", 0, corev1.ServicePort{Port: 53, NodePort: 30103}, corev1.ServicePort{Port: 53, Protocol: "UDP", NodePort: 30103}, corev1.ServicePort{Port: 80, NodePort: 30200})
	cart.Spec.HealthCheckNodePort = 30104
	l.Set(cart, at(0))
	l.Delete(key("cart"), at(10))
	want := []Hold{
		{Port: 30103, Service: key("cart"), Uses: []string{"53/TCP", "53/UDP"}, Until: at(70)},
		{Port: 30104, Service: key("cart"), Uses: []string{HealthCheck}, Until: at(70)},
	}
	if diff := cmp.Diff(want, l.Holds()); diff != "" {
		t.Errorf("after it went (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Usage{Size: 10, Kept: 2, Free: 8}, l.Usage("sticky")); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	// A restart loses nothing.
	l = Rebuild(DefaultRange, []Pool{sticky}, nil, l.Holds(), at(20))
	if diff := cmp.Diff(want, l.Holds()); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	// Others do not get them, it does.
	blank := func(name string) *corev1.Service {
		svc := service(name, 30, corev1.ServicePort{Port: 80}, corev1.ServicePort{Port: 53, Protocol: "UDP"}, corev1.ServicePort{Port: 53})
		svc.UID = types.UID(name + "2")
		return svc
	}
	for range 4 {
		given, err := l.Assign(Request{Service: blank("other"), Pools: []string{"sticky"}, NodePorts: true, HealthCheck: true, Recall: true}, at(30), first)
		if err != nil || given.Ports[0] == 30103 || given.Ports[1] == 30103 || given.HealthCheck == 30104 {
			t.Fatalf("another got %+v, %v", given, err)
		}
	}
	given, err := l.Assign(Request{Service: blank("cart"), Pools: []string{"sticky"}, NodePorts: true, HealthCheck: true, Recall: true}, at(30), first)
	if err != nil || given.Ports[1] != 30103 || given.Ports[2] != 30103 || given.HealthCheck != 30104 {
		t.Errorf("it got %+v, %v", given, err)
	}
	// Seen again, nothing is kept any more; gone for longer than that, nothing is either.
	back := blank("cart")
	given.Apply(back)
	l.Set(back, at(31))
	if holds := l.Holds(); len(holds) != 0 {
		t.Errorf("in use and kept: %+v", holds)
	}
	l.Delete(key("cart"), at(32))
	if l.Set(blank("x"), at(91)); len(l.Holds()) == 0 {
		t.Error("the holds ended early")
	}
	if l.Set(blank("x"), at(92)); len(l.Holds()) != 0 || l.Usage("sticky").Free != 10 {
		t.Errorf("after a minute still kept: %+v", l.Holds())
	}
}

// TestComesBackUnseen: a Service that is created again before its end was seen is taken for the same name.
func TestComesBackUnseen(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	l.Set(service("cart", 0, corev1.ServicePort{Port: 80, NodePort: 30107}), at(0))
	again := service("cart", 5, corev1.ServicePort{Port: 80})
	again.UID = ""
	request := Request{Service: again, Pools: []string{"sticky"}, NodePorts: true, Recall: true}
	if given, err := l.Assign(request, at(5), first); err != nil || given.Ports[0] != 30107 {
		t.Errorf("got %+v, %v", given, err)
	}
	// The event of the new one comes without one of the old one's end; the new one has another port.
	again.UID, again.Spec.Ports[0].NodePort = "new", 30108
	l.Set(again, at(6))
	if diff := cmp.Diff([]Hold{{Port: 30107, Service: key("cart"), Uses: []string{"80/TCP"}, Until: at(66)}}, l.Holds()); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
	// The old event of the same Service again, later: nothing of it is kept twice.
	l.Delete(key("cart"), at(7))
	l.Delete(key("cart"), at(8))
	if holds := l.Holds(); len(holds) != 2 || !holds[1].Until.Equal(at(67)) {
		t.Errorf("holds are %+v", holds)
	}
}

func TestKeep(t *testing.T) {
	cases := map[string]struct {
		reason string
		hold   Hold
		want   time.Time // zero: not kept
	}{
		"AsItIs":     {"what is stored goes on", Hold{Port: 30100, Until: at(30)}, at(30)},
		"TooLong":    {"the pool's delay was shortened", Hold{Port: 30100, Until: at(3000)}, at(60)},
		"Over":       {"its time has run out", Hold{Port: 30100, Until: at(0)}, time.Time{}},
		"InUse":      {"somebody has it", Hold{Port: 30109, Until: at(30)}, time.Time{}},
		"NotSticky":  {"no pool keeps it", Hold{Port: 30300, Until: at(30)}, time.Time{}},
		"NotAServer": {"the server's range was another", Hold{Port: 80, Until: at(30)}, time.Time{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := NewLedger(DefaultRange)
			l.SetPools([]Pool{sticky}, at(0))
			l.Set(service("cart", 0, corev1.ServicePort{NodePort: 30109}), at(0))
			tc.hold.Service = key("gone")
			l.Keep([]Hold{tc.hold}, at(0))
			var until time.Time
			if holds := l.Holds(); len(holds) > 0 {
				until = holds[0].Until
			}
			if !until.Equal(tc.want) {
				t.Errorf("%s: kept until %s, want %s", tc.reason, until, tc.want)
			}
		})
	}
}

// TestKeepsTheLater: a status that is read late does not shorten what is kept since.
func TestKeepsTheLater(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	late := Hold{Port: 30100, Service: key("a"), Until: at(30)}
	l.Keep([]Hold{late}, at(0))
	l.Keep([]Hold{{Port: 30100, Service: key("b"), Until: at(20)}}, at(0))
	if diff := cmp.Diff([]Hold{late}, l.Holds()); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
}

// TestSetPools: what pools there are changes whose the ports are, and nobody loses one.
func TestSetPools(t *testing.T) {
	l := NewLedger(DefaultRange)
	l.SetPools([]Pool{sticky}, at(0))
	l.Set(service("cart", 0, corev1.ServicePort{NodePort: 30109}), at(0))
	l.Set(service("gone", 0, corev1.ServicePort{NodePort: 30108}), at(0))
	l.Delete(key("gone"), at(0))
	narrow := sticky
	narrow.Ranges, narrow.Keep = Ranges{{30100, 30108}}, 10*time.Second
	l.SetPools([]Pool{narrow}, at(1))
	if u := l.Usage("sticky"); u != (Usage{Size: 9, Kept: 1, Free: 8}) || l.PoolOf(30109) != "" || len(l.Claims()) != 1 {
		t.Errorf("narrower: %+v, 30109 is %q's, claims %v", u, l.PoolOf(30109), l.Claims())
	}
	if until := l.Holds()[0].Until; !until.Equal(at(11)) {
		t.Errorf("kept until %s", until)
	}
	l.SetPools(nil, at(2))
	if len(l.Holds()) != 0 || l.Usage("sticky") != (Usage{}) || l.Usage("").Used != 1 {
		t.Errorf("without pools: %v, %+v", l.Holds(), l.Usage(""))
	}
}

// TestPrecedes: who keeps a port, of two that a server has.
func TestPrecedes(t *testing.T) {
	old, young, twin := service("b", 1), service("a", 2), service("c", 2)
	for _, tc := range []struct {
		a, b *corev1.Service
		want bool
	}{{old, young, true}, {young, old, false}, {young, twin, true}, {twin, young, false}, {old, old, false}} {
		if got := Precedes(tc.a, tc.b); got != tc.want {
			t.Errorf("%s before %s: %t", tc.a.Name, tc.b.Name, got)
		}
	}
}
