package portalloc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// book is the simple model of a Ledger: lists that are searched from one end to the other.
type book struct {
	pools    []Pool
	services map[Key]*corev1.Service
	holds    map[int]Hold
	promises map[int]promise
}

var fuzzServer = Range{1, 40}

// poolSets are what the fuzz test changes between: with overlaps, ports outside the range, other delays.
var poolSets = [][]Pool{
	nil,
	{{Name: "a", Ranges: Ranges{{1, 20}}, Keep: 20 * time.Second}, {Name: "b", Ranges: Ranges{{15, 30}}}},
	{{Name: "b", Ranges: Ranges{{11, 30}}, Keep: 5 * time.Second, Named: true}, {Name: "a", Ranges: Ranges{{1, 12}, {39, 50}}, Keep: 50 * time.Second}},
	{{Name: "a", Ranges: Ranges{{1, 40}}, Keep: 10 * time.Second}},
}

func (b *book) poolOf(port int) (pool Pool) {
	for _, p := range b.pools {
		if p.Ranges.Contains(port) && fuzzServer.Contains(port) {
			return p
		}
	}
	return Pool{}
}

func (b *book) has(port int) bool {
	for _, svc := range b.services {
		if slices.Contains(PortsOf(svc), port) {
			return true
		}
	}
	return false
}

// tidy drops what time, Services and pools have ended.
func (b *book) tidy(now time.Time) {
	for port, h := range b.holds {
		most := now.Add(b.poolOf(port).Keep)
		if h.Until.After(most) {
			h.Until = most
			b.holds[port] = h
		}
		if !h.Until.After(now) || b.has(port) {
			delete(b.holds, port)
		}
	}
	for port, p := range b.promises {
		if !p.until.After(now) {
			delete(b.promises, port)
		}
	}
}

func (b *book) delete(key Key, now time.Time) {
	gone := b.services[key]
	if gone == nil {
		return
	}
	delete(b.services, key)
	for _, port := range PortsOf(gone) {
		if pool := b.poolOf(port); pool.Keep > 0 && !b.has(port) {
			b.holds[port] = Hold{Port: port, Service: key, Uses: UsesOf(gone, port), Until: now.Add(pool.Keep)}
		}
	}
}

// mayHave says whether the port can be handed to the name, by itself or because it was the name's.
func (b *book) mayHave(port int, key Key, pools []string, recalled bool) bool {
	pool := b.poolOf(port)
	from := fuzzServer.Contains(port) && (len(pools) == 0 && pool.Name == "" || slices.Contains(pools, pool.Name))
	if p, promised := b.promises[port]; !from || promised && (!recalled || p.key != key) {
		return false
	}
	h, held := b.holds[port]
	for _, svc := range b.services {
		if slices.Contains(PortsOf(svc), port) && (!recalled || KeyOf(svc) != key) {
			return false
		}
	}
	if recalled {
		return pool.Keep > 0 && (!held || h.Service == key)
	}
	return !held && !pool.Named
}

// compare checks everything that can be asked of the ledger.
func (b *book) compare(t *testing.T, l *Ledger, now time.Time) {
	t.Helper()
	claims := map[int][]Key{}
	for _, key := range slices.SortedFunc(maps.Keys(b.services), func(x, y Key) int {
		a, b := b.services[x].CreationTimestamp, b.services[y].CreationTimestamp
		return cmpOr(a.Compare(b.Time), x.compare(y))
	}) {
		for _, port := range PortsOf(b.services[key]) {
			claims[port] = append(claims[port], key)
		}
	}
	var wantClaims []Claim
	for _, port := range slices.Sorted(maps.Keys(claims)) {
		wantClaims = append(wantClaims, Claim{port, claims[port]})
	}
	var wantHolds []Hold
	for _, port := range slices.Sorted(maps.Keys(b.holds)) {
		wantHolds = append(wantHolds, b.holds[port])
	}
	if diff := cmp.Diff(wantClaims, l.Claims(), equateEmpty); diff != "" {
		t.Fatalf("claims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantHolds, l.Holds(), equateEmpty); diff != "" {
		t.Fatalf("holds (-want +got):\n%s", diff)
	}
	for port := fuzzServer.First; port <= fuzzServer.Last; port++ {
		_, held := b.holds[port]
		_, promised := b.promises[port]
		if want, got := held || promised || claims[port] != nil, l.shareOf(port).ports.Has(port); got != want {
			t.Fatalf("port %d is taken %t, want %t", port, got, want)
		}
		if got := l.PoolOf(port); got != b.poolOf(port).Name {
			t.Fatalf("port %d belongs to %q", port, got)
		}
	}
	// Built anew from what is stored it is the same, but for promises.
	again := Rebuild(fuzzServer, b.pools, slices.Collect(maps.Values(b.services)), l.Holds(), now)
	if diff := cmp.Diff([]any{l.Claims(), l.Holds(), l.Shares()}, []any{again.Claims(), again.Holds(), again.Shares()}); diff != "" {
		t.Fatalf("built anew (-as it went +anew):\n%s", diff)
	}
	for _, s := range l.Shares() {
		if diff := cmp.Diff(l.Usage(s.Pool.Name), again.Usage(s.Pool.Name)); diff != "" {
			t.Fatalf("usage of %q (-as it went +anew):\n%s", s.Pool.Name, diff)
		}
	}
}

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

var equateEmpty = cmp.FilterValues(func(x, y any) bool { return isEmpty(x) && isEmpty(y) }, cmp.Comparer(func(any, any) bool { return true }))

func isEmpty(x any) bool {
	switch x := x.(type) {
	case []Claim:
		return len(x) == 0
	case []Hold:
		return len(x) == 0
	}
	return false
}

// FuzzLedger plays random events of Services, pools and time, and random requests.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{4, 1, 0, 5, 9, 3, 1, 0, 0, 2, 30, 1, 5, 7, 2})
	f.Add([]byte{3, 0, 0, 0, 1, 5, 1, 1, 5, 2, 1, 0, 3, 1, 0, 0, 0, 0, 4, 0, 7, 0, 1, 1})
	f.Add([]byte{3, 3, 0, 0, 2, 2, 1, 2, 0, 4, 2, 6, 5, 2, 200, 3, 2, 9, 5, 250, 1, 4, 2, 7})
	f.Fuzz(func(t *testing.T, ops []byte) {
		l, now, generation := NewLedger(fuzzServer), at(0), 0
		b := &book{services: map[Key]*corev1.Service{}, holds: map[int]Hold{}, promises: map[int]promise{}}
		for i := 0; i+2 < len(ops) && i < 900; i += 3 {
			x, y := int(ops[i+1]), int(ops[i+2])
			k := key(fmt.Sprint("s", x%5))
			switch ops[i] % 6 {
			case 0, 1: // a Service as it is, or as it is now, or another of that name
				svc := service(k.Name, x/8, corev1.ServicePort{Port: 80, NodePort: int32(y % 45)}, corev1.ServicePort{Port: 53, NodePort: int32(x % 45)}, corev1.ServicePort{Port: 53, Protocol: "UDP", NodePort: int32(x % 45)})
				before := b.services[k]
				known := before != nil && ops[i]%6 == 0
				if known {
					svc.UID, svc.CreationTimestamp = before.UID, before.CreationTimestamp
				} else {
					generation++
					svc.UID = types.UID(fmt.Sprint(generation))
					b.delete(k, now)
				}
				b.services[k] = svc
				if len(PortsOf(svc)) == 0 {
					delete(b.services, k)
				} else if !known {
					maps.DeleteFunc(b.promises, func(_ int, p promise) bool { return p.key == k })
				}
				for _, port := range PortsOf(svc) {
					delete(b.promises, port)
				}
				l.Set(svc, now)
			case 2:
				b.delete(k, now)
				l.Delete(k, now)
			case 3:
				b.pools = poolSets[x%len(poolSets)]
				l.SetPools(b.pools, now)
			case 4:
				fuzzAssign(t, l, b, k, x, y, now)
			case 5:
				now = now.Add(time.Duration(x%32) * time.Second)
				l.SetPools(b.pools, now) // the same again: only time passes
			}
			b.tidy(now)
			b.compare(t, l, now)
		}
	})
}

func fuzzAssign(t *testing.T, l *Ledger, b *book, k Key, x, y int, now time.Time) {
	svc := service(k.Name, 0, corev1.ServicePort{Port: 80}, corev1.ServicePort{Port: 53}, corev1.ServicePort{Port: 53, Protocol: "UDP"})
	svc.UID = ""
	if x%7 == 0 {
		svc.Spec.Ports[0].NodePort = int32(1 + y%45)
	}
	r := Request{Service: svc, NodePorts: true, HealthCheck: y%3 == 0, Recall: x%2 == 0, DryRun: y%5 == 0,
		Pools: [][]string{nil, {"a"}, {"b", "a"}, {"gone"}}[x%4]}
	if !r.DryRun {
		maps.DeleteFunc(b.promises, func(_ int, p promise) bool { return p.key == k })
	}
	named := int(svc.Spec.Ports[0].NodePort)
	given, err := l.Assign(r, now, func(n int) int { return y * 13 % n })
	if err != nil {
		full, ok := errors.AsType[*ExhaustedError](err)
		free := 0
		for port := fuzzServer.First; port <= fuzzServer.Last; port++ {
			if port != named && b.mayHave(port, k, r.Pools, false) {
				free++
			}
		}
		if !ok || free >= 3 || !slices.Equal(full.Pools, r.Pools) {
			t.Fatalf("with %d free ports: %v", free, err)
		}
		return
	}
	chosen := map[int]bool{}
	for i, port := range given.Ports {
		if port == 0 || svc.Spec.Ports[i].NodePort != 0 {
			t.Fatalf("port %d got %d", i, port)
		}
		chosen[int(port)] = true
	}
	if r.HealthCheck {
		if given.HealthCheck == 0 || chosen[int(given.HealthCheck)] {
			t.Fatalf("the health check got %d beside %v", given.HealthCheck, given.Ports)
		}
		chosen[int(given.HealthCheck)] = true
	}
	if tcp := given.Ports[1]; tcp == given.Ports[0] || int(tcp) == named && named != 0 {
		t.Fatalf("two ports of one protocol got %d", tcp)
	}
	for port := range chosen {
		if !b.mayHave(port, k, r.Pools, false) && (!r.Recall || !b.mayHave(port, k, r.Pools, true)) {
			t.Fatalf("%s got %d of %v", k, port, given)
		}
	}
	if r.Recall { // what is kept for the name comes back
		var kept []int
		for port, h := range b.holds {
			if h.Service == k && slices.Contains(h.Uses, "53/TCP") && !slices.Contains(h.Uses, "80/TCP") && port != named && b.mayHave(port, k, r.Pools, true) {
				kept = append(kept, port)
			}
		}
		if len(kept) > 0 && !slices.Contains(kept, int(given.Ports[1])) {
			t.Fatalf("%v were kept for 53/TCP, which got %d", kept, given.Ports[1])
		}
	}
	if r.DryRun {
		return
	}
	if named != 0 && fuzzServer.Contains(named) {
		_, promised := b.promises[named]
		h, held := b.holds[named]
		if !b.has(named) && !promised && (!held || h.Service == k) || held && h.Service == k {
			chosen[named] = true
		}
	}
	for port := range chosen {
		b.promises[port] = promise{k, now.Add(PromiseFor)}
	}
}
