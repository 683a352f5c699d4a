package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// account is the fake cloud behind HTTP, and counts what is called.
type account struct {
	*fake.Cloud
	server *http.Server

	mu sync.Mutex
	calls
}

// calls are those since begin.
type calls struct {
	reads, writes int
	// refused are those that the cloud did not do.
	refused int
	// last is when one was last done, lastWrite when one was that changed something.
	last, lastWrite time.Time
}

// serve makes an empty cloud that listens on a socket.
func serve(socket string) (*account, error) {
	a := &account{}
	a.Cloud = fake.New(fake.Options{
		Pools: []fake.Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.18.0.0/15")}},
		Hook:  a.called,
	})
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("serving the cloud: %w", err)
	}
	a.server = &http.Server{Addr: socket, Handler: fake.Handler(a.Cloud), ReadHeaderTimeout: time.Minute}
	go func() { _ = a.server.Serve(listener) }() // ends with close
	return a, nil
}

func (a *account) close() { _ = a.server.Close() }

func (a *account) called(call fake.Call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if call.After {
		a.refused--
		a.last = time.Now()
		if call.Write() {
			a.lastWrite = a.last
		}
		return nil
	}
	a.refused++ // until it is done
	if call.Write() {
		a.writes++
	} else {
		a.reads++
	}
	return nil
}

// begin counts anew.
func (a *account) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = calls{}
}

func (a *account) so() calls {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// allow has the cloud refuse what is beyond the limits, with some more at once than a peer is told: its calls take longer or
// shorter on their way.
func (a *account) allow(limits cloud.Limits) {
	const slack = 10
	limits.Reads.Burst += slack
	limits.Writes.Burst += slack
	a.SetLimits(limits)
}

// reached is an error while there are fewer than so many sets of targets, or one does not hold the address.
func (a *account) reached(sets int, address string) error {
	found := 0
	for _, o := range a.Objects() {
		if o.Kind == fake.KindTargetSet && slices.Contains(o.Targets, address) {
			found++
		}
	}
	if found < sets {
		return fmt.Errorf("%d of %d sets have %s", found, sets, address)
	}
	return nil
}

func (a *account) empty() error {
	if left := len(a.Objects()); left > 0 {
		return fmt.Errorf("%d objects are left in the cloud", left)
	}
	return nil
}

var errNoCall = errors.New("nothing was called yet")

// idle is an error until something was called and then, for a while, nothing more.
func (a *account) idle(quiet time.Duration) error {
	switch so := a.so(); {
	case so.last.IsZero():
		return errNoCall
	case time.Since(so.last) < quiet:
		return fmt.Errorf("it goes on calling: %d reads and %d writes so far", so.reads, so.writes)
	}
	return nil
}
