package fake

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

func address(name string) Object {
	return Object{Kind: KindAddress, Name: name, Fields: map[string]string{"family": "IPv4", "pool": "", "requested": ""}}
}

func check(name string) Object {
	return Object{Kind: KindHealthCheck, Name: name, Fields: map[string]string{"protocol": "TCP", "port": "1", "path": "", "intervalSeconds": "1", "threshold": "1"}}
}

func set(name, checkID string) Object {
	return Object{Kind: KindTargetSet, Name: name, Fields: map[string]string{"protocol": "TCP", "port": "1", "family": "IPv4"}, Refs: []string{checkID}}
}

func code(err error) Code {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Code
	}
	return ""
}

func TestCloudRefuses(t *testing.T) {
	ctx := t.Context()
	cases := map[string]struct {
		reason string
		do     func(c *Cloud) error
		want   Code
	}{
		"UnknownKind": {"there is no such thing", func(c *Cloud) error { _, err := c.Create(ctx, Object{Kind: "Router", Name: "a"}); return err }, CodeInvalidParameter},
		"UnknownField": {"a typing mistake", func(c *Cloud) error {
			o := address("a")
			o.Fields["colour"] = "red"
			_, err := c.Create(ctx, o)
			return err
		}, CodeInvalidParameter},
		"MissingField": {"nothing has a default", func(c *Cloud) error {
			o := address("a")
			delete(o.Fields, "pool")
			_, err := c.Create(ctx, o)
			return err
		}, CodeInvalidParameter},
		"BadValue": {"no family", func(c *Cloud) error {
			o := address("a")
			o.Fields["family"] = "IPv5"
			_, err := c.Create(ctx, o)
			return err
		}, CodeInvalidParameter},
		"NoName":     {"a name is needed", func(c *Cloud) error { _, err := c.Create(ctx, address("")); return err }, CodeInvalidParameter},
		"Duplicate":  {"names are unique per kind", func(c *Cloud) error { return twice(ctx, c, address("a"), address("a")) }, CodeDuplicateName},
		"Quota":      {"two addresses are the limit", func(c *Cloud) error { return twice(ctx, c, address("a"), address("b"), address("c")) }, CodeQuotaExceeded},
		"MissingRef": {"a target set has a health check", func(c *Cloud) error { o := set("s", ""); o.Refs = nil; _, err := c.Create(ctx, o); return err }, CodeInvalidParameter},
		"WrongRef": {"of the right kind", func(c *Cloud) error {
			a, _ := c.Create(ctx, address("a"))
			_, err := c.Create(ctx, set("s", a.ID))
			return err
		}, CodeInvalidParameter},
		"InUse": {"what is used stays", func(c *Cloud) error {
			h, _ := c.Create(ctx, check("h"))
			if _, err := c.Create(ctx, set("s", h.ID)); err != nil {
				return err
			}
			return c.Delete(ctx, h.ID)
		}, CodeInUse},
		"Immutable": {"a protocol stays", func(c *Cloud) error {
			h, _ := c.Create(ctx, check("h"))
			_, err := c.Update(ctx, Object{ID: h.ID, Fields: map[string]string{"protocol": "HTTP"}})
			return err
		}, CodeInvalidParameter},
		"NoPool": {"pools are named", func(c *Cloud) error {
			o := address("a")
			o.Fields["pool"] = "x"
			_, err := c.Create(ctx, o)
			return err
		}, CodeInvalidParameter},
		"NotInPool": {"not every address can be had", func(c *Cloud) error {
			o := address("a")
			o.Fields["requested"] = "192.0.2.1"
			_, err := c.Create(ctx, o)
			return err
		}, CodeInvalidParameter},
		"Taken": {"an address is given once", func(c *Cloud) error {
			a, b := address("a"), address("b")
			a.Fields["requested"], b.Fields["requested"] = "198.51.100.9", "198.51.100.9"
			return twice(ctx, c, a, b)
		}, CodeInUse},
		"Gone": {"nothing has the id", func(c *Cloud) error { return c.Delete(ctx, "address-1") }, CodeNotFound},
		"TargetFamily": {"an IPv6 target in an IPv4 set", func(c *Cloud) error {
			h, _ := c.Create(ctx, check("h"))
			s, _ := c.Create(ctx, set("s", h.ID))
			return c.SyncTargets(ctx, []TargetsRequest{{ID: s.ID, Add: []string{"fd00::1"}}})
		}, CodeInvalidParameter},
		"TooManyTargets": {"a call has a limit", func(c *Cloud) error {
			h, _ := c.Create(ctx, check("h"))
			s, _ := c.Create(ctx, set("s", h.ID))
			return c.SyncTargets(ctx, []TargetsRequest{{ID: s.ID, Remove: make([]string, MaxTargetsPerCall+1)}})
		}, CodeInvalidParameter},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := tc.do(New(Options{Quotas: map[string]int{KindAddress: 2}})); code(err) != tc.want {
				t.Errorf("%s: got %v, want %s", tc.reason, err, tc.want)
			}
		})
	}
}

// TestCheck: what could be made if something were gone is known before that goes, and nothing is made.
func TestCheck(t *testing.T) {
	ctx := t.Context()
	c := New(Options{Quotas: map[string]int{KindAddress: 2}})
	requesting := func(name, requested string) Object {
		o := address(name)
		o.Fields["requested"] = requested
		return o
	}
	mine, err := c.Create(ctx, requesting("mine", "198.51.100.9"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Create(ctx, requesting("other", "198.51.100.10"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		requested string
		without   []string
		want      Code
	}{
		"Free":     {"198.51.100.77", []string{mine.ID}, ""},
		"Any":      {"", []string{mine.ID}, ""},
		"Own":      {"198.51.100.9", []string{mine.ID}, ""},
		"Others":   {"198.51.100.10", []string{mine.ID}, CodeInUse},
		"Outside":  {"192.0.2.1", []string{mine.ID, other.ID}, CodeInvalidParameter},
		"Full":     {"198.51.100.77", nil, CodeQuotaExceeded},
		"Mistaken": {"somewhere", []string{mine.ID}, CodeInvalidParameter},
	} {
		if err := c.Check(ctx, CheckRequest{Object: requesting("", tc.requested), Without: tc.without}); code(err) != tc.want {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if all := c.Objects(); len(all) != 2 {
		t.Errorf("there are %+v", all)
	}
}

// twice creates all and returns the last error.
func twice(ctx context.Context, c *Cloud, objects ...Object) (err error) {
	for _, o := range objects {
		_, err = c.Create(ctx, o)
	}
	return err
}

func TestFaults(t *testing.T) {
	c := New(Options{})
	lost := errors.New("the answer is lost")
	c.Inject(Fault{Method: "Create", Err: refuse(CodeThrottled, "slow down")}, Fault{Method: "Create", Kind: KindAddress, Err: lost, After: true})
	if _, err := c.Create(t.Context(), address("a")); code(err) != CodeThrottled {
		t.Errorf("the first call gives %v", err)
	}
	if _, err := c.Create(t.Context(), address("a")); !errors.Is(err, lost) {
		t.Errorf("the second call gives %v", err)
	}
	if _, err := c.Create(t.Context(), address("a")); code(err) != CodeDuplicateName {
		t.Errorf("the third call gives %v: the second was to be done", err)
	}
}

func TestHTTP(t *testing.T) {
	c := New(Options{})
	server := httptest.NewServer(Handler(c))
	defer server.Close()
	client, err := NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.Create(t.Context(), address("a"))
	if err != nil || made.Address != "198.51.100.1" {
		t.Fatalf("created %+v, %v", made, err)
	}
	objects, err := client.List(t.Context())
	if diff := cmp.Diff([]Object{made}, objects); err != nil || diff != "" {
		t.Errorf("listed (-want +got), %v:\n%s", err, diff)
	}
	c.Inject(Fault{Err: &Error{Code: CodeThrottled, Message: "slow down", RetryAfterSeconds: 7}})
	err = client.Delete(t.Context(), made.ID)
	if got := NewProvider(client).Classify(err); got.Class != cloud.Throttled || got.After.Seconds() != 7 {
		t.Errorf("throttling is %+v after %v", got, err)
	}
	server.Close()
	if _, err := client.List(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "->") {
		t.Errorf("an unreachable cloud gives %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{"http://172.30.0.254:9000": true, "unix:///run/cloud.sock": true, "unix://cloud.sock": false,
		"https://a": false, "172.30.0.254:9000": false, "": false} {
		if _, err := NewClient(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// states are the states of all objects as the API shows them, in order.
func states(t *testing.T, c *Cloud) string {
	t.Helper()
	objects, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, o := range objects {
		states = append(states, o.State)
	}
	return strings.Join(states, " ")
}

// TestSlow: a balancer takes its time to come and to go, and its addresses are not free before it is gone.
func TestSlow(t *testing.T) {
	clock := NewClock()
	c := New(Options{Slow: time.Minute, Now: clock.Now})
	a, err := c.Create(t.Context(), address("a"))
	if err != nil || a.State != StatePending {
		t.Fatalf("a new address is %+v, %v", a, err)
	}
	balancer := Object{Kind: KindBalancer, Name: "b", Refs: []string{a.ID}}
	if _, err := c.Create(t.Context(), balancer); code(err) != CodeInUse {
		t.Errorf("on an address that is not there yet: %v", err)
	}
	clock.Advance(time.Minute)
	b, err := c.Create(t.Context(), balancer)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute - 1)
	if got := states(t, c); got != "Ready Pending" {
		t.Errorf("just before the time: %s", got)
	}
	clock.Advance(1)
	if got := states(t, c); got != "Ready Ready" {
		t.Errorf("after it: %s", got)
	}
	if err := c.Delete(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	clock.Advance(30 * time.Second)
	if err := c.Delete(t.Context(), b.ID); err != nil {
		t.Errorf("deleting it twice: %v", err)
	}
	if err := c.Delete(t.Context(), a.ID); code(err) != CodeInUse {
		t.Errorf("deleting the address of a balancer that is being deleted: %v", err)
	}
	clock.Advance(30 * time.Second)
	if err := c.Delete(t.Context(), a.ID); err != nil {
		t.Error(err)
	}
	if got := states(t, c); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestReadLag: reads are behind, writes are not.
func TestReadLag(t *testing.T) {
	clock := NewClock()
	c := New(Options{ReadLag: 10 * time.Second, Now: clock.Now})
	seen := func() (names string) {
		objects, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			names += o.Name + o.Fields["port"] + " "
		}
		return names
	}
	made, err := c.Create(t.Context(), check("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), check("a")); code(err) != CodeDuplicateName {
		t.Errorf("the same name again: %v", err)
	}
	clock.Advance(4 * time.Second)
	if _, err := c.Update(t.Context(), Object{ID: made.ID, Fields: map[string]string{"port": "2"}}); err != nil {
		t.Fatal(err)
	}
	clock.Advance(4 * time.Second)
	if err := c.Delete(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), made.ID); code(err) != CodeNotFound {
		t.Errorf("a second deletion: %v", err)
	}
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, ""}, {1, ""}, {1, "a1 "}, {3, "a1 "}, {1, "a2 "}, {3, "a2 "}, {1, ""}, {60, ""}} {
		clock.Advance(step.wait * time.Second)
		if got := seen(); got != step.want {
			t.Errorf("reads show %q, want %q", got, step.want)
		}
	}
	if len(c.Objects()) != 0 {
		t.Error("Objects is behind, too")
	}
}

func TestLimitsOfTheAccount(t *testing.T) {
	clock := NewClock()
	options := Options{Limits: cloud.Limits{Reads: cloud.Limit{PerSecond: 0.5, Burst: 2}}, Now: clock.Now}
	c := New(options)
	read := func() *Error {
		_, err := c.List(t.Context())
		refused, _ := errors.AsType[*Error](err)
		return refused
	}
	for i, step := range []struct {
		wait    time.Duration
		refused bool
		after   int
	}{{0, false, 0}, {0, false, 0}, {0, true, 2}, {1, true, 1}, {1, false, 0}, {0, true, 2}, {60, false, 0}, {0, false, 0}, {0, true, 2}} {
		clock.Advance(step.wait * time.Second)
		err := read()
		if (err != nil) != step.refused || err != nil && (err.Code != CodeThrottled || err.RetryAfterSeconds != step.after) {
			t.Errorf("call %d: %+v, want it refused: %t, for %d s", i+1, err, step.refused, step.after)
		}
	}
	if _, err := c.Create(t.Context(), address("a")); err != nil {
		t.Errorf("writes have limits of their own: %v", err)
	}
	options.NoRetryAfter = true
	c = New(options)
	for range 2 {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
	if err := read(); err == nil || err.RetryAfterSeconds != 0 {
		t.Errorf("without Retry-After: %+v", err)
	}
}

// TestFails: a creation that succeeds and then comes to nothing.
func TestFails(t *testing.T) {
	clock := NewClock()
	c := New(Options{Slow: time.Minute, Now: clock.Now})
	c.Inject(Fault{Method: "Create", Kind: KindAddress, Skip: 1, Late: true})
	for _, name := range []string{"a", "b", "c"} {
		if made, err := c.Create(t.Context(), address(name)); err != nil || made.State != StatePending {
			t.Fatalf("%s is %+v, %v", name, made, err)
		}
	}
	clock.Advance(time.Minute)
	if got := states(t, c); got != "Ready Failed Ready" {
		t.Errorf("the states are %s", got)
	}
}

// TestFailedIsReplaced: the core does away with what failed and makes it anew.
func TestFailedIsReplaced(t *testing.T) {
	for _, kind := range []string{KindAddress, KindHealthCheck, KindTargetSet, KindBalancer, KindListener} {
		t.Run(kind, func(t *testing.T) {
			clock := NewClock()
			c := New(Options{Slow: time.Minute, Now: clock.Now})
			c.Inject(Fault{Method: "Create", Kind: kind, Late: true})
			p := NewProvider(c)
			spec := cloud.Spec{Owner: cloud.Owner{ClusterID: "c", ServiceUID: "u"}, Families: []cloud.Family{cloud.IPv4},
				Ports: []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}}}}
			desired, err := p.Desired(spec)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
				if err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Fatal(err)
				}
				if err == nil && out.Left.Empty() {
					if got := states(t, c); strings.Contains(got, StateFailed) || len(c.Objects()) != 5 {
						t.Errorf("it ends with %s", got)
					}
					return
				}
				clock.Advance(time.Minute)
			}
			t.Error("it does not end")
		})
	}
}

// TestSlowDeletionIsNoError: what is still being deleted holds up what it uses, and no pass fails by that.
func TestSlowDeletionIsNoError(t *testing.T) {
	clock := NewClock()
	c := New(Options{Slow: time.Minute, Now: clock.Now})
	p := NewProvider(c)
	spec := cloud.Spec{Owner: cloud.Owner{ClusterID: "c", ServiceUID: "u"}, Families: []cloud.Family{cloud.IPv4},
		Ports: []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}}}}
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]cloud.Resource{desired, nil} {
		done := false
		for range 20 {
			out, err := cloud.Converge(t.Context(), p, spec.Owner, want, cloud.Options{})
			if err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatalf("a pass failed: %v", err)
			}
			if done = err == nil && out.Left.Empty(); done {
				break
			}
			if again, err := cloud.Converge(t.Context(), p, spec.Owner, want, cloud.Options{}); err != nil || len(again.Done) > 0 {
				t.Errorf("a pass without anything new did %+v (%v)", again.Done, err)
			}
			clock.Advance(time.Minute)
		}
		if !done {
			t.Fatal("it does not end")
		}
	}
}
