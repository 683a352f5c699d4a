package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const mirroredBy = "endpointslicemirroring-controller.k8s.io"

// mirror is a namespace of Endpoints for Services without selectors.
type mirror struct {
	t         *testing.T
	namespace string
	random    *rand.Rand
	probes    int
}

// put creates or replaces the Endpoints of a Service without a selector, which it makes first.
func (m *mirror) put(source *corev1.Endpoints) {
	m.t.Helper()
	source.Namespace = m.namespace
	existing := &corev1.Endpoints{}
	err := suite.admin.Get(m.t.Context(), client.ObjectKeyFromObject(source), existing)
	if client.IgnoreNotFound(err) != nil {
		m.t.Fatal(err)
	}
	if err == nil {
		source.ResourceVersion = existing.ResourceVersion
		if err := suite.admin.Update(m.t.Context(), source); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	create(m.t, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.namespace, Name: source.Name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
	})
	create(m.t, source)
}

// settled waits until whoever mirrors has done what there was to do: first it mirrors one more object, so that it has
// been told of all; then a second one, which it was told of after all those; then nothing is written for a while.
func (m *mirror) settled() map[types.UID]*discoveryv1.EndpointSlice {
	m.t.Helper()
	for range 2 {
		m.probes++
		probe := newEndpoints(fmt.Sprintf("probe-%d", m.probes))
		probe.Subsets = []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}}
		m.put(probe)
		eventually(m.t, waitFor, "a mirrored "+probe.Name, func() error {
			found, err := slicesOf(m.t.Context(), m.namespace, probe.Name)
			if err == nil && len(found) != 1 {
				err = fmt.Errorf("%d slices", len(found))
			}
			return err
		})
	}
	var before map[types.UID]*discoveryv1.EndpointSlice
	quiet := 0
	eventually(m.t, waitFor, "quiet", func() error {
		now := m.slices()
		if !maps.Equal(versionsOf(now), versionsOf(before)) {
			before, quiet = now, 0
		}
		if quiet++; quiet < quietPolls {
			return fmt.Errorf("for %d polls only", quiet)
		}
		return nil
	})
	return before
}

// slices returns the slices of all but the probes.
func (m *mirror) slices() map[types.UID]*discoveryv1.EndpointSlice {
	m.t.Helper()
	var list discoveryv1.EndpointSliceList
	if err := suite.admin.List(m.t.Context(), &list, client.InNamespace(m.namespace)); err != nil {
		m.t.Fatal(err)
	}
	all := map[types.UID]*discoveryv1.EndpointSlice{}
	for i := range list.Items {
		if !strings.HasPrefix(list.Items[i].Name, "probe-") {
			all[list.Items[i].UID] = &list.Items[i]
		}
	}
	return all
}

func versionsOf(all map[types.UID]*discoveryv1.EndpointSlice) map[types.UID]string {
	versions := map[types.UID]string{}
	for uid, slice := range all {
		versions[uid] = slice.ResourceVersion
	}
	return versions
}

// unwritten wants that nobody wrote anything between two times.
func unwritten(t *testing.T, when string, before, after map[types.UID]*discoveryv1.EndpointSlice) {
	t.Helper()
	written := 0
	for uid, was := range before {
		is := after[uid]
		if is != nil && is.ResourceVersion == was.ResourceVersion {
			continue
		}
		if written++; written <= 3 {
			t.Errorf("%s: %s was written (-before +after):\n%s", when, was.Name, cmp.Diff(was, is))
		}
	}
	for uid, is := range after {
		if before[uid] == nil {
			written++
			t.Errorf("%s: %s was created", when, is.Name)
		}
	}
	if written > 0 || len(before) == 0 {
		t.Errorf("%s: %d writes of %d slices, want none of several", when, written, len(before))
	}
}

// contents is what slices say, but for their names and the order of their endpoints and ports, by Service, family and
// ports.
func contents(t *testing.T, all map[types.UID]*discoveryv1.EndpointSlice) map[string]*discoveryv1.EndpointSlice {
	t.Helper()
	byKey := map[string]*discoveryv1.EndpointSlice{}
	for _, slice := range all {
		said := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Labels: slice.Labels, Annotations: slice.Annotations, OwnerReferences: slice.OwnerReferences},
			AddressType: slice.AddressType, Ports: slices.Clone(slice.Ports), Endpoints: slices.Clone(slice.Endpoints),
		}
		slices.SortFunc(said.Ports, func(a, b discoveryv1.EndpointPort) int { return strings.Compare(*a.Name, *b.Name) })
		slices.SortFunc(said.Endpoints, func(a, b discoveryv1.Endpoint) int { return strings.Compare(identity(a), identity(b)) })
		key := fmt.Sprint(slice.Labels[discoveryv1.LabelServiceName], slice.AddressType)
		for _, port := range said.Ports {
			key += fmt.Sprint(" ", *port.Name, port.AppProtocol != nil)
		}
		if byKey[key] != nil {
			t.Errorf("%s has two slices", key)
		}
		byKey[key] = said
	}
	return byKey
}

func identity(e discoveryv1.Endpoint) string {
	text := e.Addresses[0]
	if e.Hostname != nil {
		text += " " + *e.Hostname
	}
	if e.TargetRef != nil {
		text += " " + e.TargetRef.Name
	}
	return text
}

func newEndpoints(name string) *corev1.Endpoints {
	return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// fill makes Endpoints of every kind, at random.
func (m *mirror) fill() {
	for i := range 40 {
		e := newEndpoints(fmt.Sprintf("random-%d", i))
		if m.random.IntN(2) == 0 {
			e.Labels = map[string]string{"team": string(rune('a' + m.random.IntN(3))), corev1.IsHeadlessService: ""}
		}
		if m.random.IntN(2) == 0 {
			e.Annotations = map[string]string{
				"note": fmt.Sprint(m.random.IntN(3)), corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z",
				corev1.LastAppliedConfigAnnotation: "{}", corev1.EndpointsOverCapacity: "truncated",
			}
		}
		for j := range m.random.IntN(5) {
			e.Subsets = append(e.Subsets, m.subset(j))
		}
		m.put(e)
	}
	large := newEndpoints("large")
	for family, format := range []string{"10.1.%d.%d", "fd00:1::%x:%x"} {
		subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: fmt.Sprintf("l%d", family), Port: 1}}}
		for i := range 1100 + m.random.IntN(50) {
			address := corev1.EndpointAddress{IP: fmt.Sprintf(format, i/200, i%200+1)}
			if m.random.IntN(5) == 0 {
				subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
			} else {
				subset.Addresses = append(subset.Addresses, address)
			}
		}
		large.Subsets = append(large.Subsets, subset)
	}
	// Both families in one subset: the limit is for both together.
	both := newEndpoints("both")
	both.Subsets = []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 1}}}}
	for _, subset := range large.Subsets {
		both.Subsets[0].Addresses = append(both.Subsets[0].Addresses, subset.Addresses[:600]...)
		both.Subsets[0].NotReadyAddresses = append(both.Subsets[0].NotReadyAddresses, subset.NotReadyAddresses...)
	}
	m.put(large)
	m.put(both)
	skipped := newEndpoints("skipped")
	skipped.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	skipped.Subsets = large.Subsets
	m.put(skipped)
}

// subset returns one with random ports and addresses of a few that subsets share, so that they overlap. Where a port
// has an appProtocol, which kube-controller-manager takes for another port in each subset, they do not: it would then
// decide by chance, or list a port twice, which the API server refuses.
func (m *mirror) subset(number int) corev1.EndpointSubset {
	var subset corev1.EndpointSubset
	range4, range6 := "10.2.0.%d", "fd00:2::%x"
	apart := m.random.IntN(4) == 0
	if apart {
		range4, range6 = fmt.Sprintf("10.3.%d.", number)+"%d", fmt.Sprintf("fd00:3:%d::", number)+"%x"
	}
	for i := range 4 {
		if m.random.IntN(2) == 0 {
			port := corev1.EndpointPort{Name: fmt.Sprintf("p%d", i), Port: int32(i + 1), Protocol: corev1.ProtocolTCP}
			if i == 3 {
				port.Protocol = corev1.ProtocolUDP
			}
			if apart {
				port.AppProtocol = new("kubernetes.io/h2c")
			}
			subset.Ports = append(subset.Ports, port)
		}
	}
	m.random.Shuffle(len(subset.Ports), func(i, j int) { subset.Ports[i], subset.Ports[j] = subset.Ports[j], subset.Ports[i] })
	for i := range 5 {
		format := range4
		if i > 2 {
			format = range6
		}
		address := corev1.EndpointAddress{IP: fmt.Sprintf(format, i+1)}
		if i%2 == 0 {
			address.Hostname, address.NodeName = fmt.Sprintf("h%d", i), new("node-a")
			address.TargetRef = &corev1.ObjectReference{
				APIVersion: "v1", Kind: "Pod", Namespace: m.namespace, Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprint(i)), ResourceVersion: "7",
			}
		}
		switch m.random.IntN(4) {
		case 0:
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		case 1, 2:
			subset.Addresses = append(subset.Addresses, address)
		}
	}
	if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
		subset.Addresses = []corev1.EndpointAddress{{IP: fmt.Sprintf(range4, 9)}} // the API server wants one
	}
	return subset
}

// TestMirroringHandOver: what kube-controller-manager mirrored, ours takes over without a write; what ours mirrors says
// the same but for names; and kube-controller-manager takes that over without a write.
func TestMirroringHandOver(t *testing.T) {
	needsAPIServer(t)
	m := &mirror{t: t, namespace: namespace(t), random: rand.New(rand.NewPCG(*seed, 0))}
	m.fill()
	theirs := startUpstream(t, "endpointslice-mirroring-controller")
	upstream := m.settled()
	theirs.stop()

	ours := startManager(t, "--leader-elect=false", "--controllers=mirroring")
	unwritten(t, "taking over", upstream, m.settled())

	// The same from nothing.
	for _, slice := range upstream {
		remove(t, slice)
	}
	eventually(t, waitFor, "as many slices again", func() error {
		if now := m.slices(); len(now) != len(upstream) {
			return fmt.Errorf("%d of %d", len(now), len(upstream))
		}
		return nil
	})
	if diff := cmp.Diff(contents(t, upstream), contents(t, m.settled())); diff != "" {
		t.Errorf("slices (-upstream +ours):\n%s", diff)
	}

	m.fill() // others, so that what stands is changed in place
	changed := m.settled()
	_ = ours.stop(t) // how it ended is checked when the test ends
	startUpstream(t, "endpointslice-mirroring-controller")
	unwritten(t, "handing back", changed, m.settled())
}

// TestMirroringAfterSelector: a Service that loses its selector loses its slices and the Endpoints that the controller
// endpoints wrote, and these are not mirrored, not even for a moment; Endpoints that somebody writes then are.
func TestMirroringAfterSelector(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	startManager(t, "--leader-elect=false")
	a := applySample(t, "nginx-clusterip.yaml")
	ready(t, a, a.pods...)
	key := client.ObjectKeyFromObject(a.service)
	eventually(t, waitFor, "Endpoints", func() error { return suite.admin.Get(t.Context(), key, &corev1.Endpoints{}) })

	watcher, err := client.NewWithWatch(suite.config, client.Options{Scheme: suite.admin.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	events, err := watcher.Watch(t.Context(), &discoveryv1.EndpointSliceList{}, client.InNamespace(a.namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()

	get(t, a.namespace, a.service.Name, a.service)
	patch := client.MergeFrom(a.service.DeepCopy())
	a.service.Spec.Selector = nil
	if err := suite.admin.Patch(t.Context(), a.service, patch); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitFor, "neither slices nor Endpoints", func() error {
		found, err := slicesOf(t.Context(), a.namespace, a.service.Name)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("%d slices", len(found))
		}
		if gone := suite.admin.Get(t.Context(), key, &corev1.Endpoints{}); client.IgnoreNotFound(gone) != nil || gone == nil {
			err = fmt.Errorf("the Endpoints are there (%w), and %w", gone, err)
		}
		return err
	})
	byHand := newEndpoints(a.service.Name)
	byHand.Namespace = a.namespace
	byHand.Subsets = []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}, Ports: []corev1.EndpointPort{{Port: 80}}}}
	create(t, byHand)
	deadline := time.After(waitFor)
	for {
		select {
		case event := <-events.ResultChan():
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok || slice.Labels[discoveryv1.LabelManagedBy] != mirroredBy {
				continue
			}
			if got := slice.Endpoints[0].Addresses[0]; got != "192.0.2.7" {
				t.Errorf("%s was mirrored", got)
			}
			return
		case <-deadline:
			t.Fatal("what was written by hand is not mirrored")
		}
	}
}

// testMirrored: Endpoints written by hand are published, one slice for each family.
func testMirrored(t *testing.T) {
	a := applySample(t, "external-addresses.yaml")
	want := map[string]bool{"192.0.2.10": true, "192.0.2.11": false, "2001:db8::10": true}
	eventually(t, waitFor, "mirrored Endpoints", func() error {
		found, err := slicesOf(t.Context(), a.namespace, a.service.Name)
		if err != nil {
			return err
		}
		got := map[string]bool{}
		for _, slice := range found {
			for _, endpoint := range slice.Endpoints {
				got[endpoint.Addresses[0]] = *endpoint.Conditions.Ready
			}
		}
		if len(found) != 2 || !maps.Equal(got, want) {
			return fmt.Errorf("%d slices with %v, want 2 with %v", len(found), got, want)
		}
		return nil
	})
}
