package topology_test

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/topology"
)

// Three equal zones with 4, 4 and 3 endpoints cannot meet a bound of 20%: upstream takes all hints away. Here the smallest
// bound that can be met takes its place, and no traffic crosses zones.
func Example() {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.AnnotationTopologyMode: "Auto"}}}
	policy, err := topology.Parse(service)
	if err != nil {
		panic(err)
	}
	capacities := topology.CapacitiesOf(slices.Values([]topology.Node{
		{Zone: "zone-a", MilliCPU: 4000}, {Zone: "zone-b", MilliCPU: 4000}, {Zone: "zone-c", MilliCPU: 4000},
	}))
	assignment := topology.NewAssignment(policy, capacities)
	for i := range 11 {
		assignment.Put(topology.Endpoint{Key: fmt.Sprintf("10.0.0.%d", i), Zone: []string{"zone-a", "zone-b", "zone-c"}[i%3]})
	}
	changes, report := assignment.Update()
	fmt.Println(report.Reason, len(changes))
	fmt.Println(report.Message)

	// Three of zone-a go: one of another zone takes over, and nobody else changes.
	for _, key := range []string{"10.0.0.0", "10.0.0.3", "10.0.0.6"} {
		assignment.Delete(key)
	}
	changes, report = assignment.Update()
	for _, change := range changes {
		fmt.Println(change.Key, change.Hints.ForZones)
	}
	fmt.Println(report.Message)
	// Output:
	// BoundRaised 11
	// 11 endpoints in 3 zones cannot meet the bound of 20%, but one of 22.2%: 0.0% of the traffic crosses zones and no endpoint gets more than 22.2% above an even share
	// 10.0.0.1 [{zone-a}]
	// 8 endpoints in 3 zones cannot meet the bound of 20%, but one of 33.3%: 16.7% of the traffic crosses zones and no endpoint gets more than 33.3% above an even share
}
