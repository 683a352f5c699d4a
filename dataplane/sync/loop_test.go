package sync

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/dataplane/model"
)

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// recorder is a Backend and an Observer that remembers.
type recorder struct {
	mu        sync.Mutex
	syncs     []recorded
	results   []Result
	fail      error
	frontends []string // as of the last Sync, sorted
	endpoints int
	node      model.Node
	nodeGone  bool
	seen      map[Kind]int // events
	log       []string
}

type recorded struct {
	full bool
	at   time.Time
}

func (r *recorder) Sync(state *model.State, changes *model.Changes) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.syncs = append(r.syncs, recorded{full: changes == nil, at: time.Now()})
	if r.fail != nil {
		return r.fail
	}
	r.frontends = nil
	for key := range state.Frontends {
		r.frontends = append(r.frontends, netip.AddrPortFrom(key.Addr, key.Port).String())
	}
	slices.Sort(r.frontends)
	r.endpoints = 0
	for _, g := range state.Groups {
		r.endpoints += len(g.Endpoints)
	}
	r.node = state.Node
	return nil
}

func (r *recorder) Changed(kind Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[Kind]int{}
	}
	r.seen[kind]++
}

func (r *recorder) Queued() {}

func (r *recorder) Synced(result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, result)
}

func (r *recorder) Node(node *corev1.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeGone = node == nil
}

// see runs a look at the recorder under its lock.
func see[T any](r *recorder, look func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return look()
}

// eventually polls for a condition, with the lock held.
func (r *recorder) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !see(r, ok) {
		if time.Now().After(deadline) {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("never: %s; frontends %v, endpoints %d, node %+v, %d syncs, log:\n%s", what, r.frontends, r.endpoints, r.node, len(r.syncs), strings.Join(r.log, "\n"))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (r *recorder) serves(frontends ...string) func() bool {
	return func() bool { return slices.Equal(r.frontends, frontends) }
}

// start runs a loop until the test ends.
func start(t *testing.T, server *apiServer, edits ...func(*Options)) *recorder {
	t.Helper()
	r := &recorder{}
	options := Options{
		Model:        model.Options{NodeName: "n1"},
		Backend:      r,
		Observer:     r,
		MinInterval:  10 * time.Millisecond,
		FullInterval: time.Hour,
		Grace:        patience, // tests count writes: the first one waits for everything
	}
	for _, edit := range edits {
		edit(&options)
	}
	source, err := NewSource(server.config(), "n1", options.Model.Coexist)
	if err != nil {
		t.Fatal(err)
	}
	options.Source = source
	log := funcr.New(func(_, args string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log = append(r.log, args)
	}, funcr.Options{})
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), log))
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(options).Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the loop did not end with its context")
		}
	})
	return r
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Type: corev1.ServiceTypeClusterIP,
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

func endpointSlice(name, service string, ips ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(string), Port: new(int32(8080))}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return s
}

func node(zone string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: zone}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.30.0.11"}}},
	}
}

func TestFollowsTheAPIServer(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	server.put("endpointslices", endpointSlice("web-1", "web", "10.244.1.1"))
	other := node("zone-b")
	other.Name = "n2"
	other.Status.Addresses[0].Address = "172.30.0.12"
	server.put("nodes", node("zone-a"))
	server.put("nodes", other)
	server.put("servicecidrs", &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}})
	r := start(t, server)

	r.eventually(t, "the first sync knows everything", func() bool {
		return r.serves("10.96.0.1:80")() && r.endpoints == 1 && len(r.node.ServiceRanges) == 1 &&
			slices.Equal(r.node.NodePorts.Addrs, []netip.Addr{netip.MustParseAddr("172.30.0.11")})
	})
	if first := see(r, func() recorded { return r.syncs[0] }); !first.full {
		t.Error("the first sync was not a full one")
	}
	if n := see(r, func() int { return len(r.syncs) }); n != 1 {
		t.Errorf("%d syncs to begin with, want one that has everything", n)
	}

	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "a new Service", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	headless := endpointSlice("db-1", "db", "10.244.1.9")
	headless.Labels[corev1.IsHeadlessService] = ""
	server.put("endpointslices", headless)
	server.put("endpointslices", endpointSlice("web-1", "web", "10.244.1.1", "10.244.1.2"))
	r.eventually(t, "a new endpoint", func() bool { return r.endpoints == 2 })
	if n := see(r, func() int { return r.seen[EndpointSlices] }); n != 2 {
		t.Errorf("%d events of EndpointSlices, want the list and one: those of headless Services are not asked for", n)
	}
	server.put("servicecidrs", &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/16"}}})
	r.eventually(t, "a new ServiceCIDR at once", func() bool { return len(r.node.ServiceRanges) == 2 })
	server.remove("endpointslices", "default", "web-1")
	r.eventually(t, "a slice gone", func() bool { return r.endpoints == 0 })
	server.remove("services", "default", "web")
	r.eventually(t, "a Service gone", r.serves("10.96.0.2:80"))
	server.remove("nodes", "", "n1")
	r.eventually(t, "the Node gone", func() bool { return r.nodeGone })
	for i, s := range see(r, func() []recorded { return slices.Clone(r.syncs[1:]) }) {
		if s.full {
			t.Errorf("sync %d was a full one without need", i+1)
		}
	}
}

func TestNothingBeforeServicesAndSlices(t *testing.T) {
	for _, missing := range []string{"services", "endpointslices"} {
		t.Run(missing, func(t *testing.T) {
			server := newAPIServer(t)
			server.put("services", service("web", "10.96.0.1"))
			server.put("nodes", node("zone-a"))
			server.setRefuse(missing, true)
			r := start(t, server, func(o *Options) {
				o.Grace = time.Nanosecond
				o.Addresses = func(ctx context.Context, _ logr.Logger, set func([]netip.Addr)) {
					// Many reasons to write, if it dared.
					for i := byte(0); ctx.Err() == nil && i < 100; i++ {
						set([]netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, i})})
					}
				}
			})
			r.eventually(t, "two more attempts to list", func() bool { return server.refusals() > 2 })
			if n := see(r, func() int { return len(r.syncs) }); n != 0 {
				t.Fatalf("%d syncs without %s", n, missing)
			}
			server.setRefuse(missing, false)
			r.eventually(t, "a sync once they are there", r.serves("10.96.0.1:80"))
		})
	}
}

func TestGrace(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	server.setRefuse("nodes", true)
	server.setRefuse("servicecidrs", true)
	r := start(t, server, func(o *Options) { o.Grace = 50 * time.Millisecond })
	r.eventually(t, "a sync without the Node and ServiceCIDRs", r.serves("10.96.0.1:80"))
	r.eventually(t, "a word on it", func() bool {
		return slices.ContainsFunc(r.log, func(line string) bool { return strings.Contains(line, "without facts about the node") })
	})
}

// TestNodeMissing: a name that no Node has is said, after Grace in which the Node may appear.
func TestNodeMissing(t *testing.T) {
	server := newAPIServer(t)
	server.remove("nodes", "", "n1")
	server.put("services", service("web", "10.96.0.1"))
	r := start(t, server, func(o *Options) { o.Grace = 50 * time.Millisecond })
	r.eventually(t, "a sync without the Node", r.serves("10.96.0.1:80"))
	r.eventually(t, "a word on it", func() bool {
		return slices.ContainsFunc(r.log, func(line string) bool {
			return strings.Contains(line, "No Node of this name") && strings.Contains(line, `"n1"`) && strings.Contains(line, "--node-name")
		})
	})
}

// TestNodeLate: node ports of a former run stay until the Node is there.
func TestNodeLate(t *testing.T) {
	r := &recorder{}
	l := New(Options{Backend: r, Observer: r})
	l.addresses = true
	nodes := nodeStore(l)
	for _, store := range []cache.ReflectorStore{serviceStore(l), sliceStore(l), cidrStore(l), nodes} {
		if err := store.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if wait := l.missing(now); wait != defaultGrace {
		t.Errorf("waits %v for a Node that does not exist, want %v", wait, defaultGrace)
	}
	if err := nodes.Add(node("zone-a")); err != nil {
		t.Fatal(err)
	}
	if wait := l.missing(now); wait != 0 {
		t.Errorf("waits %v though the Node is there", wait)
	}
}

func TestCoexist(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("theirs", "10.96.0.1"))
	ours := service("ours", "10.96.0.2")
	ours.Labels = map[string]string{model.LabelProxyName: model.ProxyName}
	server.put("services", ours)
	// In this mode ServiceCIDRs are not even asked for.
	server.setRefuse("servicecidrs", true)
	r := start(t, server, func(o *Options) { o.Model.Coexist = true })
	r.eventually(t, "our Service alone", r.serves("10.96.0.2:80"))
	if ranges := see(r, func() int { return len(r.node.ServiceRanges) }); ranges != 0 {
		t.Errorf("%d service ranges, want none", ranges)
	}
	server.put("services", service("ours", "10.96.0.2"))
	r.eventually(t, "no Service once the label is gone", func() bool { return len(r.frontends) == 0 })
}

func TestAPIServerAway(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	server.put("services", service("old", "10.96.0.9"))
	r := start(t, server)
	r.eventually(t, "the first sync", r.serves("10.96.0.1:80", "10.96.0.9:80"))
	before := see(r, func() int { return len(r.syncs) })

	for resource := range listKinds {
		server.setRefuse(resource, true)
	}
	server.dropWatches()
	server.forgetSilently("services", "default", "old")
	server.put("services", service("new", "10.96.0.3"))
	r.eventually(t, "attempts to list everything again", func() bool { return server.refusals() > 2*len(listKinds) })
	if got := see(r, func() []string { return r.frontends }); len(got) != 2 || see(r, func() int { return len(r.syncs) }) != before {
		t.Fatalf("while the API server is away: %v, want what was", got)
	}
	for resource := range listKinds {
		server.setRefuse(resource, false)
	}
	r.eventually(t, "what changed meanwhile, deletions too", r.serves("10.96.0.1:80", "10.96.0.3:80"))
}

// TestUnreachable starts with nobody at the address, and brings the API server up later.
func TestUnreachable(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	proxy := newGate(t, server.Listener.Addr().String())
	server.URL = "http://" + proxy.address
	r := start(t, server)
	r.eventually(t, "a word on it", func() bool {
		return slices.ContainsFunc(r.log, func(line string) bool { return strings.Contains(line, "Cannot reach the API server") })
	})
	proxy.open(t)
	r.eventually(t, "rules", r.serves("10.96.0.1:80"))
	r.eventually(t, "the good news", func() bool {
		return slices.ContainsFunc(r.log, func(line string) bool { return strings.Contains(line, "Reached the API server again") })
	})
}

func TestFailureForcesFullSync(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	r := start(t, server)
	r.eventually(t, "the first sync", r.serves("10.96.0.1:80"))
	see(r, func() int { r.fail = errors.New("the kernel said no"); return 0 })
	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "three failures", func() bool { return len(r.syncs) >= 4 })
	syncs := see(r, func() []recorded { return slices.Clone(r.syncs) })
	if syncs[1].full || !syncs[2].full || !syncs[3].full {
		t.Errorf("syncs %+v: want a partial one that fails, then full ones", syncs)
	}
	if a, b := syncs[2].at.Sub(syncs[1].at), syncs[3].at.Sub(syncs[2].at); a < firstRetry || b < 2*firstRetry {
		t.Errorf("retries after %v and %v, want at least %v and %v", a, b, firstRetry, 2*firstRetry)
	}
	see(r, func() int { r.fail = nil; return 0 })
	r.eventually(t, "rules", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	count := see(r, func() int { return len(r.syncs) })
	server.put("services", service("more", "10.96.0.3"))
	r.eventually(t, "another Service", r.serves("10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80"))
	if see(r, func() bool { return r.syncs[count].full }) {
		t.Error("full syncs go on after the failure is over")
	}
}

// TestQueuedBeforeWritten: an observer that heard of a change after it was written would wait for it for ever.
func TestQueuedBeforeWritten(t *testing.T) {
	r := &orderly{}
	l := New(Options{Backend: r, Observer: r})
	l.ready = true
	r.between = func() {
		if l.mu.TryLock() {
			l.mu.Unlock()
			t.Error("a pass can come between a change and the word of it")
		}
	}
	l.update(func() {})
}

// orderly looks at the loop whenever it is told of a change.
type orderly struct {
	recorder
	between func()
}

func (o *orderly) Queued() { o.between() }

func TestPeriodicFullSync(t *testing.T) {
	server := newAPIServer(t)
	r := start(t, server, func(o *Options) { o.FullInterval = 20 * time.Millisecond })
	r.eventually(t, "full syncs without a change", func() bool {
		return len(r.syncs) > 3 && !slices.ContainsFunc(r.syncs, func(s recorded) bool { return !s.full })
	})
}

// TestDamage: a report of damage is followed by a full sync, and by one for many reports that come meanwhile.
func TestDamage(t *testing.T) {
	server := newAPIServer(t)
	server.put("services", service("web", "10.96.0.1"))
	damage := make(chan string)
	r := start(t, server, func(o *Options) { o.Damage = damage })
	r.eventually(t, "the first sync", r.serves("10.96.0.1:80"))
	reports := func() (n int) {
		for _, result := range r.results {
			n += result.Damage
		}
		return n
	}
	damage <- "nft (process 7) deleted table ip fairlead"
	r.eventually(t, "a full sync", func() bool { return len(r.syncs) == 2 && r.syncs[1].full && reports() == 1 })
	for range 100 {
		damage <- "the same again"
	}
	r.eventually(t, "all reports answered", func() bool { return reports() == 101 })
	repairs := see(r, func() []recorded { return slices.Clone(r.syncs[1:]) })
	for i := range repairs[1:] {
		if gap := repairs[i+1].at.Sub(repairs[i].at); gap < repairPause || !repairs[i+1].full {
			t.Errorf("a repair is full: %v, and %v after the last, want at least %v", repairs[i+1].full, gap, repairPause)
		}
	}
	server.put("services", service("api", "10.96.0.2"))
	r.eventually(t, "a change", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	if see(r, func() bool { return r.syncs[len(r.syncs)-1].full }) {
		t.Error("full syncs go on after the damage is over")
	}
	close(damage) // nobody reports any more: changes are written as ever
	server.put("services", service("more", "10.96.0.3"))
	r.eventually(t, "another change", r.serves("10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80"))
	named := see(r, func() int {
		return len(slices.DeleteFunc(slices.Clone(r.log), func(line string) bool { return !strings.Contains(line, "Others changed our rules") }))
	})
	if named != len(repairs) {
		t.Errorf("damage is named %d times in the log, want once for each of %d repairs:\n%s", named, len(repairs), strings.Join(r.log, "\n"))
	}
}

func TestCoalesces(t *testing.T) {
	server := newAPIServer(t)
	r := start(t, server, func(o *Options) { o.MinInterval = 300 * time.Millisecond })
	r.eventually(t, "the first sync", func() bool { return len(r.syncs) == 1 })
	for i := range 50 {
		server.put("services", service("web", netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)}).String()))
	}
	r.eventually(t, "the last of many changes", r.serves("10.96.0.50:80"))
	syncs := see(r, func() []recorded { return slices.Clone(r.syncs) })
	for i := 1; i < len(syncs); i++ {
		if gap := syncs[i].at.Sub(syncs[i-1].at); gap < 300*time.Millisecond {
			t.Errorf("syncs %d and %d are %v apart", i-1, i, gap)
		}
	}
}

func TestMalformedObjectIsNamedOnce(t *testing.T) {
	server := newAPIServer(t)
	bad := service("bad", "10.96.0.1")
	bad.Spec.ExternalIPs = []string{"nonsense"}
	server.put("services", bad)
	r := start(t, server)
	r.eventually(t, "its good parts", r.serves("10.96.0.1:80"))
	server.put("services", bad.DeepCopy())
	server.put("services", service("last", "10.96.0.2"))
	r.eventually(t, "another Service", r.serves("10.96.0.1:80", "10.96.0.2:80"))
	named := see(r, func() int {
		return len(slices.DeleteFunc(slices.Clone(r.log), func(line string) bool { return !strings.Contains(line, "nonsense") }))
	})
	if named != 1 {
		t.Errorf("named %d times in the log, want once:\n%s", named, strings.Join(r.log, "\n"))
	}
}
