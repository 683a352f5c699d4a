package proxies

import (
	"slices"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// difference is a step of a case in which kube-proxy does something else, on purpose of ours.
type difference struct {
	name, step string
	// from is the client that sees it; empty: all clients may.
	from conformance.Client
	// reason says why ours is as it is, and who decided it.
	reason string
}

// differences are all there are.
var differences = []difference{
	{"ServiceCIDR comes and goes", "it comes", "", "kube-proxy does not react to a changed ServiceCIDR for up to an hour"},
	{"source ranges of the other family", "", "", "ranges of one family leave the other family's address open in kube-proxy"},
	{"hairpin", "", "c", "kube-proxy masquerades hairpin to endpoints of its own node alone: docs/adr/0010"},
}

func (d difference) key() string { return d.name + ": " + d.step }

// find returns what is listed for a client in a step, or nil.
func find(name, step string, from conformance.Client) *difference {
	i := slices.IndexFunc(differences, func(d difference) bool {
		return d.name == name && d.step == step && (d.from == "" || d.from == from)
	})
	if i < 0 {
		return nil
	}
	return &differences[i]
}
