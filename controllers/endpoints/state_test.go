package endpoints

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
