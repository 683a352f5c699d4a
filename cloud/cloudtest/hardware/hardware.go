// Package hardware is what emulators of clouds and what forwards for them know of each other: balancers, resolved and
// complete, in one direction, and the health of targets in the other. So one forwarder serves every emulator.
//
// It forwards nothing itself (cmd/playground/balancer does), and says nothing about how a cloud is called.
package hardware

import (
	"context"
	"net/netip"
	"slices"
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

// Cloud is an emulator whose balancers are forwarded. No two clouds of one hardware give the same address.
type Cloud interface {
	// SetHardware gives the cloud its hardware. To be called before anything else.
	SetHardware(hardware Hardware)
	// OnChange has the cloud call f after each change that Balancers might show.
	OnChange(f func())
	// Balancers returns all that there are, sorted by id, without those that do not serve.
	Balancers() []Balancer
	// NextTransition is how long it takes at least until Balancers changes with time alone.
	NextTransition() time.Duration
}

// Run hands the balancers of clouds to their hardware, first as they are and then on every change, until the context ends.
// An error of the hardware is reported and the same balancers are tried again after a second.
func Run(ctx context.Context, hardware Hardware, report func(error), clouds ...Cloud) {
	changed := make(chan struct{}, 1)
	for _, c := range clouds {
		c.OnChange(func() {
			select {
			case changed <- struct{}{}:
			default: // somebody has told already
			}
		})
	}
	for {
		var all []Balancer
		next := time.Hour
		for _, c := range clouds {
			next = min(next, c.NextTransition()) // first: what changes while Balancers is read is shown, or still to come
			all = append(all, c.Balancers()...)
		}
		if err := hardware.Program(ctx, all); err != nil {
			report(err)
			next = min(next, time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(next):
		}
	}
}

// Of leaves of what a hardware found out what is about some balancers: it may serve those of other clouds, too.
func Of(balancers []Balancer, all []TargetHealth) []TargetHealth {
	return slices.DeleteFunc(slices.Clone(all), func(h TargetHealth) bool {
		return !slices.ContainsFunc(balancers, func(b Balancer) bool {
			return slices.ContainsFunc(b.Listeners, func(l Listener) bool { return l.Address == h.Listener && l.Protocol == h.Protocol })
		})
	})
}
