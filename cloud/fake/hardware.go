package fake

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Balancer is a balancer as its hardware sees it: resolved, complete, sorted.
type Balancer struct {
	ID        string
	Name      string
	Listeners []Listener
}

// Listener is one address and port that clients connect to.
type Listener struct {
	ID       string
	Protocol string // TCP or UDP
	Address  netip.AddrPort
	// SourceRanges that may connect; empty means everyone. Not empty and without a range of a family: nobody of it.
	SourceRanges []netip.Prefix
	// Affinity is how long a client stays on one target; 0 means not at all.
	Affinity time.Duration
	// Targets that connections are spread over: those that are healthy, or all of them where none is, as AWS and GCP do
	// it.
	Targets     []netip.AddrPort
	HealthCheck HealthCheck
}

// HealthCheck is how a target's health is found out. Its address is the target's, and where its port is 0, so is that.
type HealthCheck struct {
	Protocol string // TCP or HTTP
	Port     uint16
	Path     string
	Interval time.Duration
	// Threshold is how many answers in a row change the verdict.
	Threshold int
}

// TargetHealth is what a health check found.
type TargetHealth struct {
	Balancer string         `json:"balancer"`
	Listener netip.AddrPort `json:"listener"`
	Protocol string         `json:"protocol"`
	Target   netip.AddrPort `json:"target"`
	Healthy  bool           `json:"healthy"`
	// Failed: the target did not answer. One that is neither was not asked yet.
	Failed bool `json:"failed,omitempty"`
}

// Hardware forwards. Program gets all balancers on every change, never two calls at once, and replaces whatever it got
// before; after an error it is called again. Health may be called at any time.
type Hardware interface {
	Program(ctx context.Context, balancers []Balancer) error
	Health() []TargetHealth
}

// SetHardware gives the cloud its hardware. To be called before anything else.
func (c *Cloud) SetHardware(hardware Hardware) { c.hardware = hardware }

// Health implements API.
func (c *Cloud) Health(context.Context) ([]TargetHealth, error) {
	if c.hardware == nil {
		return nil, nil
	}
	return c.hardware.Health(), nil
}

// Run hands the balancers to the hardware, first as they are and then on every change, until the context ends. An error
// of the hardware is reported and the same balancers are tried again after a second.
func (c *Cloud) Run(ctx context.Context, report func(error)) {
	c.mu.Lock()
	c.notify()
	c.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-time.After(c.nextTransition()):
		}
		if err := c.hardware.Program(ctx, c.Balancers()); err != nil {
			report(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			c.mu.Lock()
			c.notify()
			c.mu.Unlock()
		}
	}
}

// Balancers returns all balancers as their hardware sees them, sorted by id, without those that are being deleted.
func (c *Cloud) Balancers() []Balancer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var result []Balancer
	for _, o := range c.objects {
		if o.Kind != KindBalancer || o.State == StateDeleting || o.State == StateFailed {
			continue
		}
		b := Balancer{ID: o.ID, Name: o.Name}
		for _, l := range c.objects {
			if l.Kind == KindListener && l.State == StateReady && slices.Contains(l.Refs, o.ID) {
				if listener, ok := c.listener(o, l); ok {
					b.Listeners = append(b.Listeners, listener)
				}
			}
		}
		slices.SortFunc(b.Listeners, func(x, y Listener) int {
			return cmp.Or(cmp.Compare(x.Protocol, y.Protocol), x.Address.Compare(y.Address))
		})
		result = append(result, b)
	}
	slices.SortFunc(result, func(x, y Balancer) int { return cmp.Compare(x.ID, y.ID) })
	return result
}

func (c *Cloud) listener(balancer, l *Object) (Listener, bool) {
	address, err := netip.ParseAddr(c.addressOf(balancer, l.Fields["family"]))
	set := c.ofKind(l.Refs, KindTargetSet)
	if err != nil || set == nil {
		return Listener{}, false
	}
	result := Listener{ID: l.ID, Protocol: l.Fields["protocol"],
		Address:  netip.AddrPortFrom(address, uint16(number(l.Fields["port"]))),
		Affinity: time.Duration(number(l.Fields["affinitySeconds"])) * time.Second}
	if ranges := l.Fields["sourceRanges"]; ranges != "" {
		for text := range strings.SplitSeq(ranges, ",") {
			result.SourceRanges = append(result.SourceRanges, netip.MustParsePrefix(text))
		}
	}
	for _, t := range set.Targets {
		result.Targets = append(result.Targets, place(set, t))
	}
	if check := c.ofKind(set.Refs, KindHealthCheck); check != nil {
		result.HealthCheck = HealthCheck{Protocol: check.Fields["protocol"], Port: uint16(number(check.Fields["port"])),
			Path: check.Fields["path"], Interval: time.Duration(number(check.Fields["intervalSeconds"])) * time.Second,
			Threshold: number(check.Fields["threshold"])}
	}
	return result, true
}

// number reads a field that was checked when it was written.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
