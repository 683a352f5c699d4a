package endpointslice

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestInbox tells stories of writes and events that come in any order. Events are shown as UID@version.
func TestInbox(t *testing.T) {
	event := func(uid, version string) sliceEvent {
		return sliceEvent{slice: &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}}
	}
	gone := func(uid, version string) sliceEvent {
		e := event(uid, version)
		e.deleted = true
		return e
	}
	cases := map[string]struct {
		reason string
		story  func(b *inbox, note func(wake bool))
		// wakes are what the steps of the story said; kept the events that a pass gets, left our writes still remembered.
		wakes []bool
		kept  []string
		left  int
	}{
		"Foreign": {
			reason: "Someone else's write wakes the Service.",
			wakes:  []bool{true}, kept: []string{"a@5"},
			story: func(b *inbox, note func(bool)) { note(b.event(event("a", "5"))) },
		},
		"Once": {
			reason: "A Service that waits for its pass already is not woken again.",
			wakes:  []bool{true, false, false}, kept: []string{"a@5", "a@6"},
			story: func(b *inbox, note func(bool)) {
				note(b.event(event("a", "5")))
				note(b.event(event("a", "6")))
				note(b.mark("one"))
			},
		},
		"Echo": {
			reason: "Our own write comes back and is nothing.",
			wakes:  []bool{false},
			story: func(b *inbox, note func(bool)) {
				b.written("a", "7")
				note(b.event(event("a", "7")))
			},
		},
		"OlderFirst": {
			reason: "What was before our write is nothing, either.",
			wakes:  []bool{false, false}, left: 0,
			story: func(b *inbox, note func(bool)) {
				b.written("a", "7")
				note(b.event(event("a", "6")))
				note(b.event(event("a", "7")))
			},
		},
		"TwoWrites": {
			reason: "The echo of the first of two writes is one, too.",
			wakes:  []bool{false}, left: 1,
			story: func(b *inbox, note func(bool)) {
				b.written("a", "7")
				b.written("a", "9")
				note(b.event(event("a", "7")))
			},
		},
		"ForeignAfterOurs": {
			reason: "A later state is someone else's, even if ours was never seen.",
			wakes:  []bool{true}, kept: []string{"a@8"},
			story: func(b *inbox, note func(bool)) {
				b.written("a", "7")
				note(b.event(event("a", "8")))
			},
		},
		"EventBeforeResponse": {
			reason: "An event that is faster than the response is left to the layout to recognise.",
			wakes:  []bool{true}, kept: []string{"a@7"}, left: 1,
			story: func(b *inbox, note func(bool)) {
				note(b.event(event("a", "7")))
				b.written("a", "7")
			},
		},
		"ForeignDeletion": {
			reason: "A slice of ours that someone deletes wakes the Service.",
			wakes:  []bool{true}, kept: []string{"-a@8"},
			story: func(b *inbox, note func(bool)) {
				b.written("a", "7")
				note(b.event(gone("a", "8")))
			},
		},
		"OwnDeletion": {
			reason: "Our own deletion wakes nobody, and the layout learns of its end.",
			wakes:  []bool{false}, kept: []string{"-a@8"},
			story: func(b *inbox, note func(bool)) {
				b.written("a", "")
				note(b.event(gone("a", "8")))
			},
		},
		"ForeignWriteBeforeOwnDeletion": {
			reason: "What comes while we delete is kept, in case the deletion fails.",
			wakes:  []bool{false}, kept: []string{"a@8"}, left: 1,
			story: func(b *inbox, note func(bool)) {
				b.written("a", "")
				note(b.event(event("a", "8")))
			},
		},
		"DeletionFailed": {
			reason: "A slice whose deletion failed is as any other.",
			wakes:  []bool{true}, kept: []string{"a@8"},
			story: func(b *inbox, note func(bool)) {
				b.written("a", "")
				b.unwritten("a")
				note(b.event(event("a", "8")))
			},
		},
		"AfterAPass": {
			reason: "After a pass the next mark wakes again.",
			wakes:  []bool{true, true},
			story: func(b *inbox, note func(bool)) {
				note(b.mark("one"))
				b.take()
				note(b.mark(""))
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var said []bool
			b := &inbox{}
			tc.story(b, func(wake bool) { said = append(said, wake) })
			var kept []string
			for _, e := range b.take().slices {
				sign := ""
				if e.deleted {
					sign = "-"
				}
				kept = append(kept, fmt.Sprintf("%s%s@%s", sign, e.slice.UID, e.slice.ResourceVersion))
			}
			if diff := cmp.Diff(tc.wakes, said) + cmp.Diff(tc.kept, kept); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			if left := len(b.wrote); left != tc.left {
				t.Errorf("%s Want %d writes remembered, got %d", tc.reason, tc.left, left)
			}
		})
	}
}
