package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"
)

// Of the classic Endpoints object.
const (
	// ClassicCapacity is how many addresses an Endpoints object holds at most.
	ClassicCapacity = 1000
	// ClassicManagedByLabel marks the Endpoints that a controller wrote, and ClassicManagedBy is what upstream's and
	// ours write there.
	ClassicManagedByLabel = "endpoints.kubernetes.io/managed-by"
	ClassicManagedBy      = "endpoint-controller"
	// leaderAnnotation marks Endpoints that are a lock of leader election and no one's endpoints.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
	truncated        = "truncated"
)

// Classic returns the Endpoints object that a Service should have, given the one that it has, or nil where nothing is
// to be written: current is right already, is a lock of leader election, or is missing while the Service is being
// deleted. Current is nil where there is none.
//
// It holds addresses of the primary family, at most ClassicCapacity of them, ready ones first, shared among subsets by
// their size. Pods that are going away are in it only with publishNotReadyAddresses, and then as ready.
func Classic(service *corev1.Service, pods []*corev1.Pod, current *corev1.Endpoints, trigger time.Time) *corev1.Endpoints {
	if current == nil && service.DeletionTimestamp != nil {
		return nil
	}
	if current != nil {
		if _, lock := current.Annotations[leaderAnnotation]; lock || current.DeletionTimestamp != nil {
			return nil
		}
	}
	all := classicSubsets(service, pods)
	subsets := slices.Clone(all)
	over := truncate(subsets, ClassicCapacity)
	subsets = slices.DeleteFunc(subsets, func(s corev1.EndpointSubset) bool {
		return len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0
	})
	labels := classicLabels(service)
	if current != nil && maps.Equal(current.Labels, labels) && over == (current.Annotations[corev1.EndpointsOverCapacity] == truncated) {
		sorted := sortedSubsets(current.Subsets)
		if slices.EqualFunc(sorted, subsets, equalSubsets) || over && truncates(sorted, all, ClassicCapacity) {
			return nil
		}
	}
	wanted := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name}}
	if current != nil {
		current.ObjectMeta.DeepCopyInto(&wanted.ObjectMeta)
		wanted.ManagedFields = nil
	}
	wanted.Labels = labels
	wanted.Subsets = subsets
	SetTrigger(&wanted.ObjectMeta, trigger)
	delete(wanted.Annotations, corev1.EndpointsOverCapacity)
	if over {
		metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, corev1.EndpointsOverCapacity, truncated)
	}
	return wanted
}

// ClassicAdds says whether wanted takes nothing from the clients of current: it has ready addresses, and all of them,
// with all their ports, are ready in wanted, too. Such a change can wait longer than others. Both are of Classic.
func ClassicAdds(current, wanted *corev1.Endpoints) bool {
	if current == nil {
		return false
	}
	type served struct {
		ip   string
		port corev1.EndpointPort
	}
	serves := func(e *corev1.Endpoints, each func(served)) {
		for _, subset := range e.Subsets {
			ports := subset.Ports
			if len(ports) == 0 {
				ports = []corev1.EndpointPort{{}}
			}
			for _, address := range subset.Addresses {
				for _, port := range ports {
					port.AppProtocol = nil // Compared by its address otherwise.
					each(served{address.IP, port})
				}
			}
		}
	}
	ready := map[served]struct{}{}
	serves(wanted, func(s served) { ready[s] = struct{}{} })
	some, all := false, true
	serves(current, func(s served) {
		_, kept := ready[s]
		some, all = true, all && kept
	})
	return some && all
}

// ClassicObsolete says whether an Endpoints object is one that we, or upstream's controller, wrote for a Service that
// is gone or has no selector any more, so that it has to be deleted.
func ClassicObsolete(current *corev1.Endpoints) bool {
	_, lock := current.Annotations[leaderAnnotation]
	return !lock && current.DeletionTimestamp == nil && current.Labels[ClassicManagedByLabel] == ClassicManagedBy
}

func classicLabels(service *corev1.Service) map[string]string {
	labels := make(map[string]string, len(service.Labels)+2)
	maps.Copy(labels, service.Labels)
	delete(labels, corev1.IsHeadlessService)
	if headless(service) {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[ClassicManagedByLabel] = ClassicManagedBy
	return labels
}

// classicSubsets returns the subsets of a Service in upstream's layout, sorted.
func classicSubsets(service *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	ports := resolver{service: service, byPorts: map[string]*resolution{}}
	byPorts := map[string]*corev1.EndpointSubset{}
	family := classicFamily(service)
	for _, pod := range pods {
		if !Publishable(pod) || pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses {
			continue
		}
		ip := classicAddress(pod, family)
		resolved := ports.resolve(pod)
		if ip == "" || len(resolved.ports) == 0 && !portless(service) {
			continue
		}
		subset := byPorts[resolved.key]
		if subset == nil {
			subset = &corev1.EndpointSubset{Ports: classicPorts(resolved.ports)}
			byPorts[resolved.key] = subset
		}
		whole := &struct {
			target corev1.ObjectReference
			node   string
		}{
			target: corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			node:   pod.Spec.NodeName,
		}
		address := corev1.EndpointAddress{IP: ip, Hostname: podHostname(pod, service), TargetRef: &whole.target}
		if whole.node != "" {
			address.NodeName = &whole.node
		}
		if service.Spec.PublishNotReadyAddresses || podReady(pod) {
			subset.Addresses = append(subset.Addresses, address)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	subsets := make([]corev1.EndpointSubset, 0, len(byPorts))
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		subsets = append(subsets, *byPorts[key])
	}
	subsets = repack(subsets)
	sortSubsets(subsets)
	return subsets
}

// classicFamily returns the family of a Service's addresses, its primary one. It is empty for a headless Service,
// written before there were families, that does not say: each of its Pods has its own.
func classicFamily(service *corev1.Service) discoveryv1.AddressType {
	if len(service.Spec.IPFamilies) > 0 || !headless(service) {
		return Families(service)[0]
	}
	return ""
}

// classicAddress returns a Pod's address of a family, of its own primary one where that is empty; or nothing.
func classicAddress(pod *corev1.Pod, family discoveryv1.AddressType) string {
	if family == "" {
		family = discoveryv1.AddressTypeIPv4
		if netutils.IsIPv6String(pod.Status.PodIPs[0].IP) {
			family = discoveryv1.AddressTypeIPv6
		}
	}
	var room [2]string
	if addresses := podAddresses(room[:0], pod, family); len(addresses) > 0 {
		return addresses[0]
	}
	return ""
}

// repack turns subsets in which each address stands once, with all ports that it has, into upstream's layout: each port
// with all addresses that have it, and those ports together that have the same addresses. Either layout says the same,
// but upstream's controller would rewrite the other one when it takes over.
func repack(subsets []corev1.EndpointSubset) []corev1.EndpointSubset {
	if len(subsets) < 2 {
		return subsets
	}
	// 1. Which subsets have a port, by their indexes.
	holders := map[string][]int{}
	ports := map[string]corev1.EndpointPort{}
	for i := range subsets {
		for _, port := range subsets[i].Ports {
			key := fmt.Sprintf("%s %d %s %s", port.Name, port.Port, port.Protocol, show(port.AppProtocol))
			holders[key] = append(holders[key], i)
			ports[key] = port
		}
	}
	// 2. The ports that the same subsets have make one subset with all their addresses.
	byHolders := map[string]*corev1.EndpointSubset{}
	for key, indexes := range holders {
		id := fmt.Sprint(indexes)
		packed := byHolders[id]
		if packed == nil {
			packed = &corev1.EndpointSubset{}
			for _, i := range indexes {
				packed.Addresses = append(packed.Addresses, subsets[i].Addresses...)
				packed.NotReadyAddresses = append(packed.NotReadyAddresses, subsets[i].NotReadyAddresses...)
			}
			byHolders[id] = packed
		}
		packed.Ports = append(packed.Ports, ports[key])
	}
	repacked := make([]corev1.EndpointSubset, 0, len(byHolders))
	for _, packed := range byHolders {
		repacked = append(repacked, *packed)
	}
	return repacked
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	copied := *p
	return &copied
}

// portless says whether a Service's endpoints are addresses without ports, which only a headless Service's may be.
func portless(service *corev1.Service) bool {
	return len(service.Spec.Ports) == 0 && service.Spec.ClusterIP == corev1.ClusterIPNone
}

func classicPorts(ports []discoveryv1.EndpointPort) []corev1.EndpointPort {
	var classic []corev1.EndpointPort
	for _, p := range ports {
		classic = append(classic, corev1.EndpointPort{
			Name: value(p.Name), Port: value(p.Port), Protocol: value(p.Protocol), AppProtocol: clonePointer(p.AppProtocol),
		})
	}
	return classic
}

// sortSubsets sorts subsets and all that is in them.
func sortSubsets(subsets []corev1.EndpointSubset) {
	for i := range subsets {
		s := &subsets[i]
		slices.SortFunc(s.Addresses, compareAddresses)
		slices.SortFunc(s.NotReadyAddresses, compareAddresses)
		slices.SortFunc(s.Ports, compareClassicPorts)
	}
	slices.SortFunc(subsets, compareSubsets)
}

// sortedSubsets returns subsets if they are sorted, else a sorted copy, so that the same content in another order, as
// another version of upstream's controller may have written it, is not written again (kubernetes/kubernetes#129652).
func sortedSubsets(subsets []corev1.EndpointSubset) []corev1.EndpointSubset {
	unsorted := slices.ContainsFunc(subsets, func(s corev1.EndpointSubset) bool {
		return !slices.IsSortedFunc(s.Addresses, compareAddresses) || !slices.IsSortedFunc(s.NotReadyAddresses, compareAddresses) ||
			!slices.IsSortedFunc(s.Ports, compareClassicPorts)
	})
	if !unsorted && slices.IsSortedFunc(subsets, compareSubsets) {
		return subsets
	}
	sorted := slices.Clone(subsets)
	for i := range sorted {
		s := &sorted[i]
		s.Addresses, s.NotReadyAddresses, s.Ports = slices.Clone(s.Addresses), slices.Clone(s.NotReadyAddresses), slices.Clone(s.Ports)
	}
	sortSubsets(sorted)
	return sorted
}

func compareSubsets(a, b corev1.EndpointSubset) int {
	return slices.CompareFunc(a.Ports, b.Ports, compareClassicPorts)
}

func equalSubsets(a, b corev1.EndpointSubset) bool {
	return slices.EqualFunc(a.Addresses, b.Addresses, equalClassicAddresses) &&
		slices.EqualFunc(a.NotReadyAddresses, b.NotReadyAddresses, equalClassicAddresses) &&
		slices.EqualFunc(a.Ports, b.Ports, equalClassicPorts)
}

func equalClassicAddresses(a, b corev1.EndpointAddress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && equalPointers(a.NodeName, b.NodeName) && equalPointers(a.TargetRef, b.TargetRef)
}

func equalClassicPorts(a, b corev1.EndpointPort) bool {
	return a.Name == b.Name && a.Port == b.Port && a.Protocol == b.Protocol && equalPointers(a.AppProtocol, b.AppProtocol)
}

func compareClassicPorts(a, b corev1.EndpointPort) int {
	return compareAll(
		strings.Compare(a.Name, b.Name),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(value(a.AppProtocol), value(b.AppProtocol)),
	)
}

func compareAddresses(a, b corev1.EndpointAddress) int {
	if c := strings.Compare(a.IP, b.IP); c != 0 {
		return c
	}
	return strings.Compare(string(value(a.TargetRef).UID), string(value(b.TargetRef).UID))
}
