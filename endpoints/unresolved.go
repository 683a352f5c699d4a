package endpoints

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// UnresolvedPort is a Service port whose named targetPort some Pods lack.
type UnresolvedPort struct {
	// Port is the Service port.
	Port corev1.ServicePort
	// Missing of Pods Pods lack it. Only ready Pods count where there are any, else all that are not going away.
	Missing, Pods int
	// Have are the ports that the Pods that lack it name instead, as name/number/protocol, sorted.
	Have []string
}

// String is one line that says what to change. It says none or some instead of numbers, which change all the time.
func (u UnresolvedPort) String() string {
	name := strconv.Itoa(int(u.Port.Port))
	if u.Port.Name != "" {
		name = fmt.Sprintf("%q (%d)", u.Port.Name, u.Port.Port)
	}
	where := "some Pods lack"
	if u.Missing == u.Pods {
		where = "no Pod has"
	}
	have := "they name no ports"
	if len(u.Have) > 0 {
		have = "they have " + strings.Join(u.Have, ", ")
	}
	return fmt.Sprintf("port %s: %s its targetPort %q (%s); %s", name, where, u.Port.TargetPort.StrVal, u.Port.Protocol, have)
}

// UnresolvedPorts returns the Service's ports that some Pods lack, in the Service's order, and how many Pods that was
// judged by. Where Pods are ready, only those count; else all that are not going away do, since a probe by port name
// keeps such a Pod from getting ready. It costs O(ports).
func (s *Set) UnresolvedPorts() (unresolved []UnresolvedPort, pods int) {
	t := &s.staying
	if s.ready.pods > 0 {
		t = &s.ready
	}
	for _, port := range slices.Sorted(maps.Keys(t.missing)) {
		unresolved = append(unresolved, UnresolvedPort{
			Port:    s.service.Spec.Ports[port],
			Missing: t.missing[port],
			Pods:    t.pods,
			Have:    t.have.of(port),
		})
	}
	return unresolved, t.pods
}

// tally sums up what Pods lack.
type tally struct {
	pods int
	// missing counts the Pods that lack a port of the Service, by its index.
	missing map[int]int
	have    haveCounts
}

// haveCounts counts the Pods that lack a port of the Service and name another, by its index and the other.
type haveCounts map[havePort]int

type havePort struct {
	port int
	name string
}

// add adds a member n times; -1 takes it off.
func (t *tally) add(m *member, n int) {
	t.pods += n
	if len(m.missing) > 0 && t.missing == nil {
		t.missing, t.have = map[int]int{}, haveCounts{}
	}
	for _, port := range m.missing {
		addTo(t.missing, port, n)
		for _, name := range m.have {
			addTo(t.have, havePort{port: port, name: name}, n)
		}
	}
}

// addTo adds to a count and drops it at zero.
func addTo[K comparable](counts map[K]int, key K, n int) {
	counts[key] += n
	if counts[key] == 0 {
		delete(counts, key)
	}
}

func (h haveCounts) of(port int) []string {
	var names []string
	for key := range h {
		if key.port == port {
			names = append(names, key.name)
		}
	}
	slices.Sort(names)
	return names
}
