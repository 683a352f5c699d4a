package conformance

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// markerAddress is the number of the cluster IP that no case uses.
const markerAddress = 200

// Marker are objects by which a runner of programs knows that they have seen every change of Services and slices before:
// what is at the addresses answers once both the Service and the slices of this number are there, for they share the
// port's name, which no other number has.
func Marker(number int, coexist bool) ([]Object, []netip.AddrPort) {
	svc := Families[0].dualService("marker", markerAddress)
	port := int32(10000 + number)
	svc.Spec.Ports = []corev1.ServicePort{{Name: fmt.Sprint("m", number), Protocol: corev1.ProtocolTCP, Port: port}}
	if coexist {
		svc.Labels[model.LabelProxyName] = model.ProxyName
	}
	objects := []Object{svc}
	var addresses []netip.AddrPort
	for _, f := range Families {
		objects = append(objects, f.slice(svc, 1, f.endpoint("a")))
		addresses = append(addresses, netip.AddrPortFrom(f.clusterAddr(markerAddress), uint16(port)))
	}
	return objects, addresses
}

// Answers says whether an endpoint answers a Pod of the node by TCP.
func (n *Network) Answers(to netip.AddrPort) bool {
	answer, _, err := n.ask(Here, 0, "tcp", to, impatience)
	return err == nil && answer.Saw.IsValid()
}

// Dial connects a client by TCP.
func (n *Network) Dial(who Client, to netip.AddrPort) (*nstest.Conn, error) {
	return n.clients[who].ns.Dial("tcp", to, patience)
}

// Forget makes the node forget all connections.
func (n *Network) Forget(tb testing.TB) {
	tb.Helper()
	n.node.ForgetConnections(tb)
}
