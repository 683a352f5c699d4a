package sync

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
)

// NodePort is a port on which packets to the node itself are a Service's.
type NodePort struct {
	Service types.NamespacedName
	// Family is 4 or 6.
	Family   uint8
	Protocol model.Protocol
	Port     uint16
}

// nodePorts are those that were last written. There are at most as many as the API server hands out, whatever the
// number of Services, and following them costs no more than what changed.
type nodePorts struct {
	served map[model.FrontendKey]types.NamespacedName
	// stale is true when served is not what was last reported.
	stale bool
}

// follow takes what a backend was given; changes nil means all of the state.
func (n *nodePorts) follow(state *model.State, changes *model.Changes) {
	if changes == nil {
		served := map[model.FrontendKey]types.NamespacedName{}
		for _, f := range state.Frontends {
			if f.Kind == model.NodePort {
				served[f.Key] = serviceOf(f)
			}
		}
		n.stale = n.stale || !maps.Equal(served, n.served)
		n.served = served
		return
	}
	for _, key := range changes.FrontendsGone {
		if _, ok := n.served[key]; ok {
			delete(n.served, key)
			n.stale = true
		}
	}
	for _, f := range changes.Frontends {
		if f.Kind == model.NodePort && n.served[f.Key] != serviceOf(f) {
			n.served[f.Key] = serviceOf(f)
			n.stale = true
		}
	}
}

func serviceOf(f *model.Frontend) types.NamespacedName {
	return types.NamespacedName{Namespace: f.Port.Namespace, Name: f.Port.Name}
}

// report returns all of them, sorted, if they differ from what was last returned; else nil. None at all is an empty
// list.
func (n *nodePorts) report() []NodePort {
	if !n.stale {
		return nil
	}
	n.stale = false
	out := make([]NodePort, 0, len(n.served))
	for key, service := range n.served {
		family := uint8(6)
		if key.Addr.Is4() {
			family = 4
		}
		out = append(out, NodePort{Service: service, Family: family, Protocol: key.Protocol, Port: key.Port})
	}
	slices.SortFunc(out, func(a, b NodePort) int {
		if a.Port != b.Port {
			return int(a.Port) - int(b.Port)
		}
		if a.Protocol != b.Protocol {
			return int(a.Protocol) - int(b.Protocol)
		}
		if a.Family != b.Family {
			return int(a.Family) - int(b.Family)
		}
		return strings.Compare(a.Service.String(), b.Service.String())
	})
	return out
}
