package mirroring

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
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

// TestHeldAsSent: what an admission webhook made of our write does not count, whether its event comes before the answer or
// after it, until somebody writes again.
func TestHeldAsSent(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "db"}
	at := func(version, webhook string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "db-1", UID: "u", ResourceVersion: version,
			Labels: map[string]string{discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: ManagedBy, "webhook": webhook},
		}}
	}
	h := newHeld()
	holds := func(want string) {
		t.Helper()
		for _, slice := range h.slices(key, nil) {
			if got := slice.Labels["webhook"]; got != want {
				t.Errorf("held is what has %q, want %q", got, want)
			}
		}
	}
	h.observe(at("5", "added"))
	h.wrote(at("5", ""))
	holds("")
	h.observe(at("5", "added"))
	holds("")
	h.observe(at("6", "added"))
	holds("added")
	h.wrote(at("6", "")) // The webhook took it back, so that there is no new version.
	holds("")
}

// TestHeldWithoutLabel: a slice whose label somebody takes off stays ours, whatever its name, as upstream gave it one.
func TestHeldWithoutLabel(t *testing.T) {
	source := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "endpoints"}}
	at := func(version string, labels map[string]string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "db-x7k2p", UID: "u", ResourceVersion: version, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(source, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		}}
	}
	h := newHeld()
	held := func() int {
		return len(h.slices(types.NamespacedName{Namespace: "ns", Name: "db"}, source))
	}
	h.observe(at("4", nil))
	if held() != 0 {
		t.Error("a slice that never had the label is ours")
	}
	h.observe(at("5", map[string]string{discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: ManagedBy}))
	h.observe(at("6", nil))
	if held() != 1 {
		t.Error("a slice that lost the label is not ours any more")
	}
}

// TestRelearn: what the cache has counts, however old it is, and what else was held is forgotten.
func TestRelearn(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "db"}
	at := func(uid types.UID, of, version string) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: string(uid), UID: uid, ResourceVersion: version,
			Labels: map[string]string{discoveryv1.LabelServiceName: of, discoveryv1.LabelManagedBy: ManagedBy},
		}}
	}
	h := newHeld()
	for _, slice := range []discoveryv1.EndpointSlice{at("older", "db", "900"), at("gone", "db", "901"), at("else", "web", "902")} {
		h.observe(&slice)
	}
	if err := h.relearn(key, func() ([]discoveryv1.EndpointSlice, error) {
		return []discoveryv1.EndpointSlice{at("older", "db", "7"), at("else", "web", "8")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, key := range []types.NamespacedName{key, {Namespace: "ns", Name: "web"}} {
		for _, slice := range h.slices(key, nil) {
			got[slice.Name] = slice.ResourceVersion
		}
	}
	if diff := cmp.Diff(map[string]string{"older": "7", "else": "902"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	later := at("older", "db", "8")
	if woken := h.observe(&later); len(woken) == 0 {
		t.Error("what is newer than the cache is no news")
	}
}
