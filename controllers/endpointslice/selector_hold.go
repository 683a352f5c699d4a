package endpointslice

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
)

// holding keeps the endpoints of a Service as they are while its EndpointSelector is not accepted: those that were
// there when it began stay for as long as their Pods live and have their addresses. Nothing is added, and nothing
// stays whose address may be another Pod's by now, or is not allowed any more: who may break an EndpointSelector
// could otherwise send a Service's clients to an address long after it was given to somebody else.
type holding struct {
	pods   map[string]*held
	filter endpoints.AddressFilter
}

type held struct {
	uid       types.UID
	addresses []string
}

// hold begins with these endpoints. Those that are no Pod's are none of ours.
func hold(all []*discoveryv1.Endpoint, filter endpoints.AddressFilter) *holding {
	h := &holding{pods: map[string]*held{}, filter: filter}
	for _, e := range all {
		if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
			continue
		}
		// A Pod replaced by one of its name may be there twice for a moment: the last one counts.
		if p := h.pods[e.TargetRef.Name]; p == nil || p.uid != e.TargetRef.UID {
			h.pods[e.TargetRef.Name] = &held{uid: e.TargetRef.UID}
		}
		p := h.pods[e.TargetRef.Name]
		p.addresses = append(p.addresses, e.Addresses...)
	}
	return h
}

// selectors match every Pod: which of them are held is known by name.
func (h *holding) selectors() []labels.Selector { return []labels.Selector{labels.Everything()} }

// options says what the endpoints are like.
func (h *holding) options() endpoints.SetOptions { return endpoints.SetOptions{Addresses: h.addresses} }

// addresses returns which of the addresses that are held a Pod still has.
func (h *holding) addresses(pod *corev1.Pod) []string {
	p := h.pods[pod.Name]
	if p == nil || p.uid != pod.UID {
		return nil
	}
	own := make([]string, 0, len(pod.Status.PodIPs))
	for _, ip := range pod.Status.PodIPs {
		own = append(own, ip.IP)
	}
	attachments, err := endpoints.Attachments(pod)
	if err != nil {
		attachments = nil
	}
	for _, a := range attachments {
		for _, ip := range a.IPs {
			served, _ := h.filter.Select([]string{ip})
			own = append(own, served...)
		}
	}
	var still []string
	for _, address := range p.addresses {
		if slices.Contains(own, address) {
			still = append(still, address)
		}
	}
	return still
}
