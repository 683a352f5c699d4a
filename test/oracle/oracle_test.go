package oracle

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
)

// FuzzEndpoints plays a stream of events to upstream and to ours. Its bytes are the decisions of the stream.
func FuzzEndpoints(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) { play(t, stream[:min(len(stream), streamLength)]) })
}

// Streams that TestStreams plays, and how long they are.
const (
	streams      = 300
	streamLength = 600
)

var firstSeed = flag.Uint64("seed", 1, "the seed of the first stream")

// TestStreams plays random streams, the same ones every time: who breaks something sees it, and nobody else. Others have another -seed,
// or are found by FuzzEndpoints.
func TestStreams(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+streams; seed++ {
		if !t.Run(fmt.Sprint("Seed", seed), func(t *testing.T) { play(t, randomStream(seed)) }) {
			t.Fatalf("to see it again: go test -run TestStreams -seed %d", seed)
		}
	}
}

func randomStream(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	stream := make([]byte, streamLength)
	for i := range stream {
		stream[i] = byte(random.Uint32())
	}
	return stream
}

// table is everything that a stream is played to.
type table struct {
	t           testing.TB
	cluster     *cluster
	upstream    *upstream
	scratch     *scratch
	incremental *incremental
	classic     *classic
}

func newTable(t testing.TB, c *choices, limit int, calm bool) *table {
	cluster := newCluster(c)
	b := &table{t: t, cluster: cluster, upstream: newUpstream(t, cluster, limit), incremental: newIncremental(t, cluster, limit)}
	b.scratch = &scratch{ours: newOurs(t, cluster, limit), triggers: map[types.NamespacedName]*endpoints.TriggerTimes{}, members: map[types.NamespacedName]map[string]bool{}}
	b.incremental.calm = calm
	b.classic = newClassic(t, cluster)
	cluster.collected = func(uid types.UID) {
		b.upstream.store.collect(uid)
		b.scratch.store.collect(uid)
		b.incremental.store.collect(uid)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("limit %d, calm %v, events:\n%s", limit, calm, strings.Join(cluster.log, "\n"))
		}
	})
	return b
}

func play(t testing.TB, stream []byte) {
	c := &choices{data: stream}
	b := newTable(t, c, 1+c.of(8), c.oneIn(3))
	for step := 0; c.more() && !t.Failed(); step++ {
		b.cluster.note("step %d", step)
		for range 1 + c.of(4) {
			b.cluster.event()
		}
		if c.oneIn(6) {
			b.meddle()
		}
		b.step(!c.more() || c.of(3) > 0)
	}
}

// meddle lets somebody else change a slice of some Service, in all stores, if all repair it.
func (b *table) meddle() {
	c := b.cluster
	if len(c.services) == 0 {
		return
	}
	service, e, number := pick(c.choices, sortedKeys(c.services)...), pick(c.choices, edits...), c.of(8)
	if c.services[service].DeletionTimestamp != nil {
		return // what is missing then stays missing
	}
	c.note("somebody does to slice %d of %s: %s", number, service, e.name)
	if !e.oursAlone {
		b.upstream.store.edit(service, e, number)
	}
	b.scratch.store.edit(service, e, number)
	b.incremental.store.edit(service, e, number)
}

// step lets everybody do their work, and compares. Those who work incrementally may not be through with it.
func (b *table) step(settle bool) {
	for _, s := range []*store{b.upstream.store, b.scratch.store, b.incremental.store} {
		clear(s.triggers)
		clear(s.passed)
	}
	b.upstream.settle()
	wanted := map[types.NamespacedName]map[place]int{}
	for key, service := range b.cluster.services {
		if !selected(service) {
			continue
		}
		wanted[key] = placesOf(b.upstream.store.of(key, managedBy))
	}
	b.scratch.wanted, b.incremental.wanted = wanted, wanted
	b.scratch.settle()
	b.compare("from scratch", b.scratch.ours)
	b.compareTriggers("from scratch", b.scratch.ours)
	b.classic.compare(b.cluster)
	b.incremental.step(settle || b.incremental.calm)
	if settle || b.incremental.calm {
		b.compare("incremental", b.incremental.ours)
	}
	if b.incremental.calm {
		b.compareTriggers("incremental", b.incremental.ours)
	}
}

// compare wants the same slices upstream and ours, but for names and packing.
func (b *table) compare(how string, o *ours) {
	b.t.Helper()
	for _, key := range sortedKeys(b.cluster.services) {
		service := b.cluster.services[key]
		found := o.store.of(key, managedBy)
		for _, slice := range found {
			if len(slice.Endpoints) == 0 && len(slice.Ports) > 0 && selected(service) {
				b.t.Errorf("%s: %s has ports and no endpoints", how, slice.Name)
			}
		}
		for p, n := range placesOf(found) {
			if n > 1 && selected(service) {
				b.t.Errorf("%s: %v of %s is held %d times", how, p, key, n)
			}
		}
		switch {
		case !selected(service): // upstream leaves its slices behind: see TestCleanup
			for _, slice := range found {
				if endpoints.OwnedBy(slice, service) {
					b.t.Errorf("%s: %s has no selector and has slice %s", how, key, slice.Name)
				}
			}
		case service.DeletionTimestamp != nil:
			b.compareDeleted(how, service, found)
		default:
			if diff := cmp.Diff(contentOf(b.upstream.store.of(key, managedBy)), contentOf(found), cmp.AllowUnexported(frame{})); diff != "" {
				b.t.Errorf("%s: slices of %s (-upstream +ours):\n%s", how, key, diff)
			}
		}
	}
}

// compareDeleted looks at a Service that is being deleted. It gets no new slices, so that what finds room depends on
// packing; but what is there must be right.
func (b *table) compareDeleted(how string, service *corev1.Service, found []*discoveryv1.EndpointSlice) {
	b.t.Helper()
	ideal := content{}
	for f, lines := range contentOf(b.upstream.ideal(service)) {
		ideal[f] = lines
	}
	for f, lines := range contentOf(found) {
		for _, line := range lines {
			if !strings.Contains("\n"+strings.Join(ideal[f], "\n")+"\n", "\n"+line+"\n") {
				b.t.Errorf("%s: %s, which is being deleted, has\n%s\nin %+v, want any of\n%s", how, keyOf(service), line, f, strings.Join(ideal[f], "\n"))
			}
		}
	}
}

// compareTriggers wants the same time in the annotation wherever both wrote.
func (b *table) compareTriggers(how string, o *ours) {
	b.t.Helper()
	for _, key := range sortedKeys(b.cluster.services) {
		want, got := b.upstream.store.triggers[key], o.store.triggers[key]
		if len(want) == 0 || len(got) == 0 {
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			b.t.Errorf("%s: times in what was written of %s (-upstream +ours):\n%s", how, key, diff)
		}
	}
}
