package conformance

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Backend programs a State into the kernel, as dataplane/sync has it.
type Backend interface {
	Sync(state *model.State, changes *model.Changes) error
}

// Run tries the table on a backend. The factory makes one for the network namespace of a file descriptor; what it
// makes serves all cases, one after the other: each begins with a full sync that takes away what the last one left.
// Call it from a test in a package whose TestMain is nstest.Main.
func Run(t *testing.T, factory func(tb testing.TB, netns int) Backend) {
	network := NewNetwork(t)
	backend := factory(t, network.NodeFD())
	for _, c := range Cases() {
		if c.Programs != "" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) { runCase(t, network, backend, &c) })
	}
	network.Close(t)
}

func runCase(t *testing.T, network *Network, backend Backend, c *Case) {
	options, err := c.Config.modelOptions()
	if err != nil {
		t.Fatal(err)
	}
	feed := feed{t: t, tracker: model.NewTracker(options), malformed: c.InProcess != "", node: NewNode()}
	feed.tracker.SetMachineAddresses(network.NodeAddresses(t))
	feed.setNode()
	feed.apply(DefaultServiceCIDR())
	feed.tracker.Changes()
	if err := backend.Sync(feed.tracker.State(), nil); err != nil {
		t.Fatalf("taking away what the last case left: %v", err)
	}
	network.node.ForgetConnections(t)
	steps := c.Merged()
	for i := range steps {
		step := &steps[i]
		feed.step(step)
		changes := feed.tracker.Changes()
		if err := backend.Sync(feed.tracker.State(), changes); err != nil {
			t.Fatalf("step %d, %s: %v", i+1, step.Name, err)
		}
		for _, r := range network.Observe(step) {
			if !r.OK() {
				t.Errorf("step %d %s\n%s: want %s, got %s\nThe rule: %s", i+1, step.Name, r.What(), r.Probe.Want, r.Got, c.Reason)
			}
		}
	}
}

// feed tells a Tracker what an API server would.
type feed struct {
	t       *testing.T
	tracker *model.Tracker
	// malformed allows errors of reading.
	malformed bool
	node      *corev1.Node
}

func (f *feed) step(step *Step) {
	f.t.Helper()
	if step.Node != nil {
		step.Node(f.node)
		f.setNode()
	}
	for _, o := range step.Apply {
		f.apply(o)
	}
	for _, o := range step.Delete {
		key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		switch o.(type) {
		case *corev1.Service:
			f.tracker.DeleteService(key)
		case *discoveryv1.EndpointSlice:
			f.tracker.DeleteSlice(key)
		case *networkingv1.ServiceCIDR:
			f.tracker.DeleteServiceCIDR(o.GetName())
		}
	}
}

func (f *feed) setNode() {
	f.t.Helper()
	if err := f.tracker.SetNode(f.node); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feed) apply(o Object) {
	f.t.Helper()
	var err error
	switch o := o.(type) {
	case *corev1.Service:
		err = f.tracker.SetService(o)
	case *discoveryv1.EndpointSlice:
		err = f.tracker.SetSlice(o)
	case *networkingv1.ServiceCIDR:
		err = f.tracker.SetServiceCIDR(o)
	default:
		err = fmt.Errorf("no case has a %T", o)
	}
	if err != nil && !f.malformed {
		f.t.Fatal(err)
	}
}
