package endpoints

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// containerPorts calls yield with every port by which a Service can name a Pod: those of its containers, then those
// of its sidecars (init containers that are restarted always), until yield returns false.
func containerPorts(pod *corev1.Pod) func(yield func(*corev1.ContainerPort) bool) {
	return func(yield func(*corev1.ContainerPort) bool) {
		for i := range pod.Spec.Containers {
			for j := range pod.Spec.Containers[i].Ports {
				if !yield(&pod.Spec.Containers[i].Ports[j]) {
					return
				}
			}
		}
		for i := range pod.Spec.InitContainers {
			container := &pod.Spec.InitContainers[i]
			if container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways {
				continue
			}
			for j := range container.Ports {
				if !yield(&container.Ports[j]) {
					return
				}
			}
		}
	}
}

// resolvePort returns the number of a Service port on a Pod. A named targetPort matches by name and protocol.
func resolvePort(port *corev1.ServicePort, pod *corev1.Pod) (number int32, ok bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	for p := range containerPorts(pod) {
		if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// resolution is what the ports of a Service are on some Pods.
type resolution struct {
	// ports are sorted; key is their portsKey.
	ports []discoveryv1.EndpointPort
	key   string
	// missing are the indexes of the Service's ports that these Pods lack, ascending.
	missing []int
}

// resolver resolves the ports of one Service. Pods of one template have the same ports, so that each answer is made
// once and looked up by its numbers.
type resolver struct {
	service *corev1.Service
	byPorts map[string]*resolution
	buffer  []byte
}

// resolve returns the ports of the Service on a Pod. A port that the Pod lacks is left out, for this Pod alone.
func (r *resolver) resolve(pod *corev1.Pod) *resolution {
	r.buffer = r.buffer[:0]
	for i := range r.service.Spec.Ports {
		number, ok := resolvePort(&r.service.Spec.Ports[i], pod)
		if !ok {
			number = -1
		}
		r.buffer = binary.BigEndian.AppendUint32(r.buffer, uint32(number))
	}
	if found := r.byPorts[string(r.buffer)]; found != nil {
		return found
	}
	res := &resolution{ports: []discoveryv1.EndpointPort{}}
	for i := range r.service.Spec.Ports {
		port := &r.service.Spec.Ports[i]
		number, ok := resolvePort(port, pod)
		if !ok {
			res.missing = append(res.missing, i)
			continue
		}
		res.ports = append(res.ports, discoveryv1.EndpointPort{
			Name: &port.Name, Port: &number, Protocol: &port.Protocol, AppProtocol: port.AppProtocol,
		})
	}
	slices.SortFunc(res.ports, comparePorts)
	res.key = portsKey(res.ports)
	r.byPorts[string(r.buffer)] = res
	return res
}

func equalPorts(a, b discoveryv1.EndpointPort) bool { return comparePorts(a, b) == 0 }

func comparePorts(a, b discoveryv1.EndpointPort) int {
	return compareAll(
		cmp.Compare(value(a.Name), value(b.Name)),
		cmp.Compare(value(a.Port), value(b.Port)),
		cmp.Compare(value(a.Protocol), value(b.Protocol)),
		cmp.Compare(value(a.AppProtocol), value(b.AppProtocol)),
	)
}

// value is what a pointer points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// portsKey is equal for equal sets of ports, in any order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	if !slices.IsSortedFunc(ports, comparePorts) {
		ports = slices.SortedFunc(slices.Values(ports), comparePorts)
	}
	var b strings.Builder
	for i := range ports {
		p := &ports[i]
		// None of these can hold a space or a line's end, but for a foreign write, which then merely differs.
		fmt.Fprintf(&b, "%s %s %s %s\n", show(p.Name), show(p.Port), show(p.Protocol), show(p.AppProtocol))
	}
	return b.String()
}

// show writes a value so that nil differs from empty.
func show[T any](p *T) string {
	if p == nil {
		return "nil"
	}
	return strconv.Quote(fmt.Sprint(*p))
}

// namedPorts lists the ports that a Pod has a name for, as name/number/protocol.
func namedPorts(pod *corev1.Pod) []string {
	names := []string{}
	for p := range containerPorts(pod) {
		if p.Name != "" {
			names = append(names, fmt.Sprintf("%s/%d/%s", p.Name, p.ContainerPort, p.Protocol))
		}
	}
	return names
}
