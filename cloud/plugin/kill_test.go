package plugin_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/fake/faketest"
)

// converge passes as the core does, but without its waits, until the cloud has what is desired.
func converge(t *testing.T, p cloud.Provider, spec *cloud.Spec, owner cloud.Owner) {
	t.Helper()
	eventually(t, func() error {
		var desired []cloud.Resource
		if spec != nil {
			var err error
			if desired, err = p.Desired(*spec); err != nil {
				return err
			}
		}
		out, err := cloud.Converge(context.Background(), p, owner, desired, cloud.Options{})
		if err == nil && !out.Left.Empty() {
			return errNotYet
		}
		return err
	})
}

// TestKilledAnywhere: the plugin is killed before and after each single call of a creation, of a change and of a deletion,
// and started again. It ends as without, and nothing is left.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	caps := fake.NewProvider(newCloud()).Capabilities()
	before, after := cloudtest.Spec(caps, 2), cloudtest.Spec(caps, 3)
	before.Families, after.Families = before.Families[:1], after.Families[:1]
	after.Ports = append([]cloud.Port(nil), after.Ports...)
	after.Ports[0].NodePort = 30999
	lives := map[string]struct{ from, to *cloud.Spec }{
		"Create": {nil, &before},
		"Change": {&before, &after},
		"Delete": {&after, nil},
	}
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := newCloud()
			p := fake.NewProvider(want)
			if life.from != nil {
				converge(t, p, life.from, before.Owner)
			}
			calls := 0
			count := func(call fake.Call) error {
				if !call.After {
					calls++
				}
				return nil
			}
			want.SetHook(count)
			converge(t, p, life.to, before.Owner)
			// The one that was started again serves on, and each time leaves an empty cloud to the next.
			c := newCloud()
			plug := start(t, c.Cloud)
			client := plug.client()
			for at := 1; at <= calls; at++ {
				for _, done := range []bool{false, true} {
					if life.from != nil {
						converge(t, client, life.from, before.Owner)
					}
					killedAt(t, c, plug, client, life.to, before.Owner, at, done, want.Snapshot())
				}
			}
		})
	}
}

func killedAt(t *testing.T, c *faketest.Cloud, plug *process, client cloud.Provider, to *cloud.Spec, owner cloud.Owner, at int, done bool, want []string) {
	t.Helper()
	killed := make(chan struct{})
	var calls atomic.Int32
	hook := func(call fake.Call) error {
		n := calls.Load()
		if !call.After {
			n = calls.Add(1)
		}
		if int(n) == at && call.After == done {
			plug.kill()
			close(killed)
			c.SetHook(nil)
		}
		return nil
	}
	c.SetHook(hook)
	restarted := make(chan error, 1)
	go func() {
		<-killed
		restarted <- plug.run()
	}()
	converge(t, client, to, owner)
	select {
	case <-killed:
	default:
		t.Fatalf("call %d, done %v: the plugin was not killed", at, done)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
		t.Errorf("killed at call %d, done %v: the cloud differs (-want +got):\n%s", at, done, diff)
	}
	converge(t, client, nil, owner)
	if left := c.Snapshot(); len(left) != 0 {
		t.Errorf("killed at call %d, done %v: leaked %q", at, done, left)
	}
}

// TestConcurrently: many callers over a plugin that is restarted under them get answers or errors that say so, and in the
// end answers.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	c := newCloud()
	plug := start(t, c.Cloud)
	client := plug.client()
	spec := cloudtest.Spec(client.Capabilities(), 2)
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 8 {
		callers.Go(func() {
			mine := spec
			mine.Owner.ServiceUID = fmt.Sprint("service-", n)
			for {
				select {
				case <-stop:
					converge(t, client, &mine, mine.Owner)
					converge(t, client, nil, mine.Owner)
					return
				default:
				}
				desired, err := client.Desired(mine)
				if err == nil {
					_, err = cloud.Converge(context.Background(), client, mine.Owner, desired, cloud.Options{})
				}
				if err != nil && !cloud.IsClass(err, cloud.RetryAfter) && !cloud.IsClass(err, cloud.Retry) {
					t.Errorf("service %d: %v", n, err)
				}
			}
		})
	}
	for range 3 {
		plug.kill()
		if err := plug.run(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	callers.Wait()
	if left := c.Snapshot(); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}
