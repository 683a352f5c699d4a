package conformance

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// Source says whose address an endpoint sees.
type Source string

// Sources. Masqueraded is the node's address on the way to the endpoint, no other of its addresses. Of the node's own
// connections Own means the node's first address; to endpoints on other nodes the two are the same, and called Own.
const (
	Own         Source = "client"
	Masqueraded Source = "node"
)

// Outcome is what becomes of the connections of a probe.
type Outcome struct {
	// fate is nstest.Dropped or Rejected, what an HTTP server said, or an error; empty: endpoints answered.
	fate string
	// seen are the endpoints that answered, with the source that each saw.
	seen map[string]Source
	// sticky: one endpoint out of seen, the same for all connections.
	sticky bool
}

// Dropped and Rejected are the fates of connections that nobody answers for.
var (
	Dropped  = Outcome{fate: nstest.Dropped}
	Rejected = Outcome{fate: nstest.Rejected}
)

// Reach wants exactly these endpoints to answer, all of them seeing the same source.
func Reach(source Source, endpoints ...string) Outcome {
	o := Outcome{seen: map[string]Source{}}
	for _, e := range endpoints {
		o.seen[e] = source
	}
	return o
}

// Beyond wants the node to let the packets pass, as they are.
var Beyond = Reach(Own, world)

// And adds an endpoint that sees another source.
func (o Outcome) And(source Source, endpoint string) Outcome {
	o.seen = maps.Clone(o.seen)
	o.seen[endpoint] = source
	return o
}

// Sticky wants all connections of the probe to go to one of the endpoints.
func (o Outcome) Sticky() Outcome {
	o.sticky = true
	return o
}

// health is what a health check says.
func health(status, local int, healthy bool) Outcome {
	return Outcome{fate: fmt.Sprintf("%d, localEndpoints %d, serviceProxyHealthy %v", status, local, healthy)}
}

func (o Outcome) String() string {
	if o.fate != "" {
		return o.fate
	}
	var parts []string
	names := slices.Sorted(maps.Keys(o.seen))
	same := true
	for _, name := range names {
		same = same && o.seen[name] == o.seen[names[0]]
		parts = append(parts, fmt.Sprintf("%s (%s)", name, o.seen[name]))
	}
	text := strings.Join(parts, ", ")
	if same && len(names) > 0 {
		text = fmt.Sprintf("%s (%s)", strings.Join(names, " "), o.seen[names[0]])
	}
	if o.sticky {
		text = "one of " + text
	}
	return text
}

// source names an address that an endpoint saw of a client.
func (n *Network) source(from *client, f Family, sent netip.AddrPort, server string, saw netip.Addr) Source {
	own := from.addr[f]
	if from.crowd != nil {
		own = sent.Addr()
	}
	masqueraded := f.podAddr(1)
	if strings.HasPrefix(server, "c") || strings.HasPrefix(server, "d") {
		masqueraded = f.nodeAddr()
	}
	switch saw {
	case own:
		return Own
	case masqueraded:
		return Masqueraded
	}
	return Source(saw.String())
}
