package portalloc_test

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/portalloc"
)

// Where Services are served without an allocator, such as by a CustomResourceDefinition, one process keeps the ledger:
// it builds it from what is stored, chooses, writes, and tells the ledger what it sees.
func ExampleLedger() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	stored := []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30000}}},
	}}
	pools := []portalloc.Pool{{Name: "web", Ranges: portalloc.Ranges{{First: 30000, Last: 30001}}, Keep: time.Minute}}
	ledger := portalloc.Rebuild(portalloc.DefaultRange, pools, stored, nil, now)

	dns := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "dns", UID: "2"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{
			{Port: 53, Protocol: corev1.ProtocolUDP}, {Port: 53, Protocol: corev1.ProtocolTCP}}},
	}
	least := func(int) int { return 0 } // math/rand/v2.IntN otherwise
	given, err := ledger.Assign(portalloc.Request{Service: dns, Pools: []string{"web"}, NodePorts: true}, now, least)
	fmt.Println(given.Ports[0], given.Ports[1], err)
	given.Apply(dns)
	ledger.Set(dns, now) // after it was written; Withdraw if it could not be

	_, err = ledger.Assign(portalloc.Request{Service: &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}},
		Pools: []string{"web"}, NodePorts: true}, now, least)
	fmt.Println(err)

	ledger.Delete(portalloc.KeyOf(dns), now)
	fmt.Println(ledger.Usage("web"), ledger.Holds()[0].Until.Format(time.TimeOnly))
	// Output:
	// 30001 30001 <nil>
	// every port of 30000-30001 of NodePortPool "web" is taken: delete Services that need no node port, or widen the pool's spec.ranges
	// {2 1 1 0} 00:01:00
}

func ExampleAddresses() {
	addresses, err := portalloc.NewAddresses(netip.MustParsePrefix("10.96.0.0/16"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(addresses.Reserve(netip.MustParseAddr("10.96.0.10"))) // static: for people to choose
	fmt.Println(addresses.Allocate(func(uint64) uint64 { return 0 })) // dynamic
	fmt.Println(addresses.Reserve(netip.MustParseAddr("10.96.0.10")))
	// Output:
	// <nil>
	// 10.96.1.1 <nil>
	// address 10.96.0.10 is taken: choose another
}
