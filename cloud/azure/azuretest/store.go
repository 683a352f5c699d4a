package azuretest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// The functions of this file are called with c.mu held. Nothing happens by itself: what time has brought about is caught up
// with when somebody asks.

// thing is one resource. It is replaced, never changed.
type thing struct {
	kind  *kind
	path  path
	body  any
	etag  string
	state armnetwork.ProvisioningState
	// until when it is Updating or Deleting, and what Updating ends with; nil: well.
	until     time.Time
	failure   *Refusal
	operation string
	// shown are the pools that interfaces of it are shown to be in, before what was written last has come about; nil: see pools.
	shown map[string][]string
	// unversioned: it is shown without its ETag.
	unversioned bool
	text        json.RawMessage // as it is answered; nil: not yet
}

// answered is what a GET of the thing answers.
func (t *thing) answered() json.RawMessage {
	if t.text == nil {
		text, err := json.Marshal(t.kind.stamp(t))
		if err != nil {
			panic(fmt.Sprintf("azuretest: %T cannot be written as JSON: %v", t.body, err))
		}
		t.text = text
	}
	return t.text
}

// kind is a type of resources.
type kind struct {
	name    string
	compute bool // of Microsoft.Compute, rather than of Microsoft.Network
	// read makes a body of a request.
	read func(text []byte) (any, *Refusal)
	// accept checks a new body, fills in what the service does, and takes over from the one before, if any.
	accept func(c *Cloud, t, before *thing) *Refusal
	// stamp writes etag and state into a copy of the body.
	stamp func(t *thing) any
	// free says why it cannot be deleted; nil: it can.
	free func(c *Cloud, t *thing) *Refusal
	// child accepts a PUT of a child, of which it returns the parent's new body.
	child func(t *thing, p path, text []byte) (any, *Refusal)
	// inner returns a child as it is to be answered; nil: there is none.
	inner func(t *thing, p path) any
}

type operation struct {
	id      string // of the resource
	failure *Refusal
	done    bool
}

func key(id string) string { return strings.ToLower(id) }

// set puts a thing in its place, or with nil takes it away.
func (c *Cloud) set(id string, t *thing, at time.Time) {
	c.past.Note(at, key(id), c.things[key(id)])
	delete(c.working, key(id))
	if t != nil && !t.until.IsZero() {
		c.working[key(id)] = true
	}
	before := c.things[key(id)]
	if t == nil {
		delete(c.things, key(id))
	} else {
		c.things[key(id)] = t
	}
	c.showMembers(before, t, at)
}

// seen is what reads show.
func (c *Cloud) seen() map[string]*thing { return c.past.Seen(time.Now(), c.things) }

// settle ends what is over by now.
func (c *Cloud) settle() {
	now := time.Now()
	for _, id := range slices.Sorted(maps.Keys(c.working)) {
		t := c.things[id]
		if t.until.After(now) {
			continue
		}
		if o := c.operations[t.operation]; o != nil {
			o.done = true
		}
		if t.state == armnetwork.ProvisioningStateDeleting && t.failure == nil {
			c.set(id, nil, t.until)
			continue
		}
		next := *t
		next.text = nil
		next.until, next.failure, next.state = time.Time{}, nil, armnetwork.ProvisioningStateSucceeded
		if next.shown = nil; t.failure != nil {
			next.shown = t.shown
			next.state = armnetwork.ProvisioningStateFailed
		}
		next.etag = c.newETag()
		c.set(id, &next, t.until)
	}
}

func (c *Cloud) newETag() string {
	c.version++
	return fmt.Sprintf(`W/"00000000-0000-0000-0000-%012d"`, c.version)
}

func (c *Cloud) serve(p path, request *http.Request) (*answer, *Refusal) {
	if p.kind == setInterfaces && request.Method == http.MethodGet {
		return c.setInterfaces(p), nil
	}
	if p.kind == networks && p.child == subnets && request.Method == http.MethodGet {
		return subnet(p)
	}
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.name == p.kind && k.compute == p.compute })
	if i < 0 {
		return nil, refuse(http.StatusNotFound, "InvalidResourceType", "the resource type '%s' could not be found", p.kind)
	}
	k := kinds[i]
	switch {
	case request.Method == http.MethodGet && p.name == "":
		return c.list(k, p.group), nil
	case request.Method == http.MethodGet:
		return c.get(p)
	case request.Method == http.MethodPut && p.name != "":
		return c.put(k, p, request)
	case request.Method == http.MethodDelete && p.name != "" && p.child == "":
		return c.remove(p, request)
	}
	return nil, refuse(http.StatusMethodNotAllowed, "HttpMethodNotSupported", "the method %s is not supported for %s", request.Method, p.typ())
}

// list is what there is of a kind in a resource group.
func (c *Cloud) list(k *kind, group string) *answer {
	things := c.seen()
	text := json.RawMessage(`{"value":[`)
	first := true
	for _, id := range slices.Sorted(maps.Keys(things)) {
		if t := things[id]; t.kind == k && strings.EqualFold(t.path.group, group) {
			if !first {
				text = append(text, ',')
			}
			text, first = append(text, t.answered()...), false
		}
	}
	return &answer{status: http.StatusOK, body: append(text, "]}"...)}
}

func notFound(p path) *Refusal {
	return refuse(http.StatusNotFound, "ResourceNotFound", "the resource '%s' under resource group '%s' was not found", p.id(), p.group)
}

func (c *Cloud) get(p path) (*answer, *Refusal) {
	t := c.seen()[key(p.id())]
	if t == nil {
		return nil, notFound(p)
	}
	if p.child == "" {
		return &answer{status: http.StatusOK, body: t.answered()}, nil
	}
	if t.kind.inner != nil {
		if child := t.kind.inner(t, p); child != nil {
			return &answer{status: http.StatusOK, body: child}, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "NotFound", "%s/%s of %s was not found", p.child, p.childName, p.name)
}

// precondition holds If-Match and If-None-Match against what is.
func precondition(request *http.Request, t *thing) *Refusal {
	failed := refuse(http.StatusPreconditionFailed, "PreconditionFailed", "the precondition given in the request headers evaluated to false")
	if match := request.Header.Get("If-Match"); match != "" && (t == nil || match != "*" && match != t.etag) {
		return failed
	}
	if none := request.Header.Get("If-None-Match"); none != "" && t != nil && (none == "*" || none == t.etag) {
		return failed
	}
	return nil
}

// busy refuses what comes while the one before is still going on.
func busy(t *thing) *Refusal {
	if t == nil || t.until.IsZero() {
		return nil
	}
	return refuse(http.StatusConflict, "AnotherOperationInProgress", "another operation on this or dependent resource is in progress, the status of which can be had from %s", operationPath+t.operation)
}

func (c *Cloud) put(k *kind, p path, request *http.Request) (*answer, *Refusal) {
	text, err := io.ReadAll(http.MaxBytesReader(nil, request.Body, 4<<20))
	if err != nil {
		return nil, bad("InvalidRequestContent", "the request cannot be read: %v", err)
	}
	before := c.things[key(p.id())]
	if r := precondition(request, before); r != nil {
		return nil, r
	}
	if r := busy(before); r != nil {
		return nil, r
	}
	next := &thing{kind: k, path: p}
	next.path.child, next.path.childName = "", ""
	var r *Refusal
	switch {
	case p.child == "":
		next.body, r = k.read(text)
	case before == nil:
		return nil, notFound(p)
	case k.child == nil:
		return nil, refuse(http.StatusNotFound, "InvalidResourceType", "the resource type '%s' could not be found", p.typ())
	default:
		next.body, r = k.child(before, p, text)
	}
	if r != nil {
		return nil, r
	}
	if r := k.accept(c, next, before); r != nil {
		return nil, r
	}
	next.state, next.etag = armnetwork.ProvisioningStateSucceeded, c.newETag()
	if c.begin(next, armnetwork.ProvisioningStateUpdating, Call{Method: request.Method, Type: p.typ()}); !next.until.IsZero() {
		next.shown = before.members()
	}
	c.set(p.id(), next, time.Now())
	a := &answer{status: http.StatusOK, operation: next.operation}
	if before == nil {
		a.status = http.StatusCreated
	}
	a.body = next.answered()
	if p.child != "" {
		a.body = k.inner(next, p)
	}
	return a, nil
}

// begin starts what takes time, or fails late.
func (c *Cloud) begin(t *thing, state armnetwork.ProvisioningState, call Call) {
	late := c.faults.Strike(call.Method, call.Type, faults.Late)
	if c.options.Slow == 0 && late == nil {
		return
	}
	t.state, t.until = state, time.Now().Add(max(c.options.Slow, time.Millisecond))
	o := &operation{id: t.path.id()}
	if late != nil {
		o.failure, t.failure = late.Err, late.Err
	}
	t.operation = fmt.Sprintf("00000000-0000-0000-0001-%012d", len(c.operations)+1)
	c.operations[t.operation] = o
}

func (c *Cloud) remove(p path, request *http.Request) (*answer, *Refusal) {
	t := c.things[key(p.id())]
	if t == nil {
		return &answer{status: http.StatusNoContent}, nil
	}
	if r := precondition(request, t); r != nil {
		return nil, r
	}
	if r := busy(t); r != nil {
		return nil, r
	}
	if r := t.kind.free(c, t); r != nil {
		return nil, r
	}
	next := *t
	next.text = nil
	c.begin(&next, armnetwork.ProvisioningStateDeleting, Call{Method: request.Method, Type: p.typ()})
	if next.until.IsZero() {
		c.set(p.id(), nil, time.Now())
		return &answer{status: http.StatusOK}, nil
	}
	next.etag = c.newETag()
	c.set(p.id(), &next, time.Now())
	return &answer{status: http.StatusAccepted, operation: next.operation}, nil
}

func (c *Cloud) poll(id string) (*answer, *Refusal) {
	if r := c.permit("Microsoft.Network/locations/operations/read", "AuthorizationFailed"); r != nil {
		return nil, r
	}
	o := c.operations[id]
	switch {
	case o == nil:
		return nil, refuse(http.StatusNotFound, "NotFound", "the operation %s was not found", id)
	case !o.done:
		return &answer{status: http.StatusOK, body: map[string]any{"status": "InProgress"}}, nil
	case o.failure != nil:
		return &answer{status: http.StatusOK, body: map[string]any{"status": "Failed",
			"error": map[string]any{"code": o.failure.Code, "message": o.failure.Message}}}, nil
	}
	return &answer{status: http.StatusOK, body: map[string]any{"status": "Succeeded"}}, nil
}

func (c *Cloud) throttle(write bool) *Refusal {
	wait := c.allowance.Take(time.Now(), write)
	if wait == 0 {
		return nil
	}
	r := refuse(http.StatusTooManyRequests, "TooManyRequests", "the subscription may not send so many requests a second")
	if !c.options.NoRetryAfter {
		r.RetryAfter = faults.Seconds(wait)
	}
	return r
}
