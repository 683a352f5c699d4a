package conformance

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Object is a Service (with its status), an EndpointSlice or a ServiceCIDR.
type Object interface {
	metav1.Object
	runtime.Object
}

// Case is one row of the table.
type Case struct {
	Name string
	// Reason is the rule that it holds up.
	Reason string
	Config Config
	// Steps are written for one family; those of both are taken together.
	Steps func(f Family) []Step
	// InProcess says why no API server would take the objects; the case is tried on backends alone.
	InProcess string
	// Programs says why a backend alone cannot be tried.
	Programs string
	// OursOnly says why kube-proxy cannot be asked for it.
	OursOnly string
}

// Step is a change of objects and what must be seen after it. Objects of former steps stay.
type Step struct {
	// Name says what changes; it may be empty in a case of one step.
	Name string
	// Node changes this node's Node object, from now on.
	Node func(*corev1.Node)
	// Apply are objects that are new, or take the place of those of the same kind and name; Delete goes.
	Apply, Delete []Object
	Probes        []Probe
	// Eventually polls for what the probes want. It is for changes of the Node and of ServiceCIDRs: programs show by
	// a Service of the runner's that they have seen changes of Services and slices, not of these.
	Eventually bool
}

// Config is what an administrator chooses, in a neutral form. The zero value is not used: see standard.
type Config struct {
	MasqueradeAll bool
	// Detection tells Pods from others.
	Detection Detection
	// NodePortAddresses as in the configuration files; nil: the default.
	NodePortAddresses []string
	IgnoreExternalIPs bool
	Coexist           bool
}

// Detection is a way of local detection.
type Detection string

// Ways of local detection, with the values that go with the network.
const (
	NoDetection     Detection = "none"
	ClusterCIDR     Detection = "ClusterCIDR"
	NodeCIDR        Detection = "NodeCIDR"
	BridgeInterface Detection = "BridgeInterface"
	NamePrefix      Detection = "InterfaceNamePrefix"
)

// Values of the ways of local detection.
const (
	BridgeName   = "cni0"
	PodInterface = "pod"
)

// ClusterCIDRs are the value of ClusterCIDR.
func ClusterCIDRs() []string {
	var cidrs []string
	for _, f := range Families {
		cidrs = append(cidrs, f.clusterCIDR().String())
	}
	return cidrs
}

// standard is the configuration of most cases.
var standard = Config{Detection: ClusterCIDR}

// Key orders and compares configurations.
func (c Config) Key() string { return fmt.Sprintf("%+v", c) }

// modelOptions says the same to the model.
func (c Config) modelOptions() (model.Options, error) {
	nodePorts, err := model.ParseNodePortPolicy(c.NodePortAddresses)
	options := model.Options{
		NodeName: NodeName, Coexist: c.Coexist, MasqueradeAll: c.MasqueradeAll, IgnoreExternalIPs: c.IgnoreExternalIPs,
		NodePorts: nodePorts,
	}
	switch c.Detection {
	case ClusterCIDR:
		for _, f := range Families {
			options.LocalDetection.ClusterCIDRs = append(options.LocalDetection.ClusterCIDRs, f.clusterCIDR())
		}
	case NodeCIDR:
		options.LocalDetection.NodeCIDR = true
	case BridgeInterface:
		options.LocalDetection.InterfacePrefixes = []string{BridgeName}
	case NamePrefix:
		options.LocalDetection.InterfacePrefixes = []string{PodInterface}
	}
	return options, err
}

// Merged are the case's steps for both families.
func (c *Case) Merged() []Step {
	var merged []Step
	for _, f := range Families {
		for i, step := range c.Steps(f) {
			if i == len(merged) {
				merged = append(merged, Step{Name: step.Name, Node: step.Node})
			}
			m := &merged[i]
			m.Apply = append(m.Apply, step.Apply...)
			m.Delete = append(m.Delete, step.Delete...)
			m.Probes = append(m.Probes, step.Probes...)
			m.Eventually = m.Eventually || step.Eventually
		}
	}
	return merged
}

// Names of the nodes and of the zones they are in; n3 has no part in any case.
const (
	NodeName   = "n1"
	otherNode  = "n2"
	zoneOfNode = "east"
	otherZone  = "west"
)

// NewNode is this node's Node object, before any step changes it.
func NewNode() *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: NodeName, Labels: map[string]string{corev1.LabelTopologyZone: zoneOfNode, corev1.LabelHostname: NodeName},
	}}
	node.Spec.PodCIDR = Families[0].podCIDR().String()
	for _, f := range Families {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, f.podCIDR().String())
	}
	setAddresses(node, Family.nodeAddr)
	return node
}

func setAddresses(node *corev1.Node, of func(Family) netip.Addr) {
	node.Status.Addresses = nil
	for _, f := range Families {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: of(f).String()})
	}
}

// DefaultServiceCIDR is the one that the API server makes of its --service-cluster-ip-range.
func DefaultServiceCIDR() *networkingv1.ServiceCIDR {
	cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for _, f := range Families {
		cidr.Spec.CIDRs = append(cidr.Spec.CIDRs, f.ServiceCIDR().String())
	}
	return cidr
}

// Cases are the whole table.
func Cases() []Case {
	return slices.Concat(endpointCases, hintCases, policyCases, masqueradeCases, affinityCases, balancerCases,
		nodePortCases(), filterCases, malformedCases)
}

var (
	_ Object = (*corev1.Service)(nil)
	_ Object = (*discoveryv1.EndpointSlice)(nil)
	_ Object = (*networkingv1.ServiceCIDR)(nil)
)
