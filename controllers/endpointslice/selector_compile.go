package endpointslice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// refusal says why an EndpointSelector is not accepted: a reason of ConditionAccepted, and what to do.
type refusal struct {
	reason, message string
}

// choice is what an EndpointSelector says, read: which Pods, in which order of groups, at which addresses. It decides
// alone and does not change.
type choice struct {
	// groups has at least one. Their selectors hold what spec.selector asks for, too.
	groups []group
	// network is a namespace/name; empty: the addresses are those of status.podIPs.
	network string
	filter  endpoints.AddressFilter
}

type group struct {
	// name is empty where the EndpointSelector has no groups.
	name     string
	selector labels.Selector
}

// compile reads an EndpointSelector.
func compile(es *v1alpha1.EndpointSelector, filter endpoints.AddressFilter) (*choice, *refusal) {
	spec := &es.Spec
	base, err := readSelector("spec.selector", &spec.Selector)
	switch {
	case err != nil:
		return nil, err
	case base.Empty():
		return nil, &refusal{v1alpha1.ReasonInvalidSelector, "spec.selector is empty, which would pick every Pod: write matchLabels or matchExpressions"}
	}
	c := &choice{groups: []group{{selector: inSets(base)}}}
	if len(spec.Fairlead.Groups) > 0 {
		c.groups = nil
	}
	for i := range spec.Fairlead.Groups {
		g := &spec.Fairlead.Groups[i]
		selector, err := readSelector(fmt.Sprintf("spec.fairlead.groups[%s].selector", g.Name), &g.Selector)
		if err != nil {
			return nil, err
		}
		c.groups = append(c.groups, group{name: g.Name, selector: inSets(both(base, selector))})
	}
	if spec.Fairlead.Network != "" {
		if len(filter.Allowed) == 0 {
			return nil, &refusal{v1alpha1.ReasonNetworksNotAllowed, "secondary networks are not served in this cluster: " +
				"leave spec.fairlead.network out, or ask the administrator to name the network's range in endpointSelector.allowedCIDRs of the manager's configuration"}
		}
		c.network, c.filter = endpoints.QualifiedNetwork(es.Namespace, spec.Fairlead.Network), filter
	}
	return c, nil
}

// readSelector reads a selector, which the API server lets through with keys and values that no label can have.
func readSelector(field string, s *metav1.LabelSelector) (labels.Selector, *refusal) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, &refusal{v1alpha1.ReasonInvalidSelector, fmt.Sprintf("%s cannot be read: %s: correct it", field, oneLine(err))}
	}
	return selector, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// both returns the selector of what a and b match.
func both(a, b labels.Selector) labels.Selector {
	requirements, _ := b.Requirements() // Selectable: it was read from a LabelSelector.
	return a.Add(requirements...)
}

// selectors returns what matches the Pods, any of them.
func (c *choice) selectors() []labels.Selector {
	all := make([]labels.Selector, len(c.groups))
	for i, g := range c.groups {
		all[i] = g.selector
	}
	return all
}

// rank returns the place of a Pod's group. A Pod of none, which the selectors do not give, comes after all.
func (c *choice) rank(pod *corev1.Pod) int {
	for i, g := range c.groups {
		if g.selector.Matches(labels.Set(pod.Labels)) {
			return i
		}
	}
	return len(c.groups)
}

// groupName returns the name of a rank's group; empty where there is none.
func (c *choice) groupName(rank int) string {
	if rank < len(c.groups) {
		return c.groups[rank].name
	}
	return ""
}

// found is what a Pod has on the network.
type found struct {
	// addresses that are served.
	addresses []string
	// attached: the Pod is on the network, with or without addresses.
	attached bool
	// excluded is how many addresses it has there that may not be served.
	excluded int
	// unreadable: the Pod's annotation cannot be read.
	unreadable bool
}

// find looks up a Pod's addresses on the network.
func (c *choice) find(pod *corev1.Pod) found {
	attachments, err := endpoints.Attachments(pod)
	if err != nil {
		return found{unreadable: true}
	}
	var f found
	var ips []string
	for _, a := range attachments {
		if a.Network == c.network {
			f.attached = true
			ips = append(ips, a.IPs...)
		}
	}
	f.addresses, f.excluded = c.filter.Select(ips)
	return f
}

// options says what the endpoints are like.
func (c *choice) options() endpoints.SetOptions {
	opts := endpoints.SetOptions{Rank: c.rank}
	if c.network != "" {
		opts.Addresses = func(pod *corev1.Pod) []string { return c.find(pod).addresses }
	}
	return opts
}

// byAge sorts EndpointSelectors, the oldest first: the one that has the Service. One that is being deleted is left out.
func byAge(all []v1alpha1.EndpointSelector) []*v1alpha1.EndpointSelector {
	var living []*v1alpha1.EndpointSelector
	for i := range all {
		if all[i].DeletionTimestamp == nil {
			living = append(living, &all[i])
		}
	}
	slices.SortFunc(living, func(a, b *v1alpha1.EndpointSelector) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return living
}

// judgeService says why a Service cannot have an EndpointSelector's Pods; nil: it can. A nil Service is none.
func judgeService(service *corev1.Service, name string) *refusal {
	switch {
	case service == nil:
		return &refusal{v1alpha1.ReasonServiceNotFound, fmt.Sprintf("there is no Service %q: create it without a selector, or correct spec.fairlead.serviceName", name)}
	case service.Namespace == metav1.NamespaceDefault && service.Name == "kubernetes":
		return &refusal{v1alpha1.ReasonServiceReserved, "the endpoints of Service \"kubernetes\" are the API servers: name another in spec.fairlead.serviceName"}
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return &refusal{v1alpha1.ReasonServiceIsExternalName, fmt.Sprintf("Service %q is of type ExternalName, which has no endpoints: change its type, or name another in spec.fairlead.serviceName", name)}
	case service.Spec.Selector != nil:
		return &refusal{v1alpha1.ReasonServiceHasSelector, fmt.Sprintf("Service %q picks its Pods by its own selector: remove spec.selector there, or name another in spec.fairlead.serviceName", name)}
	}
	return nil
}
