package mirroring

import (
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestHeld: answers to writes and events come in any order, and the newest state stands.
func TestHeld(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "db"}
	at := func(version string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "db-1", UID: "u", ResourceVersion: version,
			Labels: map[string]string{discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: ManagedBy},
		}}
	}
	for name, tc := range map[string]struct {
		reason string
		steps  func(h *held) (woken []types.NamespacedName)
		// version is that of the slice held; empty: none.
		version string
		wakes   bool
	}{
		"ForeignWrite": {"it has to be looked at", func(h *held) []types.NamespacedName {
			h.wrote(at("5"))
			return h.observe(at("6"))
		}, "6", true},
		"Echo": {"our own write is no news", func(h *held) []types.NamespacedName {
			h.wrote(at("5"))
			return h.observe(at("5"))
		}, "5", false},
		"LateEvent": {"nor is what was before it", func(h *held) []types.NamespacedName {
			h.wrote(at("10"))
			return h.observe(at("9"))
		}, "10", false},
		"LateAnswer": {"an answer may come after the next one's event", func(h *held) []types.NamespacedName {
			h.observe(at("6"))
			h.wrote(at("5"))
			return nil
		}, "6", false},
		"LateEventOfDeleted": {"what we deleted does not come back", func(h *held) []types.NamespacedName {
			h.wrote(at("5"))
			h.deleted(at("5"))
			return h.observe(at("6"))
		}, "", false},
		"OwnDeletion": {"that we deleted it is no news", func(h *held) []types.NamespacedName {
			h.wrote(at("5"))
			h.deleted(at("5"))
			return h.remove("u")
		}, "", false},
		"ForeignDeletion": {"it has to be looked at", func(h *held) []types.NamespacedName {
			h.wrote(at("5"))
			return h.remove("u")
		}, "", true},
		"AnswerAfterDeletion": {"what is gone before its answer comes does not come back", func(h *held) []types.NamespacedName {
			h.observe(at("5"))
			woken := h.remove("u")
			h.wrote(at("5"))
			return woken
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeld()
			woken := tc.steps(h)
			if (len(woken) > 0) != tc.wakes || tc.wakes && woken[0] != key {
				t.Errorf("%s: woken are %v", tc.reason, woken)
			}
			version := ""
			for _, slice := range h.slices(key, nil) {
				version = slice.ResourceVersion
			}
			if version != tc.version {
				t.Errorf("%s: held is version %q, want %q", tc.reason, version, tc.version)
			}
		})
	}
}
