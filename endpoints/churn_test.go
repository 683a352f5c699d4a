package endpoints

import (
	stdcmp "cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// churn is a stream of events of the Pods of one Service. An event is the new state of a Pod, or nil where it is gone.
type churn struct {
	random *rand.Rand
	events []podEvent
}

type podEvent struct {
	name string
	pod  *corev1.Pod
}

// start begins a Pod: without an address, then with one, then ready.
func (c *churn) start(i int) []podEvent {
	pod := newPod(i, setReady(false))
	created := newPod(i, setReady(false), func(p *corev1.Pod) { p.Status.PodIPs = nil })
	return []podEvent{{pod.Name, created}, {pod.Name, pod}, {pod.Name, newPod(i)}}
}

func (c *churn) stop(i int) []podEvent {
	pod := newPod(i, terminating)
	return []podEvent{{pod.Name, pod}, {pod.Name, nil}}
}

// merge interleaves the events of several Pods at random; those of each stay in order.
func (c *churn) merge(streams [][]podEvent) {
	for len(streams) > 0 {
		i := c.random.IntN(len(streams))
		c.events = append(c.events, streams[i][0])
		if streams[i] = streams[i][1:]; len(streams[i]) == 0 {
			streams = slices.Delete(streams, i, i+1)
		}
	}
}

// roll replaces Pods 0 to n-1 by n to 2n-1, surge at a time, in random order.
func (c *churn) roll(n, surge int) {
	old := c.random.Perm(n)
	for at := 0; at < n; at += surge {
		var starts, stops [][]podEvent
		for i := at; i < min(n, at+surge); i++ {
			starts = append(starts, c.start(n+i))
			stops = append(stops, c.stop(old[i]))
		}
		if surge == 1 {
			c.events = slices.Concat(c.events, starts[0], stops[0])
			continue
		}
		var whole [][]podEvent
		for i := range starts {
			whole = append(whole, slices.Concat(starts[i], stops[i]))
		}
		c.merge(whole)
	}
}

// ours counts the writes of a Layout that plans every k events and, at the end, until nothing is left to do.
func (c *churn) ours(t testing.TB, from, limit, k int) (writes, left int) {
	set := setOf(newService(), newPods(0, from))
	layout := NewLayout(opts(limit))
	version := 0
	do := func(plan Plan) int {
		for _, write := range plan.Writes {
			version++
			if write.Verb == Delete {
				layout.Wrote(write, nil)
				continue
			}
			result := *write.Slice
			result.ResourceVersion = strconv.Itoa(version)
			if write.Verb == Create {
				result.UID = types.UID(result.ResourceVersion)
			}
			layout.Wrote(write, &result)
		}
		return len(plan.Writes)
	}
	do(layout.Plan(set, Pass{}))
	for batch := range slices.Chunk(c.events, k) {
		for _, e := range batch {
			if e.pod == nil {
				set.Delete(e.name)
			} else {
				set.Put(e.pod, zoneOf(e.pod))
			}
		}
		writes += do(layout.Plan(set, Pass{Busy: true}))
	}
	for range 100 {
		plan := layout.Plan(set, Pass{})
		if len(plan.Writes) == 0 {
			return writes, plan.Slices
		}
		writes += do(plan)
	}
	t.Fatal("there is no end")
	return 0, 0
}

// upstream is the algorithm of k8s.io/endpointslice: what changed and what went is written in place, new endpoints go
// into slices that are written anyway, fullest first, the rest into the one that it fills best, else into new ones; what
// is empty is deleted, and a create and a delete in one sync are one update.
type upstream struct {
	limit int
	// fill is how many endpoints each slice holds.
	fill []int
	// sliceOf and shown say where a Pod is and what is written of it.
	sliceOf map[string]int
	shown   map[string]string
}

func (u *upstream) sync(changed map[string]string) (writes int) {
	dirty := map[int]bool{}
	var rest []string
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		at, placed := u.sliceOf[name]
		switch now := changed[name]; {
		case placed && now == u.shown[name]:
			continue
		case placed && now == "":
			u.fill[at]--
			delete(u.sliceOf, name)
			delete(u.shown, name)
			dirty[at] = true
		case placed:
			u.shown[name] = now
			dirty[at] = true
		case now != "":
			u.shown[name] = now
			rest = append(rest, name)
		}
	}
	put := func(at int) {
		for len(rest) > 0 && u.fill[at] < u.limit {
			u.sliceOf[rest[0]] = at
			rest = rest[1:]
			u.fill[at]++
			dirty[at] = true
		}
	}
	fullest := slices.SortedFunc(maps.Keys(dirty), func(a, b int) int { return stdcmp.Or(u.fill[b]-u.fill[a], a-b) })
	for _, at := range fullest {
		if u.fill[at] > 0 {
			put(at)
		}
	}
	creates := 0
	for len(rest) > 0 {
		best := -1
		for at, n := range u.fill {
			if n > 0 && !dirty[at] && n+len(rest) <= u.limit && (best < 0 || n > u.fill[best]) {
				best = at
			}
		}
		if best < 0 {
			u.fill = append(u.fill, 0)
			best = len(u.fill) - 1
			creates++
		}
		put(best)
	}
	deletes := 0
	for at := range dirty {
		if u.fill[at] == 0 {
			deletes++
		}
	}
	return len(dirty) - min(creates, deletes)
}

func (c *churn) upstream(from, limit, k int) (writes, left int) {
	u := upstream{limit: limit, sliceOf: map[string]int{}, shown: map[string]string{}}
	// What a Pod shows: nothing, or whether it is ready and whether it goes.
	show := func(pod *corev1.Pod) string {
		if pod == nil || !Publishable(pod) {
			return ""
		}
		return fmt.Sprint(podReady(pod), pod.DeletionTimestamp != nil)
	}
	changed := map[string]string{}
	for _, pod := range newPods(0, from) {
		changed[pod.Name] = show(pod)
	}
	u.sync(changed)
	for batch := range slices.Chunk(c.events, k) {
		changed = map[string]string{}
		for _, e := range batch {
			changed[e.name] = show(e.pod)
		}
		writes += u.sync(changed)
	}
	for _, n := range u.fill {
		if n > 0 {
			left++
		}
	}
	return writes, left
}

// TestChurn counts writes, and the slices that are left, against upstream's algorithm over the same events, planned
// every 2, 5, 20 and 100 of them. Compaction is counted in, and may cost half a percent at most.
func TestChurn(t *testing.T) {
	all := func(from, to int, events func(int) []podEvent) [][]podEvent {
		var streams [][]podEvent
		for i := from; i < to; i++ {
			streams = append(streams, events(i))
		}
		return streams
	}
	cases := map[string]struct {
		from int
		make func(c *churn)
		// left is how many slices are to be left at most.
		left int
	}{
		"Rolling1000By1":   {from: 1000, left: 11, make: func(c *churn) { c.roll(1000, 1) }},
		"Rolling1000By10":  {from: 1000, left: 11, make: func(c *churn) { c.roll(1000, 10) }},
		"Rolling1000By250": {from: 1000, left: 12, make: func(c *churn) { c.roll(1000, 250) }},
		"Rolling950By1":    {from: 950, left: 10, make: func(c *churn) { c.roll(950, 1) }},
		"Rolling950By50":   {from: 950, left: 10, make: func(c *churn) { c.roll(950, 50) }},
		"Scale0To1000":     {left: 10, make: func(c *churn) { c.merge(all(0, 1000, c.start)) }},
		"Scale1000To100": {from: 1000, left: 2, make: func(c *churn) {
			gone := c.random.Perm(1000)[:900]
			c.merge(all(0, 900, func(i int) []podEvent { return c.stop(gone[i]) }))
		}},
		"Scale1000To1300AndBack": {from: 1000, left: 10, make: func(c *churn) {
			for range 5 {
				c.merge(all(1000, 1300, c.start))
				c.merge(all(1000, 1300, c.stop))
			}
		}},
		"Flips": {from: 1000, left: 10, make: func(c *churn) {
			for range 2000 {
				pod := newPod(c.random.IntN(1000), setReady(c.random.IntN(2) == 0))
				c.events = append(c.events, podEvent{pod.Name, pod})
			}
		}},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		tc := cases[name]
		t.Run(name, func(t *testing.T) {
			c := &churn{random: rand.New(rand.NewPCG(1, 1))}
			tc.make(c)
			for _, k := range []int{2, 5, 20, 100} {
				ours, left := c.ours(t, tc.from, 100, k)
				theirs, theirsLeft := c.upstream(tc.from, 100, k)
				t.Logf("%3d events a plan: %4d writes and %2d slices left, upstream %4d and %2d", k, ours, left, theirs, theirsLeft)
				if ours > theirs+theirs/200 {
					t.Errorf("%d events a plan: %d writes, upstream makes %d", k, ours, theirs)
				}
				if left > tc.left {
					t.Errorf("%d events a plan: %d slices are left, want %d at most", k, left, tc.left)
				}
			}
		})
	}
}

// TestBusy: while a Service is busy, slices are emptied only where that makes no write more, and new endpoints go where
// there is most room.
func TestBusy(t *testing.T) {
	cases := map[string]struct {
		reason string
		// held are the Pods in two slices of 10, now what the Service has then; looked at again are those of again.
		held       [2][]*corev1.Pod
		now, again []*corev1.Pod
		want       []string
		more       bool
		quiet      []string
	}{
		"Clean": {
			reason: "Slices that nothing else is written to are left.",
			held:   [2][]*corev1.Pod{newPods(0, 6), newPods(6, 10)}, now: newPods(0, 10),
			want: []string{}, more: true, quiet: []string{"Update 10", "Delete 4 moves"},
		},
		"LookedAt": {
			reason: "So are those that were looked at and found right.",
			held:   [2][]*corev1.Pod{newPods(0, 6), newPods(6, 10)}, now: newPods(0, 10), again: newPods(0, 10),
			want: []string{}, more: true, quiet: []string{"Update 10", "Delete 4 moves"},
		},
		"Dirty": {
			reason: "Those that are written anyway become one.",
			held:   [2][]*corev1.Pod{newPods(0, 6), newPods(6, 10)}, now: append(newPods(1, 6), newPods(7, 10)...),
			want: []string{"Update 8", "Delete 4 moves"}, quiet: []string{"Update 8", "Delete 4 moves"},
		},
		"New": {
			reason: "One more goes where there is most room, or where it fits best.",
			held:   [2][]*corev1.Pod{newPods(0, 8), newPods(8, 14)}, now: newPods(0, 15),
			want: []string{"Update 7"}, quiet: []string{"Update 9"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for busy, want := range map[bool][]string{true: tc.want, false: tc.quiet} {
				set := setOf(newService(), slices.Concat(tc.held[0], tc.held[1]))
				layout := NewLayout(opts(10))
				for i, pods := range tc.held {
					layout.Observe(renamed(packed(t, newService(), pods, 10), string(rune('a'+i)))[0])
				}
				layout.Plan(set, Pass{Busy: true})
				gone := map[string]bool{}
				for _, pod := range slices.Concat(tc.held[0], tc.held[1]) {
					gone[pod.Name] = true
				}
				for _, pod := range tc.now {
					if !gone[pod.Name] {
						set.Put(pod, zoneOf(pod))
					}
					delete(gone, pod.Name)
				}
				for pod := range gone {
					set.Delete(pod)
				}
				for _, pod := range tc.again {
					set.Put(pod, zoneOf(pod))
				}
				plan := layout.Plan(set, Pass{Busy: busy})
				if diff := cmp.Diff(want, describe(plan)); diff != "" {
					t.Errorf("busy: %v. %s\n-want +got:\n%s", busy, tc.reason, diff)
				}
				if busy && plan.More != tc.more {
					t.Errorf("%s More: %v", tc.reason, plan.More)
				}
			}
		})
	}
}
