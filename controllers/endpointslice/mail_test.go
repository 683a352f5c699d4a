package endpointslice

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controllers/selection"
	"github.com/fairlead/fairlead/controllers/work"
)

// listing is a client that lists nothing and calls then afterwards.
type listing struct {
	client.Client
	then func()
}

func (l listing) List(context.Context, client.ObjectList, ...client.ListOption) error {
	l.then()
	return nil
}

// TestMailDuringAPass: a pass takes the mail before it reads anything. What comes while it reads queues the Service
// again, or nobody would ever look: the next event of a Service that seems to wait for a pass queues nothing.
func TestMailDuringAPass(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "web"}
	woke := false
	r := &Reconciler{Clock: clock.RealClock{}, Tracker: selection.New(selection.Options{}), reports: newReports()}
	r.Client = listing{then: func() { woke = r.mark(key, "") }}
	r.states = work.NewStates(func() *state { return &state{inbox: inbox{renamed: true}} })
	st := r.states.Get(key)
	if !st.inbox.mark("") {
		t.Fatal("the first mark does not queue the Service")
	}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if !woke {
		t.Error("a change of EndpointSelectors while they are listed does not queue the Service")
	}
	// An event handler may have found the state of a Service that is gone before it was forgotten.
	r.Client = listing{then: func() {}}
	st = r.states.Get(key)
	st.inbox.mark("")
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if !st.inbox.mark("") {
		t.Error("a Service that comes back while its pass finds it gone is not queued")
	}
}
