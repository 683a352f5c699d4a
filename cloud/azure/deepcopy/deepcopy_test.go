package deepcopy

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"
)

// TestOf: the copy is equal, and whatever is changed in one is not in the other.
func TestOf(t *testing.T) {
	type tree struct {
		Any  any
		When *time.Time
		LB   *armnetwork.LoadBalancer
		None *armnetwork.LoadBalancer
		Map  map[string]*string
	}
	made := func() *tree {
		when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		return &tree{Any: map[string]any{"list": []any{"a", 1.0, nil}}, When: &when, Map: map[string]*string{"a": new("b"), "nil": nil},
			LB: &armnetwork.LoadBalancer{Tags: map[string]*string{"a": new("b")}, Properties: &armnetwork.LoadBalancerPropertiesFormat{
				LoadBalancingRules: []*armnetwork.LoadBalancingRule{nil, {Name: new("r"), Properties: &armnetwork.LoadBalancingRulePropertiesFormat{
					FrontendPort: new(int32(80)), Probe: &armnetwork.SubResource{ID: new("p")}}}}}}}
	}
	original := made()
	copied := Of(original)
	if diff := cmp.Diff(original, copied); diff != "" {
		t.Fatalf("the copy differs (-original +copy):\n%s", diff)
	}
	copied.Any.(map[string]any)["list"].([]any)[0] = "changed"
	*copied.When = time.Time{}
	*copied.LB.Tags["a"], *copied.Map["a"] = "changed", "changed"
	*copied.LB.Properties.LoadBalancingRules[1].Properties.FrontendPort = 81
	copied.LB.Properties.LoadBalancingRules[0] = copied.LB.Properties.LoadBalancingRules[1]
	if diff := cmp.Diff(made(), original); diff != "" {
		t.Errorf("a change of the copy is one of the original (-before +after):\n%s", diff)
	}
}

// TestAsJSON: of what came as JSON it is the same as reading it once more.
func TestAsJSON(t *testing.T) {
	text := []byte(`{"name":"a","properties":{"frontendIPConfigurations":[{"name":"f","properties":{"privateIPAddress":"10.0.0.1"}}],"probes":[]},"tags":{"a":"b"}}`)
	var lb, again armnetwork.LoadBalancer
	for _, into := range []*armnetwork.LoadBalancer{&lb, &again} {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(again, Of(lb)); diff != "" {
		t.Errorf("read again and copied (-read +copied):\n%s", diff)
	}
}
