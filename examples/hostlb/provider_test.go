package hostlb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// TestMistakes: a Service, its class and the configuration are told all that is wrong with them at once.
func TestMistakes(t *testing.T) {
	p := &Provider{pools: testPools}
	spec := cloudtest.Spec(p.Capabilities(), 2)
	spec.Parameters = []byte(`{"pol": "x"}`)
	spec.Annotations = map[string]string{AnnotationPrefix + "pool": "gone", AnnotationPrefix + "colour": "red"}
	resources, err := p.Desired(spec)
	if !cloud.IsClass(err, cloud.UserError) {
		t.Fatalf("got %v, want a UserError", err)
	}
	for _, word := range []string{"pol", "gone", "colour"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
	if len(resources) == 0 {
		t.Error("without resources the balancer that runs does not follow the nodes")
	}
	spec = cloudtest.Spec(p.Capabilities(), 2)
	spec.RequestedAddress = "192.0.2.1"
	if _, err := p.Desired(spec); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("an address of no pool: %v", err)
	}

	files := map[string][]string{
		``:              {"no pools"},
		`{}`:            {"at least one"},
		`{"pool": []}`:  {`"pool"`},
		`{"pools": [1]`: {"reading"},
		`{"pools": [{"name": "A", "prefix": "10.0.0.0/8"}, {"name": "b", "prefix": "fd00::/64"}, {"name": "b", "prefix": "192.0.2.1/24"}]}`: {
			"pools[0].name", "pools[0].prefix", "pools[1].prefix", "pools[2].name", "pools[2].prefix"},
		`{"pools": [{"name": "a", "prefix": "192.0.2.0/24"}, {"name": "b", "prefix": "192.0.2.128/25"}]}`: {"overlaps"},
	}
	for file, words := range files {
		_, err := New(cloud.Config{File: []byte(file)})
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v does not name %s", file, err, word)
			}
		}
	}
}

// crowd has as many readers as it is told look at the table before any of them goes on.
type crowd struct {
	kernel
	size int32
	came atomic.Int32
	all  chan struct{}
}

func (c *crowd) read(ctx context.Context) (*state, error) {
	s, err := c.kernel.read(ctx)
	if c.came.Add(1) == c.size {
		close(c.all)
	}
	<-c.all
	return s, err
}

// TestPoolIsShared: Services that want an address at the same time get different ones, and one too many hears that there
// is none left.
func TestPoolIsShared(t *testing.T) {
	const services = 9
	k := &crowd{kernel: newKernel(t), size: services, all: make(chan struct{})}
	p := &Provider{pools: []pool{{Name: "small", Prefix: netip.MustParsePrefix("192.0.2.0/29")}}, kernel: k}
	var wg sync.WaitGroup
	errs, made := make([]error, services), make([]cloud.Resource, services)
	for n := range services {
		wg.Go(func() {
			spec := cloudtest.Spec(p.Capabilities(), 1)
			spec.Owner.ServiceUID = fmt.Sprint("uid-", n)
			desired, err := p.Desired(spec)
			if err == nil {
				made[n], err = p.Create(context.Background(), spec.Owner, desired[0])
			}
			errs[n] = err
		})
	}
	wg.Wait()
	seen, refused := map[string]bool{}, 0
	for n, err := range errs {
		switch {
		case err == nil && seen[made[n].ID]:
			t.Errorf("%s was given twice", made[n].ID)
		case err == nil:
			seen[made[n].ID] = true
		case cloud.IsClass(err, cloud.Quota):
			refused++
		default:
			t.Errorf("Service %d: %v", n, err)
		}
	}
	if len(seen) != 8 || refused != 1 {
		t.Errorf("%d addresses given and %d Services refused, want 8 and 1", len(seen), refused)
	}
}

// TestOneSetIsGone: of several changes of targets the one whose set is gone fails alone.
func TestOneSetIsGone(t *testing.T) {
	p := &Provider{pools: testPools, kernel: newKernel(t)}
	var changes []cloud.TargetChange
	for n := range 3 {
		spec := cloudtest.Spec(p.Capabilities(), 2)
		spec.Owner.ServiceUID = fmt.Sprint("uid-", n)
		desired, err := p.Desired(spec)
		if err != nil {
			t.Fatal(err)
		}
		set, err := p.Create(t.Context(), spec.Owner, desired[1])
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			if err := p.Delete(t.Context(), spec.Owner, set); err != nil {
				t.Fatal(err)
			}
		}
		set.Targets = desired[1].Targets
		changes = append(changes, cloud.TargetChange{Owner: spec.Owner, Resource: set, Add: set.Targets})
	}
	errs := p.SyncTargets(t.Context(), changes)
	if len(errs) != 3 || errs[0] != nil || errs[2] != nil || p.Classify(errs[1]).Class != cloud.NotFound {
		t.Fatalf("got %v, want NotFound for the second alone", errs)
	}
	for _, n := range []int{0, 2} {
		observed, err := p.Observe(t.Context(), changes[n].Owner)
		if err != nil || len(observed) != 1 || len(observed[0].Targets) != 2 {
			t.Errorf("Service %d has %+v (%v)", n, observed, err)
		}
	}
}

// TestAddressOfAnother: an address that was given back and is another Service's by now is not deleted by who had it.
func TestAddressOfAnother(t *testing.T) {
	p := &Provider{pools: []pool{{Name: "one", Prefix: netip.MustParsePrefix("192.0.2.7/32")}}, kernel: newKernel(t)}
	first := cloudtest.Spec(p.Capabilities(), 1)
	second := first
	second.Owner.ServiceUID = "another"
	desired, err := p.Desired(first)
	if err != nil {
		t.Fatal(err)
	}
	stale, err := p.Create(t.Context(), first.Owner, desired[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), first.Owner, stale); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(t.Context(), second.Owner, desired[0]); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), first.Owner, stale); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	if observed, err := p.Observe(t.Context(), second.Owner); err != nil || len(observed) != 1 {
		t.Errorf("the other Service has %+v (%v)", observed, err)
	}
}

// restless is a kernel whose rules somebody else changes all the time.
type restless struct{ kernel }

func (restless) write(context.Context, string, *state, func(*transaction) error) error {
	return fmt.Errorf("writing: %w", unix.ERESTART)
}

// TestClasses: what the core does about an error is decided by the kernel's number.
func TestClasses(t *testing.T) {
	p := &Provider{pools: testPools, kernel: restless{newKernel(t)}}
	for err, want := range map[error]cloud.Class{
		fmt.Errorf("writing: %w", unix.ENOENT):                        cloud.NotFound,
		fmt.Errorf("writing: %w", unix.EPERM):                         cloud.Retry,
		fmt.Errorf("writing: %w", unix.ENOBUFS):                       cloud.Throttled,
		errors.New("something else"):                                  cloud.Retry,
		fmt.Errorf("creating: %w", cloud.Errorf(cloud.Quota, "full")): cloud.Quota,
	} {
		if got := p.Classify(err); got.Class != want || !errors.Is(got, err) {
			t.Errorf("%v is %s, want %s", err, got.Class, want)
		}
	}
	spec := cloudtest.Spec(p.Capabilities(), 1)
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(t.Context(), spec.Owner, desired[0]); !cloud.IsClass(err, cloud.Conflict) {
		t.Errorf("rules that never stand still: %v, want a Conflict", err)
	}
}
