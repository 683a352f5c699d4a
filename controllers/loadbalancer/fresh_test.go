package loadbalancer

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestFreshServices(t *testing.T) {
	at := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", ResourceVersion: version}}
	}
	cases := map[string]struct {
		reason               string
		kept, cached, expect string
	}{
		"Nothing": {"nothing was written", "", "9", "9"},
		"Behind":  {"the cache does not show what was written", "10", "9", "10"},
		"Same":    {"it does", "10", "10", "10"},
		"Later":   {"somebody else wrote since", "10", "11", "11"},
		"Odd":     {"what cannot be compared is not later", "x", "11", "11"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var f freshServices
			if tc.kept != "" {
				f.keep(at(tc.kept))
			}
			if got := f.or(at(tc.cached)).ResourceVersion; got != tc.expect {
				t.Errorf("%s: got version %s, want %s", tc.reason, got, tc.expect)
			}
		})
	}
	var f freshServices
	f.keep(at("10"))
	f.or(at("9")).Name = "changed"
	if got := f.or(at("9")); got.Name != "cart" {
		t.Error("what is kept was changed by who got it")
	}
	f.forget(client.ObjectKeyFromObject(at("10")))
	if got := f.or(at("9")).ResourceVersion; got != "9" {
		t.Errorf("after it went it has version %s", got)
	}
}
