// Package gcptest is a part of the Compute Engine API, version 1, as an HTTP handler: what passthrough network load balancers
// consist of, with the checks, the limits and the errors of the real service, as far as they are documented. Bodies are those
// of the service's own schema, by the types of its SDK: a field that it does not have is refused. What the emulator does not
// know is answered with the service's own errors, never with success. It forwards no packets and checks no health.
//
// Every change is an operation. With Options.Slow an operation takes its time: for the first half what it makes is not to be
// seen, then it is seen and not ready, and in the end it may fail. Time passes by calls: there is no goroutine, so that the
// emulator works in a bubble of testing/synctest.
package gcptest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// Project, Region and Network of every cloud. The subnetwork is called as the network is.
const (
	Project = "fairlead-test"
	Region  = "test-west1"
	Network = "default"
)

// BasePath of the API.
const BasePath = "/compute/v1/"

// Options of a cloud.
type Options struct {
	// Slow is how long operations take; 0: they have ended when they are answered.
	Slow time.Duration
	// ReadLag is how far lists are behind: they show things as they were so long ago. What is asked for by itself is shown as it
	// is, as operations are, and writes know everything.
	ReadLag time.Duration
	// Quotas by metric, such as FORWARDING_RULES; what is not listed has none.
	Quotas map[string]int
	// Limits of calls, of those that read and those that change. What exceeds them is refused.
	Limits cloud.Limits
	// RetryAfter is sent with such a refusal; 0: not, as the service mostly does.
	RetryAfter time.Duration
}

// Cloud is one project.
type Cloud struct {
	options Options
	hook    faults.Hook[cloudtest.Call]

	mu         sync.Mutex
	objects    map[string]*object // by path below the project
	past       faults.Past[object]
	operations []*operation
	unfinished []*operation
	instances  map[string]bool // zone/name of each machine
	serial     uint64
	faults     faults.Script[*Refusal]
	denied     map[string]bool
	// unreachable are scopes, such as zones/Z: lists over all lack what is there, and say so.
	unreachable map[string]bool
	permitted   map[string]bool
	allowance   faults.Allowance
}

// New makes an empty cloud, with the network and machines n1 to n80 in the zones a and b of the region in turn.
func New(options Options) *Cloud {
	c := &Cloud{options: options, objects: map[string]*object{}, denied: map[string]bool{}, unreachable: map[string]bool{}, permitted: map[string]bool{}, instances: map[string]bool{},
		past: faults.NewPast[object](options.ReadLag), allowance: faults.NewAllowance(options.Limits)}
	c.give("global/networks/"+Network, map[string]any{})
	c.give("regions/"+Region+"/subnetworks/"+Network, map[string]any{})
	for i := range 80 {
		c.AddInstance(Zone(i), InstanceName(i))
	}
	return c
}

// Fault makes a coming call that changes something fail. Method is that of the API, such as compute.forwardingRules.insert. Late,
// the call is accepted, and its operation fails in the end with the reason as its code.
type Fault = faults.Fault[*Refusal]

// Inject adds faults.
func (c *Cloud) Inject(script ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.Add(script...)
}

// Deny takes permissions away, such as compute.forwardingRules.create.
func (c *Cloud) Deny(permissions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range permissions {
		c.denied[p] = true
	}
}

// Unreachable has nobody reach what is in the scopes, such as zones/Z, regions/R or global, of this region or of others, and in no others: lists over all zones
// and regions lack it, with a warning, and calls there fail.
func (c *Cloud) Unreachable(scopes ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.unreachable)
	for _, scope := range scopes {
		c.unreachable[scope] = true
	}
}

// Permit gives all permissions back.
func (c *Cloud) Permit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.denied)
}

// Permissions are those that calls up to now needed, sorted.
func (c *Cloud) Permissions() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for p := range c.permitted {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// SetHook has the cloud call hook before and after each call. Its error is returned to the client in place of an answer: a
// *Refusal as the service would. Nil takes it away.
func (c *Cloud) SetHook(hook func(cloudtest.Call) error) { c.hook.Set(hook) }

// Client reaches the cloud without a socket, with the hook around each call.
func (c *Cloud) Client() *http.Client { return &http.Client{Transport: transport{c}} }

type transport struct{ c *Cloud }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	call := cloudtest.Call{Name: request.Method + " " + request.URL.Path, Write: writes(request)}
	struck := func() (*http.Response, error) {
		err := t.c.hook.Tell(call)
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			recorder := httptest.NewRecorder()
			refusal.send(recorder)
			return recorder.Result(), nil
		}
		return nil, err
	}
	if response, err := struck(); response != nil || err != nil {
		return response, err
	}
	recorder := httptest.NewRecorder()
	t.c.ServeHTTP(recorder, request)
	call.After = true
	if response, err := struck(); response != nil || err != nil {
		return response, err
	}
	return recorder.Result(), nil
}
