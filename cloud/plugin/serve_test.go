package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/plugin"
)

// TestTargetsFailOneByOne: the error of one change leaves the others' results, in their order.
func TestTargetsFailOneByOne(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	serveHere(t, socket, picky{fake.NewProvider(newCloud())})
	client := connect(t, plugin.Options{Name: "rack", Socket: socket})
	changes := make([]cloud.TargetChange, 2000)
	for i := range changes {
		changes[i].Resource.ID = fmt.Sprint(i)
	}
	errs := client.SyncTargets(context.Background(), changes)
	if len(errs) != len(changes) {
		t.Fatalf("got %d results", len(errs))
	}
	for i, err := range errs {
		if i%3 != 0 && err != nil || i%3 == 0 && (!cloud.IsClass(err, cloud.Quota) || err.Error() != fmt.Sprint("no room in ", i)) {
			t.Errorf("change %d: %v", i, err)
		}
	}
}

// picky refuses each third change.
type picky struct{ cloud.Provider }

func (picky) SyncTargets(_ context.Context, changes []cloud.TargetChange) []error {
	errs := make([]error, len(changes))
	for i := range changes {
		if i%3 == 0 {
			errs[i] = cloud.Errorf(cloud.Quota, "no room in %s", changes[i].Resource.ID)
		}
	}
	return errs
}

// serveHere serves a provider in this process until the test ends.
func serveHere(t *testing.T, socket string, p cloud.Provider) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plugin.Serve(ctx, socket, p) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	eventually(t, func() error { return answers(socket) })
	return stop
}

// TestComesBackAsAnother: what a plugin can do is asked anew when it was restarted.
func TestComesBackAsAnother(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	stop := serveHere(t, socket, fake.NewProvider(newCloud()))
	client := connect(t, plugin.Options{Name: "rack", Socket: socket})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	unavailable(t, func() error { return observe(client) }, socket)
	serveHere(t, socket, fake.NewProvider(newCloud(), func(caps *cloud.Capabilities) { caps.MaxPorts = 7 }))
	eventually(t, func() error { return observe(client) })
	if client.Capabilities().MaxPorts != 7 {
		t.Errorf("the plugin said it can do 7 ports, the client %d", client.Capabilities().MaxPorts)
	}
}

// TestRaisedLimits: a manager that is to send more than the plugin does says so, also of one that has less when it comes back.
func TestRaisedLimits(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	writes := func(perSecond float64) func(*cloud.Capabilities) {
		return func(caps *cloud.Capabilities) { caps.Limits.Writes = cloud.Limit{PerSecond: perSecond} }
	}
	stop := serveHere(t, socket, fake.NewProvider(newCloud(), writes(10)))
	options := plugin.Options{Name: "rack", Socket: socket}
	for perSecond, refused := range map[float64]bool{20: true, 10: false} {
		factory := plugin.Factory(options)
		var provider cloud.Provider
		ask := func() (err error) {
			provider, err = factory(cloud.Config{Limits: cloud.LimitOverrides{Writes: &cloud.Limit{PerSecond: perSecond}}})
			return err
		}
		if refused {
			unavailable(t, ask, socket, "cloud.limits lets the manager send 20 writes")
			continue
		}
		eventually(t, ask)
		t.Cleanup(provider.(*plugin.Client).Close)
	}
	options.Limits = cloud.LimitOverrides{Writes: &cloud.Limit{PerSecond: 10}}
	client := connect(t, options)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	serveHere(t, socket, fake.NewProvider(newCloud(), writes(5)))
	unavailable(t, func() error { return observe(client) }, socket, "the plugin itself sends 5")
}

func TestSocket(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	provider := fake.NewProvider(newCloud())
	stop := serveHere(t, socket, provider)
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if err := plugin.Serve(context.Background(), socket, provider); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two serve on one socket: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("a plugin that is told to stop says %v", err)
	}
	if entries, err := os.ReadDir(strings.TrimSuffix(socket, "/plugin")); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plugin.Serve(context.Background(), socket, provider); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

// TestSocketLost: a plugin that nobody can find any more ends and says why, and leaves what another one has put there.
func TestSocketLost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		take func(socket string) error
		want string
	}{
		"Removed": {os.Remove, "removed"},
		"Replaced": {func(socket string) error {
			other, err := net.Listen("unix", socket+".other")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = other.Close() })
			return os.Rename(socket+".other", socket)
		}, "another process"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := folder(t) + "/plugin"
			ended := make(chan error, 1)
			go func() { ended <- plugin.Serve(t.Context(), socket, fake.NewProvider(newCloud())) }()
			eventually(t, func() error { return answers(socket) })
			if err := tc.take(socket); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), socket) {
					t.Errorf("it ends with %v", err)
				}
			case <-time.After(patience):
				t.Fatal("it serves on, and nobody can find it")
			}
			if _, err := os.Lstat(socket); (err == nil) != (name == "Replaced") {
				t.Errorf("the socket afterwards: %v", err)
			}
		})
	}
}

func TestOpaqueIsRefused(t *testing.T) {
	t.Parallel()
	opaque := fake.NewProvider(newCloud(), func(caps *cloud.Capabilities) { caps.Opaque = true })
	if err := plugin.Serve(t.Context(), folder(t)+"/plugin", opaque); err == nil || !strings.Contains(err.Error(), "Opaque") {
		t.Errorf("got %v", err)
	}
}

// TestStopsGracefully: a call that is under way ends with its answer.
func TestStopsGracefully(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	began, finish := make(chan struct{}), make(chan struct{})
	stop := serveHere(t, socket, slow{fake.NewProvider(newCloud()), began, finish})
	client := connect(t, plugin.Options{Name: "rack", Socket: socket})
	result := make(chan error, 1)
	go func() {
		_, err := client.Observe(context.Background(), cloud.Owner{})
		result <- err
	}()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The others are turned away from now on, and do not end the one that is under way.
	eventually(t, func() error {
		if _, err := client.List(context.Background(), "x"); err == nil {
			return errNotYet
		}
		return nil
	})
	close(finish)
	if err := <-result; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// slow is a provider whose Observe waits.
type slow struct {
	cloud.Provider
	began, finish chan struct{}
}

func (s slow) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	close(s.began)
	<-s.finish
	return s.Provider.Observe(ctx, owner)
}

// TestLimits: what a method sends beyond its first call is held back in the plugin, by the limits that it states.
func TestLimits(t *testing.T) {
	t.Parallel()
	const perSecond = 20
	c := newCloud()
	client := start(t, c.Cloud, writesEnv+"="+fmt.Sprint(perSecond)).client()
	if got := client.Capabilities().Limits.Writes.PerSecond; got != perSecond {
		t.Fatalf("the plugin states %v writes per second, the client %v", perSecond, got)
	}
	// One method, and as many calls of the cloud as there are chunks of targets.
	const calls = 10
	spec := cloudtest.Spec(client.Capabilities(), 1)
	spec.Families = []cloud.Family{cloud.IPv4}
	converge(t, client, &spec, spec.Owner)
	observed, err := client.Observe(context.Background(), spec.Owner)
	if err != nil {
		t.Fatal(err)
	}
	var set cloud.Resource
	for _, r := range observed {
		if r.HasTargets {
			set = r
		}
	}
	change := cloud.TargetChange{Owner: spec.Owner, Resource: set}
	for i := range calls * fake.MaxTargetsPerCall {
		change.Add = append(change.Add, cloud.Target{ID: fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)})
	}
	var sent atomic.Int32
	hook := func(call fake.Call) error {
		if !call.After {
			sent.Add(1)
		}
		return nil
	}
	c.SetHook(hook)
	began := time.Now()
	if errs := client.SyncTargets(context.Background(), []cloud.TargetChange{change}); errors.Join(errs...) != nil {
		t.Fatal(errors.Join(errs...))
	}
	if took := time.Since(began); sent.Load() != calls || took < (calls-2)*time.Second/perSecond {
		t.Errorf("%d calls took %s", sent.Load(), took)
	}
}

// extended is a provider with the parts that not every provider has.
type extended struct{ cloud.Provider }

func (extended) Adoptable(_ context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	if id == "gone" {
		return nil, cloud.Errorf(cloud.NotFound, "there is no %s", id)
	}
	return []cloud.Adoptable{{ID: id, AdoptableBy: cloud.AdoptableBy(owner), MadeBy: "somebody", Resources: []cloud.Resource{{ID: id, Lent: true}}}}, nil
}

func (extended) TargetHealth(_ context.Context, _ cloud.Owner, resources []cloud.Resource) ([]cloud.TargetHealth, error) {
	if len(resources) != 1 {
		return nil, cloud.Errorf(cloud.Quota, "one at a time")
	}
	return []cloud.TargetHealth{{Resource: resources[0].ID, Target: "t", Health: cloud.HealthUnhealthy}}, nil
}

// TestOptionalParts: what only some providers do is asked of those alone, and arrives.
func TestOptionalParts(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	serveHere(t, socket, extended{fake.NewProvider(newCloud(), func(caps *cloud.Capabilities) { caps.Adopt, caps.TargetHealth = true, true })})
	client := connect(t, plugin.Options{Name: "rack", Socket: socket})
	owner := cloud.Owner{ClusterID: "c", Namespace: "n", Name: "s"}
	found, err := cloud.FindAdoptable(context.Background(), client, owner, "lb-1")
	want := []cloud.Adoptable{{ID: "lb-1", AdoptableBy: "c/n/s", MadeBy: "somebody", Resources: []cloud.Resource{{ID: "lb-1", Lent: true}}}}
	if diff := cmp.Diff(want, found); err != nil || diff != "" {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
	if _, err := cloud.FindAdoptable(context.Background(), client, owner, "gone"); !cloud.IsClass(err, cloud.NotFound) {
		t.Errorf("got %v", err)
	}
	reader := cloud.HealthReaderOf(client)
	if reader == nil {
		t.Fatal("the client tells no health")
	}
	healths, err := reader.TargetHealth(context.Background(), owner, []cloud.Resource{{ID: "set"}})
	if diff := cmp.Diff([]cloud.TargetHealth{{Resource: "set", Target: "t", Health: cloud.HealthUnhealthy}}, healths); err != nil || diff != "" {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
	if _, err := reader.TargetHealth(context.Background(), owner, nil); !cloud.IsClass(err, cloud.Quota) {
		t.Errorf("got %v", err)
	}
	without := folder(t) + "/plugin"
	serveHere(t, without, fake.NewProvider(newCloud(), func(caps *cloud.Capabilities) { caps.TargetHealth = false }))
	if cloud.HealthReaderOf(connect(t, plugin.Options{Name: "rack", Socket: without})) != nil {
		t.Error("a plugin that tells no health is asked for it")
	}
}
