package fake_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
)

var pools = []fake.Pool{
	{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
	{Name: "six", Prefix: netip.MustParsePrefix("2001:db8:51::/120")},
}

// direct is an HTTP transport that calls a handler, without a socket: in a bubble time must be able to stand still.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, request)
	return recorder.Result(), nil
}

// harness makes a cloud whose provider is in the same process, or behind HTTP.
func harness(options fake.Options, overHTTP bool, edits ...func(*cloud.Capabilities)) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		h, _ := harnessOf(t, options, overHTTP, edits...)
		return h
	}
}

func harnessOf(t *testing.T, options fake.Options, overHTTP bool, edits ...func(*cloud.Capabilities)) (*cloudtest.Harness, *fake.Cloud) {
	t.Helper()
	var hook atomic.Pointer[func(cloudtest.Call) error]
	options.Pools = pools
	options.Hook = func(call fake.Call) error {
		if h := hook.Load(); h != nil {
			return (*h)(cloudtest.Call{Name: call.Method + " " + call.Kind, Write: call.Write(), After: call.After})
		}
		return nil
	}
	c := fake.New(options)
	var api fake.API = c
	if overHTTP {
		api = fake.NewClientFor("http://fake", direct{fake.Handler(c)})
	}
	return &cloudtest.Harness{
		New: func() cloud.Provider {
			lag := func(caps *cloud.Capabilities) { caps.ReadLag = options.ReadLag }
			return fake.NewProvider(api, append(edits, lag)...)
		},
		SetHook: func(h func(cloudtest.Call) error) {
			if h == nil {
				hook.Store(nil)
			} else {
				hook.Store(&h)
			}
		},
		Snapshot: func() []string { return snapshot(c) },
		PlantForeign: func(owner cloud.Owner, r cloud.Resource) error {
			if len(r.DependsOn) > 0 {
				return cloudtest.ErrCannotPlant
			}
			fields := map[string]string{}
			for name, value := range r.Attributes {
				if name != "ipMode" && name != "group" {
					fields[name] = value
				}
			}
			_, err := c.Create(context.Background(), fake.Object{Kind: r.Kind, Name: cloud.Name(owner, r, 63), Fields: fields,
				Tags: map[string]string{"somebody": "else"}})
			return err
		},
		Throttled: func(after time.Duration) error {
			return &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: int(after.Seconds())}
		},
		Address: "198.51.100.77",
	}, c
}

// snapshot describes the cloud by keys, which unlike ids are the same in every run.
func snapshot(c *fake.Cloud) []string {
	objects := c.Objects()
	names := map[string]string{}
	for _, o := range objects {
		names[o.ID] = o.Kind + "/" + o.Tags["fairlead.dev/key"]
	}
	var lines []string
	for _, o := range objects {
		refs := make([]string, len(o.Refs))
		for i, id := range o.Refs {
			refs[i] = names[id]
		}
		slices.Sort(refs)
		lines = append(lines, fmt.Sprintf("%s %v %v %v %s", names[o.ID], o.Tags, o.Fields, refs, strings.Join(o.Targets, ",")))
	}
	slices.Sort(lines)
	return lines
}

func TestProvider(t *testing.T) {
	cloudtest.Run(t, harness(fake.Options{}, false))
}

func TestProviderOfSlowCloud(t *testing.T) {
	cloudtest.Run(t, harness(fake.Options{Slow: 7 * time.Second}, false))
}

// TestProviderOfLaggingCloud: reads show what was a while ago, and what is made or deleted takes its time.
func TestProviderOfLaggingCloud(t *testing.T) {
	// Of one family and without UDP, or it would take long.
	cloudtest.Run(t, harness(fake.Options{ReadLag: 4 * time.Second, Slow: 3 * time.Second}, false, func(caps *cloud.Capabilities) {
		caps.Families, caps.DualStack, caps.MixedProtocols = caps.Families[:1], false, false
	}))
}

func TestProviderOverHTTP(t *testing.T) {
	cloudtest.Run(t, harness(fake.Options{}, true))
}

// TestProviderOfSmallAccount: the cloud throttles by itself what is sent past its limits, which the provider declares.
func TestProviderOfSmallAccount(t *testing.T) {
	limit := cloud.Limit{PerSecond: 2, Burst: 3}
	options := fake.Options{Limits: cloud.Limits{Reads: limit, Writes: limit}}
	cloudtest.Run(t, harness(options, false, func(caps *cloud.Capabilities) { caps.Limits = options.Limits }))
}

// TestSimpleProvider: what a provider does not declare is skipped.
func TestSimpleProvider(t *testing.T) {
	cloudtest.Run(t, harness(fake.Options{}, false, func(caps *cloud.Capabilities) {
		*caps = cloud.Capabilities{Protocols: []string{"TCP"}, Families: []cloud.Family{cloud.IPv4}, NodePorts: true,
			Targets: caps.Targets}
	}))
}
