package endpointslice

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestWritten tells stories of writes and of a cache that learns of them late. Slices are shown as UID@version.
func TestWritten(t *testing.T) {
	service := types.NamespacedName{Namespace: "ns", Name: "web"}
	at := func(uid, version string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	type slices = []*discoveryv1.EndpointSlice
	cases := map[string]struct {
		reason string
		story  func(t *testing.T, w *written)
		cached slices
		want   []string
		left   int
	}{
		"Quiet": {
			reason: "Nothing written, nothing laid over.",
			story:  func(*testing.T, *written) {},
			cached: slices{at("a", "5")}, want: []string{"a@5"},
		},
		"CreateNotSeen": {
			reason: "A slice that was created is there before the cache has it.",
			story: func(_ *testing.T, w *written) {
				w.event(service, at("z", "5"), false)
				w.put(service, at("a", "7"))
			},
			want: []string{"a@7"}, left: 1,
		},
		"UpdateNotSeen": {
			reason: "The written version stands for the older one in the cache.",
			story: func(_ *testing.T, w *written) {
				w.put(service, at("a", "10"))
			},
			cached: slices{at("a", "9")}, want: []string{"a@10"}, left: 1,
		},
		"DeleteNotSeen": {
			reason: "A slice that was deleted is gone before the cache knows.",
			story: func(_ *testing.T, w *written) {
				w.putDeleted(service, "a")
			},
			cached: slices{at("a", "9"), at("b", "3")}, want: []string{"b@3"}, left: 1,
		},
		"Seen": {
			reason: "Once the event has come, nothing is kept, and the event is known as an echo.",
			story: func(t *testing.T, w *written) {
				w.put(service, at("a", "7"))
				if !w.event(service, at("a", "7"), false) {
					t.Error("an echo is taken for a foreign write")
				}
			},
			cached: slices{at("a", "7")}, want: []string{"a@7"},
		},
		"OlderStateFirst": {
			reason: "What was before our write comes first and wakes nobody.",
			story: func(t *testing.T, w *written) {
				w.put(service, at("a", "7"))
				if !w.event(service, at("a", "6"), false) {
					t.Error("an older state wakes the Service")
				}
			},
			cached: slices{at("a", "6")}, want: []string{"a@7"}, left: 1,
		},
		"EventFasterThanResponse": {
			reason: "A write whose event came before its response is not kept.",
			story: func(_ *testing.T, w *written) {
				w.event(service, at("a", "7"), false)
				w.put(service, at("a", "7"))
			},
			cached: slices{at("a", "7")}, want: []string{"a@7"},
		},
		"ForeignWriteAfterOurs": {
			reason: "A later state is someone else's and stands.",
			story: func(t *testing.T, w *written) {
				w.put(service, at("a", "7"))
				if w.event(service, at("a", "8"), false) {
					t.Error("a foreign write is taken for an echo")
				}
			},
			cached: slices{at("a", "8")}, want: []string{"a@8"},
		},
		"ForeignDeletionAfterOurWrite": {
			reason: "A slice that someone deletes is not kept alive.",
			story: func(t *testing.T, w *written) {
				w.put(service, at("a", "7"))
				if w.event(service, at("a", "8"), true) {
					t.Error("a foreign deletion is taken for an echo")
				}
			},
		},
		"OwnDeletionSeen": {
			reason: "The event of our deletion is an echo.",
			story: func(t *testing.T, w *written) {
				w.putDeleted(service, "a")
				if !w.event(service, at("a", "8"), true) {
					t.Error("an echo is taken for a foreign deletion")
				}
			},
		},
		"CreatedAndDeletedUnseen": {
			reason: "Once the cache is past the write and has no such slice, it is gone.",
			story: func(_ *testing.T, w *written) {
				w.put(service, at("a", "7"))
				w.event(service, at("z", "12"), false)
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWritten()
			tc.story(t, w)
			var got []string
			for _, s := range w.overlay(service, w.mark(), tc.cached) {
				got = append(got, string(s.UID)+"@"+s.ResourceVersion)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			if left := len(w.byService[service]); left != tc.left {
				t.Errorf("want %d writes kept, got %d", tc.left, left)
			}
		})
	}
}

// TestMarkBeforeReading: events that come while the cache is being read must not hide a write from what was read.
func TestMarkBeforeReading(t *testing.T) {
	service := types.NamespacedName{Namespace: "ns", Name: "web"}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{UID: "a", ResourceVersion: "7"}}
	w := newWritten()
	w.put(service, slice)
	mark := w.mark()
	// The cache is read here, without the slice; then an event of another one says that it is past it.
	w.event(service, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{UID: "z", ResourceVersion: "9"}}, false)
	if got := w.overlay(service, mark, nil); len(got) != 1 {
		t.Errorf("want the written slice, got %d", len(got))
	}
}
