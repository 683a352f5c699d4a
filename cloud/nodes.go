package cloud

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// TaintToBeDeleted is put on a node by the cluster autoscaler before it removes the machine.
const TaintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Node is a machine that traffic can be sent to.
type Node struct {
	Name string `json:"name"`
	// ProviderID as in Node.spec; may be empty.
	ProviderID string `json:"providerID,omitempty"`
	Zone       string `json:"zone,omitempty"`
	// Addresses inside the cluster's network (InternalIP), in the Node's order.
	Addresses []string `json:"addresses,omitempty"`
	// Labels of the Node; not changed. Nil for a provider that does not declare Capabilities.NodeLabels.
	Labels map[string]string `json:"labels,omitempty"`
	// Object is the Node itself, for a provider that is Opaque; not changed. Others do without: its conditions can change
	// without anybody being told.
	Object *corev1.Node `json:"-"`
}

// Address returns the node's first address of the family, or the empty string.
func (n Node) Address(family Family) string {
	for _, text := range n.Addresses {
		address, err := netip.ParseAddr(text)
		if err == nil && address.Is4() == (family == IPv4) {
			return text
		}
	}
	return ""
}

// EligibleNodes returns the nodes that load balancers may send to, sorted by name: neither being deleted nor about to
// be (TaintToBeDeleted), and not excluded by the label node.kubernetes.io/exclude-from-external-load-balancers, whose
// presence excludes unless its value is a false in Go's sense. Readiness is not asked: a node that is not ready fails
// its health check, and its connections must not be cut before (KEP-3458).
func EligibleNodes(nodes []*corev1.Node) []Node {
	result := make([]Node, 0, len(nodes))
	for _, node := range nodes {
		if Eligible(node) {
			result = append(result, plainNode(node))
		}
	}
	slices.SortFunc(result, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return result
}

// Eligible reports whether EligibleNodes takes the node.
func Eligible(node *corev1.Node) bool {
	if node.DeletionTimestamp != nil {
		return false
	}
	if value, ok := node.Labels[corev1.LabelNodeExcludeBalancers]; ok {
		if excluded, err := strconv.ParseBool(value); err != nil || excluded {
			return false
		}
	}
	return !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == TaintToBeDeleted })
}

// SameForBalancers reports whether an update of a node leaves every balancer as it is.
func SameForBalancers(a, b *corev1.Node) bool {
	x, y := plainNode(a), plainNode(b)
	return Eligible(a) == Eligible(b) && x.ProviderID == y.ProviderID && x.Zone == y.Zone &&
		slices.Equal(x.Addresses, y.Addresses) && maps.Equal(x.Labels, y.Labels)
}

// Told returns nodes as the provider is told of them: without labels, unless it declares NodeLabels, since with them there is
// more to send to a plugin, and to compare, than most need. Its argument is not changed.
func (c Capabilities) Told(nodes []Node) []Node {
	if c.NodeLabels {
		return nodes
	}
	result := slices.Clone(nodes)
	for i := range result {
		result[i].Labels = nil
	}
	return result
}

func plainNode(node *corev1.Node) Node {
	n := Node{Name: node.Name, ProviderID: node.Spec.ProviderID, Zone: node.Labels[corev1.LabelTopologyZone], Labels: node.Labels, Object: node}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			n.Addresses = append(n.Addresses, address.Address)
		}
	}
	return n
}
