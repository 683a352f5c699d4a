package fake_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"net/netip"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
)

var pools = []fake.Pool{
	{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
	{Name: "six", Prefix: netip.MustParsePrefix("2001:db8:51::/120")},
}

// harness makes a cloud whose provider is in the same process, or behind HTTP.
func harness(slow int, overHTTP bool) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		var hook atomic.Pointer[func(cloudtest.Call) error]
		c := fake.New(fake.Options{Pools: pools, SlowSteps: slow, Hook: func(call fake.Call) error {
			if h := hook.Load(); h != nil {
				return (*h)(cloudtest.Call{Name: call.Method + " " + call.Kind, Write: call.Write(), After: call.After})
			}
			return nil
		}})
		var api fake.API = c
		if overHTTP {
			server := httptest.NewServer(fake.Handler(c))
			t.Cleanup(server.Close)
			client, err := fake.NewClient(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			api = client
		}
		return &cloudtest.Harness{
			New: func() cloud.Provider { return fake.NewProvider(api) },
			SetHook: func(h func(cloudtest.Call) error) {
				if h == nil {
					hook.Store(nil)
				} else {
					hook.Store(&h)
				}
			},
			Snapshot: func() []string { return snapshot(t, c) },
			PlantForeign: func(owner cloud.Owner, r cloud.Resource) error {
				if len(r.DependsOn) > 0 {
					return cloudtest.ErrCannotPlant
				}
				fields := map[string]string{}
				for name, value := range r.Attributes {
					if name != "ipMode" {
						fields[name] = value
					}
				}
				_, err := c.Create(context.Background(), fake.Object{Kind: r.Kind, Name: cloud.Name(owner, r, 63), Fields: fields,
					Tags: map[string]string{"somebody": "else"}})
				return err
			},
			Throttled: func() error { return &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: 1} },
		}
	}
}

// snapshot describes the cloud by keys, which unlike ids are the same in every run.
func snapshot(t *testing.T, c *fake.Cloud) []string {
	objects, err := c.List(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
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
	cloudtest.Run(t, harness(0, false))
}

func TestProviderOfSlowCloud(t *testing.T) {
	cloudtest.Run(t, harness(2, false))
}

func TestProviderOverHTTP(t *testing.T) {
	cloudtest.Run(t, harness(0, true))
}
