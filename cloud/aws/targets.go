package aws

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// targets are instances with the node port, of nodes that have the labels, or Pods' addresses of a family, sorted by ID.
// Those of QUIC have their server ids behind a slash.
func targets(spec cloud.Spec, labels map[string]string, l listened, family cloud.Family) []cloud.Target {
	p := l.Port
	var all []cloud.Target
	for _, node := range spec.Nodes {
		if id := instanceOf(node); id != "" && has(node.Labels, labels) {
			all = append(all, cloud.Target{ID: id + ":" + strconv.Itoa(int(p.NodePort))})
		}
	}
	for _, e := range spec.Endpoints {
		if number, ok := e.Ports[p.Key()]; ok && e.Family() == family {
			id := net.JoinHostPort(e.Address, strconv.Itoa(int(number)))
			if isQUIC(l.group) {
				server := serverID(e.PodUID)
				if server == "" {
					continue
				}
				id += serverSeparator + server
			}
			all = append(all, cloud.Target{ID: id})
		}
	}
	slices.SortFunc(all, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// has reports whether a node's labels have others among them.
func has(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if have, ok := labels[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// instanceOf returns the id of a node's instance, of aws:///zone/i-…; empty: it is none of EC2's.
func instanceOf(node cloud.Node) string {
	path, ok := strings.CutPrefix(node.ProviderID, "aws://")
	id := path[strings.LastIndex(path, "/")+1:]
	if !ok || !strings.HasPrefix(id, "i-") {
		return ""
	}
	return id
}
