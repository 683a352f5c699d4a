package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// appearance is how the slices show a Pod.
type appearance uint8

const (
	absent appearance = iota
	unready
	ready
	// garbled: with another address, zone or set of ports than it has.
	garbled
)

func (a appearance) String() string {
	return [...]string{"absent", "unready", "ready", "garbled"}[a]
}

// satisfies tells whether a Pod that appears so shows a change after which it had to appear as want. Who is gone is no
// longer ready, too.
func (a appearance) satisfies(want appearance) bool {
	return a == want || want == unready && a == absent
}

// kind says under which heading a change's latency goes.
type kind uint8

const (
	unmeasured kind = iota
	// ofStatus: a write of a Pod's status that makes it ready or unready.
	ofStatus
	// ofDeletion: a Pod's deletion, with grace or without.
	ofDeletion
)

// change is one write to a Pod that slices have to follow.
type change struct {
	kind kind
	want appearance
	// When it was sent, when the API server's answer came, when the slices were first seen to show it; zero: not yet.
	sent, answered, shown time.Time
}

// tracked is what is known of one Pod, or of an endpoint of nobody.
type tracked struct {
	pod  *pod // nil: there never was such a Pod
	want appearance
	// in are the slices that it is in. While an endpoint moves these may be two.
	in      map[string]appearance
	pending []*change
}

func (p *tracked) appearance() appearance {
	shown := absent
	for _, a := range p.in {
		shown = max(shown, a)
	}
	return shown
}

// tracker watches EndpointSlices: it knows what they show, what they have to show, and how long that took. A latency
// ends when the watch has delivered, decoded, a slice that shows the change. It begins when the API server has answered
// the write: before that it is the API server that takes its time, and how much depends on what else is asked of it. A
// slice that was there before the answer came after 0 s.
type tracker struct {
	mu   sync.Mutex
	pods map[string]*tracked
	// slices has the Pods of every slice.
	slices map[string][]string
	// wrong are the Pods that appear otherwise than they have to, or in more than one slice.
	wrong map[string]bool

	done []*change // shown, since begin
	// skipped counts changes since begin that a later one of the same Pod overtook before any slice showed them.
	skipped int
	err     error // that ended the watch
}

func newTracker() *tracker {
	return &tracker{pods: map[string]*tracked{}, slices: map[string][]string{}, wrong: map[string]bool{}}
}

// run watches until ctx ends. It returns once the watch has begun. A watch that breaks off is taken up again where it
// was, and its delay counts.
func (t *tracker) run(ctx context.Context, client kubernetes.Interface) error {
	all := client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	list, err := all.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing EndpointSlices: %w", err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return all.Watch(ctx, options)
		},
	})
	if err != nil {
		return fmt.Errorf("watching EndpointSlices: %w", err)
	}
	go func() {
		err := errors.New("the watch of EndpointSlices has ended")
		for event := range w.ResultChan() {
			now := time.Now()
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				err = fmt.Errorf("watching EndpointSlices: %w", apierrors.FromObject(event.Object))
				break
			}
			if strings.HasPrefix(slice.Namespace, namespacePrefix) {
				t.observe(slice, event.Type == watch.Deleted, now)
			}
		}
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
	}()
	return nil
}

func (t *tracker) get(key string) *tracked {
	p := t.pods[key]
	if p == nil {
		p = &tracked{in: map[string]appearance{}}
		t.pods[key] = p
	}
	return p
}

// expect notes that a write is about to be sent after which the Pod has to appear so. The result is for answered.
func (t *tracker) expect(of *pod, want appearance, k kind, now time.Time) *change {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &change{kind: k, want: want, sent: now}
	p := t.get(of.key())
	p.pod, p.want = of, want
	if p.appearance().satisfies(want) {
		// Nothing can be seen to follow from it.
		t.skipped += len(p.pending)
		p.pending = nil
	} else {
		p.pending = append(p.pending, c)
	}
	t.judge(of.key(), p, now)
	return c
}

// answered notes that the API server has done the write.
func (t *tracker) answered(c *change, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.answered = now
}

// observe takes in one event.
func (t *tracker) observe(slice *discoveryv1.EndpointSlice, deleted bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := slice.Namespace + "/" + slice.Name
	before := t.slices[name]
	delete(t.slices, name)
	shown := map[string]bool{}
	if !deleted {
		fit := portsFit(slice.Ports)
		pods := make([]string, 0, len(slice.Endpoints))
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			key := slice.Namespace + "/?" + strings.Join(e.Addresses, ",") // of nobody
			if e.TargetRef != nil {
				key = slice.Namespace + "/" + e.TargetRef.Name
			}
			pods, shown[key] = append(pods, key), true
			p := t.get(key)
			a := appears(e, p.pod, fit)
			if was, ok := p.in[name]; !ok || was != a {
				p.in[name] = a
				t.judge(key, p, now)
			}
		}
		t.slices[name] = pods
	}
	for _, key := range before {
		if p := t.pods[key]; p != nil && !shown[key] {
			delete(p.in, name)
			t.judge(key, p, now)
		}
	}
}

func appears(e *discoveryv1.Endpoint, p *pod, portsFit bool) appearance {
	switch {
	case p == nil || !portsFit || len(e.Addresses) != 1 || e.Addresses[0] != p.ip || ptr.Deref(e.Zone, "") != p.zone():
		return garbled
	case ptr.Deref(e.Conditions.Ready, true):
		return ready
	default:
		return unready
	}
}

func portsFit(ports []discoveryv1.EndpointPort) bool {
	return len(ports) == 2 && !slices.ContainsFunc(ports, func(p discoveryv1.EndpointPort) bool {
		port := ptr.Deref(p.Port, 0)
		return port != portHTTP && port != portMetrics
	})
}

// judge compares what is shown of a Pod with what has to be, and ends the wait for what is shown.
func (t *tracker) judge(key string, p *tracked, now time.Time) {
	shown := p.appearance()
	if shown == p.want && len(p.in) <= 1 {
		delete(t.wrong, key)
	} else {
		t.wrong[key] = true
	}
	// The last change that is shown overtakes those before it.
	for i := len(p.pending) - 1; i >= 0; i-- {
		if !shown.satisfies(p.pending[i].want) {
			continue
		}
		for _, c := range p.pending[:i+1] {
			if shown.satisfies(c.want) {
				c.shown = now
				t.done = append(t.done, c)
			} else {
				t.skipped++
			}
		}
		p.pending = p.pending[i+1:]
		return
	}
}

// begin forgets the latencies so far.
func (t *tracker) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.skipped = nil, 0
}

// latencies since begin, and how many changes were skipped. All writes must have been answered.
func (t *tracker) latencies() (status, statusSent, deletion figures.Latency, skipped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := map[kind][]time.Duration{}
	var sent []time.Duration
	for _, c := range t.done {
		since[c.kind] = append(since[c.kind], max(0, c.shown.Sub(c.answered)))
		if c.kind == ofStatus {
			sent = append(sent, c.shown.Sub(c.sent))
		}
	}
	return figures.Summarize(since[ofStatus]), figures.Summarize(sent), figures.Summarize(since[ofDeletion]), t.skipped
}

// right tells whether the slices show every Pod as they have to, once, and nothing else; unfinished says what is amiss.
func (t *tracker) right() (unfinished, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || len(t.wrong) == 0 {
		return nil, t.err
	}
	example := ""
	for key := range t.wrong {
		if example == "" || key < example {
			example = key
		}
	}
	p := t.pods[example]
	return fmt.Errorf("%d Pods are not shown as they have to be: %s is %s, in %d slices, and has to be %s",
		len(t.wrong), example, p.appearance(), len(p.in), p.want), nil
}

// amiss is how many Pods are not shown as they have to be.
func (t *tracker) amiss() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.wrong)
}

// count is how many slices there are.
func (t *tracker) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slices)
}

// forget drops all Pods. There must be no slices.
func (t *tracker) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.pods)
	clear(t.wrong)
}
