package endpoints_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/endpoints"
)

// A controller for Pods keeps an Index for all Services, and a Set and a Layout for each.
func Example() {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "1"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "cart"}, ClusterIP: "10.96.0.42",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}},
		},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-0", Labels: map[string]string{"app": "cart"}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{
			PodIPs:     []corev1.PodIP{{IP: "10.244.1.7"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}}}

	index := endpoints.NewIndex()
	index.PutService(service)
	index.PutNode(node)
	index.Seed()
	fmt.Println("the Pod concerns", index.PutPod(pod))

	set := endpoints.NewSet(service, endpoints.SetOptions{})
	set.Put(pod, index.Zone(pod.Spec.NodeName))
	layout := endpoints.NewLayout(endpoints.Options{ManagedBy: "pods.example.com"})
	for _, write := range layout.Plan(set, endpoints.Pass{}).Writes {
		for _, endpoint := range write.Slice.Endpoints {
			fmt.Println(write.Verb, write.Slice.AddressType, endpoint.Addresses, *endpoint.Zone, *endpoint.Conditions.Ready)
		}
	}
	// Output:
	// the Pod concerns [cart]
	// Create IPv4 [10.244.1.7] zone-a true
}

// A producer of slices for virtual machines behind a Service without a selector: it knows the machines from elsewhere,
// puts them into the Service's Set as they come and go, and writes what the Layout plans.
func Example_virtualMachines() {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ledger", UID: "2"},
		Spec: corev1.ServiceSpec{
			ClusterIP:  "10.96.0.43",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
		},
	}
	set := endpoints.NewSet(service, endpoints.SetOptions{})
	layout := endpoints.NewLayout(endpoints.Options{ManagedBy: "vms.example.com"})
	// For each slice of the Service that a watch shows: layout.Observe(slice), or layout.Remove(slice.UID).

	tcp := corev1.ProtocolTCP
	put := func(machine, address string, ready bool) {
		err := set.PutEndpoint(machine, discoveryv1.Endpoint{
			Addresses:  []string{address},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			NodeName:   &machine,
		}, []discoveryv1.EndpointPort{{Name: new("sql"), Port: new(int32(5432)), Protocol: &tcp}})
		if err != nil {
			fmt.Println(err)
		}
	}
	write := func() {
		for _, write := range layout.Plan(set, endpoints.Pass{}).Writes {
			fmt.Print(write.Verb)
			for _, endpoint := range write.Slice.Endpoints {
				fmt.Print(" ", *endpoint.NodeName, "=", endpoint.Addresses[0], " ready=", *endpoint.Conditions.Ready)
			}
			fmt.Println()
			// Here the API server writes a copy of write.Slice. It answers with the object as it is stored, which the
			// layout takes over; of a write that fails it is told nothing, and plans it again.
			answer := write.Slice.DeepCopy()
			layout.Wrote(write, answer)
		}
	}

	put("vm-1", "192.0.2.11", true)
	put("vm-2", "192.0.2.12", false)
	put("vm-3", "2001:db8::3", true)
	write()
	put("vm-2", "192.0.2.12", true)
	set.Delete("vm-1")
	write()
	write()
	// Output:
	// putting endpoint vm-3: its addresses are IPv6, the Service has [IPv4]
	// Create vm-1=192.0.2.11 ready=true vm-2=192.0.2.12 ready=false
	// Update vm-2=192.0.2.12 ready=true
}
