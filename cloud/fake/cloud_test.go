package fake

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

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
	objects, err := client.List(t.Context(), nil)
	if diff := cmp.Diff([]Object{made}, objects); err != nil || diff != "" {
		t.Errorf("listed (-want +got), %v:\n%s", err, diff)
	}
	c.Inject(Fault{Err: &Error{Code: CodeThrottled, Message: "slow down", RetryAfterSeconds: 7}})
	err = client.Delete(t.Context(), made.ID)
	if got := NewProvider(client).Classify(err); got.Class != cloud.Throttled || got.After.Seconds() != 7 {
		t.Errorf("throttling is %+v after %v", got, err)
	}
	server.Close()
	if _, err := client.List(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "->") {
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
