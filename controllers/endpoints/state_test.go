package endpoints

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controllers/selection"
	"github.com/fairlead/fairlead/controllers/work"
)

// TestInbox tells stories of writes and events that come in any order.
func TestInbox(t *testing.T) {
	made := func(version string) *corev1.Endpoints {
		return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	cases := map[string]struct {
		reason string
		story  func(b *inbox, note func(wake bool))
		// wakes are what the steps of the story said, unseen the version that stands for what the cache has.
		wakes  []bool
		unseen string
	}{
		"NotSeen": {
			reason: "What was written stands for the older state in the cache.",
			story:  func(b *inbox, _ func(bool)) { b.wrote(made("7")) }, unseen: "7",
		},
		"Echo": {
			reason: "Once its event has come the cache has it, and nobody is woken.",
			story: func(b *inbox, note func(bool)) {
				b.wrote(made("7"))
				note(b.changed("7"))
			},
			wakes: []bool{false},
		},
		"OlderFirst": {
			reason: "An older event changes nothing.",
			story: func(b *inbox, note func(bool)) {
				b.wrote(made("7"))
				note(b.changed("6"))
			},
			wakes: []bool{false}, unseen: "7",
		},
		"Foreign": {
			reason: "A newer one is someone else's.",
			story: func(b *inbox, note func(bool)) {
				b.wrote(made("7"))
				note(b.changed("8"))
			},
			wakes: []bool{true},
		},
		"Deleted": {
			reason: "What was deleted is not kept alive.",
			story: func(b *inbox, note func(bool)) {
				b.wrote(made("7"))
				note(b.deleted("8"))
			},
			wakes: []bool{true},
		},
		"DeletedBeforeResponse": {
			reason: "Not even if it was deleted before the response to our write came.",
			story: func(b *inbox, note func(bool)) {
				note(b.changed("7"))
				note(b.deleted("8"))
				b.wrote(made("7"))
			},
			wakes: []bool{true, false},
		},
		"EventBeforeResponse": {
			reason: "What the cache has already need not be kept.",
			story: func(b *inbox, note func(bool)) {
				note(b.changed("7"))
				b.wrote(made("7"))
			},
			wakes: []bool{true},
		},
		"Refused": {
			reason: "Once the API server knows better, the cache counts.",
			story: func(b *inbox, _ func(bool)) {
				b.wrote(made("7"))
				b.refused()
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var wakes []bool
			b := &inbox{}
			tc.story(b, func(wake bool) { wakes = append(wakes, wake) })
			unseen := ""
			if e := b.unseen(); e != nil {
				unseen = e.ResourceVersion
			}
			if diff := cmp.Diff(tc.wakes, wakes) + cmp.Diff(tc.unseen, unseen); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// TestMarkDuringAPass: a pass empties the inbox before it reads the Service, so that one which comes back while its
// pass finds it gone, in an event handler that had found its state before, is queued again.
func TestMarkDuringAPass(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "web"}
	r := &Reconciler{Clock: clock.RealClock{}, Client: nothing{}, Tracker: selection.New(selection.Options{})}
	r.states = work.NewStates(func() *state { return &state{} })
	st := r.states.Get(key)
	st.inbox.mark()
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if !st.inbox.mark() {
		t.Error("the Service is not queued")
	}
}

// nothing is a client that knows no object.
type nothing struct{ client.Client }

func (nothing) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(corev1.Resource("endpoints"), key.Name)
}
