package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// Target is an address that clients connect to. Name says what it is.
type Target struct {
	Name string
	netip.AddrPort
}

// Probe makes connections and says what must become of them.
type Probe struct {
	From Client
	To   Target
	// Also are addresses that take turns with To.
	Also []Target
	// Protocols are those to try; nil means all three.
	Protocols []string
	Want      Outcome
	// After is the pause before the first connection, Every that between two; 0: none.
	After, Every time.Duration
	// Tries is how many connections are made at least; 0 means 16, of which an endpoint that should not be there, among
	// one that should, gets none once in 65,536 times.
	Tries int
	// Health asks for the health check of a Service by HTTP instead.
	Health bool
}

// AllProtocols are what a probe tries.
var AllProtocols = []string{"tcp", "udp", nstest.SCTP}

const (
	patience   = 2 * time.Minute        // for what must answer, on a machine that stands still for a while too
	polled     = 5 * time.Second        // for what is asked again
	impatience = 300 * time.Millisecond // for what must not
	minTries   = 16
	maxTries   = 200
	// inTime is how long a change that is not a Service's or slice's may take to show.
	inTime = patience
)

// Result is what became of the connections of one probe, by one protocol and family.
type Result struct {
	Family   Family
	Protocol string
	Probe    *Probe
	Got      Outcome
}

// OK says whether it is what the probe wants.
func (r *Result) OK() bool { return r.Got.String() == r.Probe.Want.String() }

// What names the probe for people.
func (r *Result) What() string {
	return fmt.Sprintf("%s %s: %s -> %s %s", r.Family, r.Protocol, r.Probe.From, r.Probe.To.Name, r.Probe.To.AddrPort)
}

// Observe makes the connections of a step, all probes at once, each by each of its protocols. The results are in the
// order of the probes.
func (n *Network) Observe(step *Step) []*Result {
	var results []*Result
	for i := range step.Probes {
		p := &step.Probes[i]
		protocols := p.Protocols
		if protocols == nil {
			protocols = AllProtocols
		}
		if p.Health {
			protocols = []string{"http"}
		}
		for _, protocol := range protocols {
			results = append(results, &Result{Family: family(p.To.Addr()), Protocol: protocol, Probe: p})
		}
	}
	limit := time.Now()
	if step.Eventually {
		limit = limit.Add(inTime)
	}
	var all sync.WaitGroup
	for _, r := range results {
		all.Go(func() {
			for {
				r.Got = n.observe(r, step.Eventually)
				if r.OK() || time.Now().After(limit) {
					return
				}
				time.Sleep(50 * time.Millisecond) // between polls
			}
		})
	}
	all.Wait()
	return results
}

func family(a netip.Addr) Family {
	if a.Is4() {
		return 4
	}
	return 6
}

func (n *Network) observe(r *Result, again bool) Outcome {
	p := r.Probe
	if p.Health {
		return n.askHealth(p)
	}
	tries := p.Tries
	if tries == 0 {
		tries = minTries
	}
	wait := patience
	switch {
	case p.Want.fate == nstest.Dropped:
		wait = impatience
	case again:
		wait = polled
	}
	targets := append([]Target{p.To}, p.Also...)
	got := Outcome{seen: map[string]Source{}}
	time.Sleep(p.After) // the pauses are what is tested
	for i := 0; i < tries || i < maxTries && !p.Want.sticky && p.Want.fate == "" && len(got.seen) < len(p.Want.seen); i++ {
		if i > 0 && p.Every > 0 {
			time.Sleep(p.Every)
		}
		answer, source, err := n.ask(p.From, i, r.Protocol, targets[i%len(targets)].AddrPort, wait)
		switch {
		case err != nil:
			return Outcome{fate: "error: " + err.Error()}
		case !answer.Saw.IsValid() && len(got.seen) > 0:
			return Outcome{fate: fmt.Sprintf("%v, then %s", got, answer.Server)}
		case !answer.Saw.IsValid():
			return Outcome{fate: answer.Server} // one is enough
		}
		if before, ok := got.seen[answer.Server]; ok && before != source {
			return Outcome{fate: fmt.Sprintf("%s saw %s and %s", answer.Server, before, source)}
		}
		got.seen[answer.Server] = source
	}
	return got.stuck(p.Want)
}

// stuck turns one endpoint that answered all connections into what a sticky outcome wants, if it is one of those.
func (o Outcome) stuck(want Outcome) Outcome {
	if !want.sticky || len(o.seen) != 1 {
		return o
	}
	for name, source := range o.seen {
		if want.seen[name] != source {
			return o
		}
	}
	return want
}

// ask makes one connection from a port that is new; members of a crowd are numbered.
func (n *Network) ask(who Client, number int, protocol string, to netip.AddrPort, wait time.Duration) (nstest.Answer, Source, error) {
	from := n.clients[who]
	f := family(to.Addr())
	for {
		source := from.source(f, number)
		a, err := from.ns.AskFrom(protocol, source, to, wait)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil || !a.Saw.IsValid() {
			return a, "", err
		}
		return a, n.source(from, f, source, a.Server, a.Saw), nil
	}
}

// askHealth asks for a health check, and for the headers that go with it.
func (n *Network) askHealth(p *Probe) Outcome {
	refuse := func(err error) Outcome { return Outcome{fate: "error: " + err.Error()} }
	c, err := n.clients[p.From].ns.Dial("tcp", p.To.AddrPort, patience)
	if errors.Is(err, unix.ECONNREFUSED) {
		return Rejected
	}
	if err != nil {
		return refuse(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}}
	response, err := client.Get("http://" + p.To.String() + "/")
	if err != nil {
		return refuse(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return refuse(err)
	}
	var body struct {
		Service             struct{ Namespace, Name string } `json:"service"`
		LocalEndpoints      int                              `json:"localEndpoints"`
		ServiceProxyHealthy bool                             `json:"serviceProxyHealthy"`
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return refuse(err)
	}
	for header, want := range map[string]string{
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
		"X-Load-Balancing-Endpoint-Weight": fmt.Sprint(body.LocalEndpoints),
	} {
		if got := response.Header.Get(header); got != want {
			return Outcome{fate: fmt.Sprintf("header %s is %q, not %q", header, got, want)}
		}
	}
	if body.Service.Namespace != namespaceName || body.Service.Name == "" {
		return Outcome{fate: fmt.Sprintf("the check of Service %s/%s", body.Service.Namespace, body.Service.Name)}
	}
	return health(response.StatusCode, body.LocalEndpoints, body.ServiceProxyHealthy)
}
