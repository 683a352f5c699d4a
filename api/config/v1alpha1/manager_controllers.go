package v1alpha1

import (
	"fmt"
	"slices"
	"strings"
)

// Names of controllers, as --controllers takes them.
const (
	ControllerEndpoints     = "endpoints"
	ControllerEndpointSlice = "endpointslice"
	ControllerLoadBalancer  = "loadbalancer"
	ControllerMirroring     = "mirroring"
	ControllerNodePort      = "nodeport"
	ControllerTopology      = "topology"
)

// Controllers returns the names of all controllers, sorted.
func Controllers() []string {
	return []string{ControllerEndpoints, ControllerEndpointSlice, ControllerLoadBalancer, ControllerMirroring, ControllerNodePort, ControllerTopology}
}

// SelectControllers reads a list such as "*", "-nodeport": it returns the sorted names of the controllers to
// run, or every mistake in the list, one line each. Spaces around an entry do not count.
func SelectControllers(list []string) ([]string, []error) {
	var mistakes []error
	all := false
	on, off := map[string]bool{}, map[string]bool{}
	for _, entry := range list {
		name, disable := strings.CutPrefix(strings.TrimSpace(entry), "-")
		switch {
		case name == "*" && !disable:
			all = true
		case !slices.Contains(Controllers(), name):
			mistakes = append(mistakes, fmt.Errorf("controllers: there is no %q: choose from %s, or * for all, each with a leading - to turn it off",
				name, strings.Join(Controllers(), ", ")))
		case disable:
			off[name] = true
		default:
			on[name] = true
		}
	}
	var selected []string
	for _, name := range Controllers() {
		if on[name] && off[name] {
			mistakes = append(mistakes, fmt.Errorf("controllers: %[1]q is turned on and off: keep one of %[1]s and -%[1]s", name))
		}
		if (all || on[name]) && !off[name] {
			selected = append(selected, name)
		}
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	if len(selected) == 0 {
		return nil, []error{fmt.Errorf("controllers: %q leaves none to run: name at least one of %s",
			strings.Join(list, ","), strings.Join(Controllers(), ", "))}
	}
	return selected, nil
}
