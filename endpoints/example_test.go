package endpoints_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/endpoints"
)

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

	index := endpoints.NewSelectorIndex()
	index.Put(service)
	fmt.Println("the Pod concerns", index.Matching("shop", pod.Labels))

	set := endpoints.NewSet(service, endpoints.SetOptions{})
	set.Put(pod, endpoints.Zone{Name: "zone-a"})
	plan := endpoints.Pack(set, nil, endpoints.Options{ManagedBy: "vms.example.com"})
	for _, write := range plan.Writes {
		for _, endpoint := range write.Slice.Endpoints {
			fmt.Println(write.Verb, write.Slice.AddressType, endpoint.Addresses, *endpoint.Zone, *endpoint.Conditions.Ready)
		}
	}
	// Output:
	// the Pod concerns [cart]
	// Create IPv4 [10.244.1.7] zone-a true
}
