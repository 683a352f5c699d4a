package topology

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func endpoint(ready *bool, zone, node string) *discoveryv1.Endpoint {
	e := &discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	if zone != "" {
		e.Zone = &zone
	}
	if node != "" {
		e.NodeName = &node
	}
	return e
}

func TestLocal(t *testing.T) {
	zone := []discoveryv1.ForZone{{Name: "a"}}
	node := []discoveryv1.ForNode{{Name: "n1"}}
	cases := map[string]struct {
		reason   string
		policy   Policy
		endpoint *discoveryv1.Endpoint
		want     *discoveryv1.EndpointHints
	}{
		"None": {
			reason: "Without a policy hints go away.",
			policy: None, endpoint: endpoint(new(true), "a", "n1"),
		},
		"Zone": {
			reason: "SameZone names the zone alone.",
			policy: Policy{Mode: ModeSameZone}, endpoint: endpoint(new(true), "a", "n1"), want: &discoveryv1.EndpointHints{ForZones: zone},
		},
		"Node": {
			reason: "SameNode names both, so that a client on a node without endpoints stays in its zone.",
			policy: Policy{Mode: ModeSameNode}, endpoint: endpoint(new(true), "a", "n1"), want: &discoveryv1.EndpointHints{ForZones: zone, ForNodes: node},
		},
		"NodeWithoutZone": {
			reason: "A node without a zone can still be preferred.",
			policy: Policy{Mode: ModeSameNode}, endpoint: endpoint(new(true), "", "n1"), want: &discoveryv1.EndpointHints{ForNodes: node},
		},
		"NoZone": {
			reason: "What is not known is not hinted.",
			policy: Policy{Mode: ModeSameZone}, endpoint: endpoint(new(true), "", "n1"),
		},
		"EmptyZone": {
			reason: "A zone without a name is none.",
			policy: Policy{Mode: ModeSameZone}, endpoint: &discoveryv1.Endpoint{Zone: new(""), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
		},
		"NotReady": {
			reason: "Endpoints that are not ready carry no hints.",
			policy: Policy{Mode: ModeSameZone}, endpoint: endpoint(new(false), "a", "n1"),
		},
		"ReadyUnknown": {
			reason: "Ready that is not set is not ready here.",
			policy: Policy{Mode: ModeSameZone}, endpoint: endpoint(nil, "a", "n1"),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := tc.endpoint.DeepCopy()
			var got *discoveryv1.EndpointHints
			if local := Local(tc.policy); local != nil {
				got = local(tc.endpoint)
			} else if tc.policy != None {
				t.Error("there is no function of one endpoint")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(before, tc.endpoint); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
		})
	}
}
