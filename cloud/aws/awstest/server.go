package awstest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// Versions of the two APIs, by which a request tells for which it is.
const (
	versionBalancing = "2015-12-01"
	versionCompute   = "2016-11-15"
)

// Options of a Server. The zero value is an account with the usual quotas that answers at once.
type Options struct {
	// VPC that everything is in, and its Subnets; empty: a VPC with three public subnets and three private ones.
	VPC     string
	Subnets []Subnet
	// Machines that run, and SecurityGroups that are there from the beginning. With no machines every instance's id can be a
	// target.
	Machines       []Machine
	SecurityGroups []SecurityGroup
	// PrefixLists that there are, by id; nil: every one.
	PrefixLists []string
	// Slow is for how long a new balancer is provisioning.
	Slow time.Duration
	// Linger is for how long a target group, or a security group, is still in use after what used it is gone.
	Linger time.Duration
	// Reserving is for how long a reservation of capacity is pending.
	Reserving time.Duration
	// ReadLag is how far answers of Describe… are behind.
	ReadLag time.Duration
	// Limits of the account: requests beyond them are throttled.
	Limits cloud.Limits
	// Quotas; a member that is 0 is the usual one.
	Quotas Quotas
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Public is what internet-facing balancers have addresses of, without which no balancer has any to be forwarded, and
	// Inside from where internal ones are reached. Elastic are the account's elastic addresses by allocation; nil: some.
	Public  netip.Prefix
	Inside  []netip.Prefix
	Elastic map[string]string
	// Pace is how many times as often as it is told the hardware asks targets for their health; 0: once.
	Pace int
}

// Quotas of the account.
type Quotas struct {
	Balancers, TargetGroups int
	// Listeners and Targets of one balancer, of these ZoneTargets in one zone, as far as it is known where they are, and
	// SecurityGroups.
	Listeners, Targets, ZoneTargets, SecurityGroups int
	// Groups of the VPC, and Rules of one of these.
	Groups, Rules int
	// Certificates of one listener beside its default, and units of capacity that are reserved.
	Certificates, CapacityUnits int
}

// Call is one request.
type Call struct {
	// Action as policies name it, such as "elasticloadbalancing:CreateListener".
	Action string
	// After: it is done, and its answer is on the way.
	After bool
}

// Write reports whether the call changes something.
func (c Call) Write() bool {
	_, name, _ := strings.Cut(c.Action, ":")
	return !strings.HasPrefix(name, "Describe")
}

// Server is the account. For several goroutines.
type Server struct {
	options Options

	hook faults.Hook[Call]

	mu        sync.Mutex
	state     state
	past      []past // the latest last, as far back as ReadLag
	nextID    int
	denied    map[string]bool
	seen      map[string]bool
	linked    bool // the account has the role of ELB, which the first balancer makes
	faults    faults.Script[*Refusal]
	allowance faults.Allowance
	unhappy   map[string]bool // targets that answer no health check
	// hardware forwards, and changed is told of changes; nil: nobody does.
	hardware hardware.Hardware
	changed  func()
}

// New makes an account with nothing in it but its network.
func New(options Options) *Server {
	usual := Quotas{Balancers: 50, TargetGroups: 3000, Listeners: 50, Targets: 3000, ZoneTargets: 500, SecurityGroups: 5, Groups: 2500, Rules: 60,
		Certificates: 25, CapacityUnits: 45000}
	q := &options.Quotas
	for _, pair := range [][2]*int{{&q.Balancers, &usual.Balancers}, {&q.TargetGroups, &usual.TargetGroups},
		{&q.Listeners, &usual.Listeners}, {&q.Targets, &usual.Targets}, {&q.ZoneTargets, &usual.ZoneTargets},
		{&q.SecurityGroups, &usual.SecurityGroups}, {&q.Groups, &usual.Groups}, {&q.Rules, &usual.Rules},
		{&q.Certificates, &usual.Certificates}, {&q.CapacityUnits, &usual.CapacityUnits}} {
		if *pair[0] == 0 {
			*pair[0] = *pair[1]
		}
	}
	if options.VPC == "" {
		options.VPC, options.Subnets = "vpc-0a1b2c3d", defaultSubnets
	}
	options.Subnets = slices.Clone(options.Subnets) // their tags change
	if options.Elastic == nil {
		options.Elastic = elasticAddresses
	}
	s := &Server{options: options, state: newState(), denied: map[string]bool{}, seen: map[string]bool{},
		allowance: faults.NewAllowance(options.Limits), unhappy: map[string]bool{}}
	for _, g := range options.SecurityGroups {
		s.addSecurityGroup(g)
	}
	return s
}

// SetSubnets exchanges the network's subnets.
func (s *Server) SetSubnets(subnets ...Subnet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Subnets = slices.Clone(subnets)
}

// SetHook has hook called before and after each request. Its error, before the request is done or after it, is answered
// instead: a *Refusal as such, another one by breaking the connection. Nil takes it away.
func (s *Server) SetHook(hook func(Call) error) { s.hook.Set(hook) }

// Deny has the account's policies deny actions from now on.
func (s *Server) Deny(actions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, action := range actions {
		s.denied[action] = true
	}
}

// Actions returns the actions that were needed so far, sorted, those included that a request needs beside its own.
func (s *Server) Actions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for action := range s.seen {
		all = append(all, action)
	}
	slices.Sort(all)
	return all
}

// Transport calls the server without a socket. An error of the hook that is no *Refusal is the transport's own.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ server *Server }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	if request.Body != nil {
		defer request.Body.Close()
	}
	recorder := httptest.NewRecorder()
	if err := t.server.serve(recorder, request); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

// ServeHTTP implements http.Handler, for clients over a socket.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.serve(w, r); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// serve answers one request. An error means that the answer is lost.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	name, version := r.PostForm.Get("Action"), r.PostForm.Get("Version")
	service, d := services[version], &balancing
	if version == versionCompute {
		d = &compute
	}
	if service.prefix == "" {
		return answer(w, version, name, nil, refuse("InvalidAction", "there is no API of version %q here", version))
	}
	op, known := service.operations[name]
	call := Call{Action: service.prefix + ":" + name}
	if err := s.hook.Tell(call); err != nil {
		return s.broken(w, version, name, err)
	}
	var body []byte
	var err error
	if !known {
		err = refuse("InvalidAction", "The action %s is not valid for this web service", name)
	} else {
		body, err = s.do(call, op, d, r)
	}
	if err == nil {
		call.After = true
		if lost := s.hook.Tell(call); lost != nil {
			return s.broken(w, version, name, lost)
		}
	}
	return answer(w, version, name, body, err)
}

// broken answers an error of the hook.
func (s *Server) broken(w http.ResponseWriter, version, name string, err error) error {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return answer(w, version, name, nil, refusal)
	}
	return err
}

func (s *Server) do(call Call, op operation, d *dialect, r *http.Request) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowance.Take(s.now(), call.Write()) > 0 {
		return nil, Throttled()
	}
	input := reflect.New(op.input)
	if err := d.decode(r.PostForm, input.Interface()); err != nil {
		return nil, refuse("ValidationError", "%v", err)
	}
	if err := op.check(d, input.Elem()); err != nil {
		return nil, err
	}
	if err := s.permit(call.Action, input.Elem()); err != nil {
		return nil, err
	}
	if f := s.faults.Strike(call.Action, "", faults.Before); f != nil {
		return nil, f.Err
	}
	before := s.state
	if call.Write() {
		s.state = s.state.clone()
	}
	output, err := op.do(s, input.Interface())
	if err != nil {
		s.state = before
		return nil, err
	}
	if call.Write() && s.changed != nil {
		s.changed()
	}
	if call.Write() && s.options.ReadLag > 0 {
		s.past = append(s.past, past{s.now(), before})
	}
	if f := s.faults.Strike(call.Action, "", faults.After); f != nil {
		return nil, f.Err
	}
	return d.encode(output), nil
}

// permit refuses what policies deny. Who makes something with tags needs the right to tag.
func (s *Server) permit(action string, input reflect.Value) error {
	needed := []string{action}
	prefix, name, _ := strings.Cut(action, ":")
	if strings.HasPrefix(name, "Create") && name != "CreateTags" {
		for member, tagging := range map[string]string{"Tags": "AddTags", "TagSpecifications": "CreateTags"} {
			if f := input.FieldByName(member); f.IsValid() && f.Len() > 0 {
				needed = append(needed, prefix+":"+tagging)
			}
		}
	}
	first := name == "CreateLoadBalancer" && !s.linked
	if needed = append(needed, dependent[action]...); first {
		needed = append(needed, linkedRole)
	}
	for i, action := range needed {
		s.seen[action] = true
		if !s.denied[action] {
			continue
		}
		if prefix == "ec2" && i == 0 {
			return &Refusal{Code: "UnauthorizedOperation", Status: http.StatusForbidden,
				Message: "You are not authorized to perform this operation. Encoded authorization failure message: c2VjcmV0"}
		}
		return &Refusal{Code: "AccessDenied", Status: http.StatusForbidden,
			Message: "User: arn:aws:iam::123456789012:user/fairlead is not authorized to perform: " + action +
				" because no identity-based policy allows the " + action + " action"}
	}
	s.linked = s.linked || first
	return nil
}

func (s *Server) now() time.Time {
	if s.options.Now != nil {
		return s.options.Now()
	}
	return time.Now()
}

// Refusal is an error of the service.
type Refusal struct {
	Code, Message string
	// Status of HTTP; 0: 400.
	Status int
}

// Error returns code and message.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Throttled is what the service answers to too many requests. It never says for how long.
func Throttled() *Refusal { return refuse("Throttling", "Rate exceeded") }

const requestID = "5b6f7c1e-0000-4000-8000-000000000000"

func answer(w http.ResponseWriter, version, name string, body []byte, err error) error {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", requestID)
	if err == nil {
		format := "<%[1]sResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><%[1]sResult>%[2]s</%[1]sResult>" +
			"<ResponseMetadata><RequestId>%[3]s</RequestId></ResponseMetadata></%[1]sResponse>"
		if version == versionCompute {
			format = "<%[1]sResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>%[3]s</requestId>%[2]s</%[1]sResponse>"
		}
		_, _ = fmt.Fprintf(w, format, name, body, requestID)
		return nil
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		refusal = &Refusal{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	status := refusal.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.WriteHeader(status)
	format := "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><Error><Type>Sender</Type><Code>%s</Code>" +
		"<Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>"
	if version == versionCompute {
		format = "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID></Response>"
	}
	_, _ = fmt.Fprintf(w, format, escape(refusal.Code), escape(refusal.Message), requestID)
	return nil
}
