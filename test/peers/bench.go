package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/figures"
	"github.com/fairlead/fairlead/test/peers/process"
	"github.com/fairlead/fairlead/test/peers/wait"
)

// quiet is how long nobody may have written before a workload counts as done.
const quiet = 2 * time.Second

// bench measures peers against one API server.
type bench struct {
	plane       *controlplane.ControlPlane
	audit       *controlplane.AuditReader
	programs    programs
	controllers string // ours
	tracker     *tracker
	nodes       int
	// patience is how long a peer that is not done may write nothing.
	patience time.Duration
}

// workload is one step of a group.
type workload struct {
	name string
	// unmeasured: only there for those after it.
	unmeasured bool
	run        func(context.Context, *fleet) error
}

// group is a sequence of workloads on the same Services, through which one process of a peer goes.
type group struct {
	name      string
	services  int
	workloads []workload
}

// Names of workloads.
const (
	createAll = "create all"
	flips     = "flips"
	rolling   = "rolling update"
	scaleDown = "scale down"
	deleteAll = "delete all"
)

// groups are all of them, with the Pods of every Service, and what is done to them, scaled.
func groups(scale float64) []group {
	n := func(full int) int { return max(1, int(math.Round(scale*float64(full)))) }
	create := func(podsPerService int) workload {
		return workload{name: createAll, run: func(ctx context.Context, f *fleet) error { return f.create(ctx, podsPerService) }}
	}
	flip := workload{name: flips, run: func(ctx context.Context, f *fleet) error { return f.flip(ctx, n(2000), 100) }}
	remove := workload{name: deleteAll, run: func(ctx context.Context, f *fleet) error { return f.removeAll(ctx) }}
	return []group{
		{name: "50x40", services: 50, workloads: []workload{create(n(40)), flip, remove}},
		{name: "200x50", services: 200, workloads: []workload{create(n(50)), flip, remove}},
		{name: "1x1000", services: 1, workloads: []workload{
			create(n(1000)),
			{name: rolling, run: func(ctx context.Context, f *fleet) error { return f.roll(ctx, 50) }},
			{name: scaleDown, run: func(ctx context.Context, f *fleet) error { return f.scale(ctx, n(100)) }},
			remove,
		}},
	}
}

// curve is the workload for the knob: few Services, so that there is something to write together.
func curve(scale float64) group {
	n := func(full int) int { return max(1, int(math.Round(scale*float64(full)))) }
	return group{name: "5x100", services: 5, workloads: []workload{
		{name: createAll, unmeasured: true, run: func(ctx context.Context, f *fleet) error { return f.create(ctx, n(100)) }},
		{name: flips, run: func(ctx context.Context, f *fleet) error { return f.flip(ctx, n(1500), 100) }},
		{name: deleteAll, unmeasured: true, run: func(ctx context.Context, f *fleet) error { return f.removeAll(ctx) }},
	}}
}

// Measurement is what one peer did in one workload of one run.
type Measurement struct {
	Run                   int
	Peer, Group, Workload string
	Knob                  string
	// Writes are the requests until 2 s after the last one, refused ones included; Refused is how many these are.
	Writes  controlplane.Writes
	Refused int
	// CPU, in seconds, of the peer's process in that time, and of the API server's.
	CPU, APIServerCPU float64
	// Resident memory of the peer in bytes at the end, and its peak meanwhile.
	Resident, Peak int64
	// Status are the latencies of writes of a Pod's status, Deletion those of a Pod's deletion until the slices no
	// longer show it ready, both from the API server's answer to the write. StatusSent begins just before the write is
	// sent. Skipped changes were overtaken by one of the same Pod.
	Status, Deletion, StatusSent figures.Latency
	Skipped                      int
	// Wrong counts the Pods that the slices still did not show as they have to when nothing had been written for a
	// minute; it is 0 as a rule. Their latencies are not among those above.
	Wrong int
	// Slices that are left.
	Slices int
	// Load is how long the load took in seconds, Settle how long the peer went on writing after it.
	Load, Settle float64
	// Late, in seconds, is how far the load was behind its clock at worst.
	Late float64
	// Others is the share of the machine's CPU time that other programs used.
	Others float64
}

// runGroup starts a peer, measures its workloads, stops it and cleans up.
func (b *bench) runGroup(ctx context.Context, name string, k knob, g group, run int) (measured []Measurement, err error) {
	peer, err := startPeer(b.plane, b.programs, name, k, b.controllers)
	if err != nil {
		return nil, err
	}
	defer peer.Stop()
	if err := b.ready(ctx, peer); err != nil {
		return nil, fmt.Errorf("waiting until %s is ready: %w", name, err)
	}
	f := newFleet(b.plane.Client, b.tracker, g.services, b.nodes, uint64(run)) //nolint:gosec // it is small
	for _, w := range g.workloads {
		m, err := b.measure(ctx, peer, f, w)
		if err != nil {
			return measured, fmt.Errorf("%s, %s, %s: %w", name, g.name, w.name, err)
		}
		m.Run, m.Peer, m.Group, m.Workload, m.Knob = run, name, g.name, w.name, k.String()
		if !w.unmeasured {
			log.Print(m)
			measured = append(measured, m)
		}
	}
	if err := b.deleteServices(ctx, f); err != nil {
		return measured, err
	}
	peer.Stop()
	return measured, b.clean(ctx, f)
}

// measure runs one workload.
func (b *bench) measure(ctx context.Context, peer *process.Process, f *fleet, w workload) (Measurement, error) {
	if err := peer.ResetPeak(); err != nil {
		return Measurement{}, err
	}
	b.tracker.begin()
	f.lateness()
	before, err := b.usage(peer)
	if err != nil {
		return Measurement{}, err
	}
	begin := time.Now()
	if err := w.run(ctx, f); err != nil {
		return Measurement{}, errors.Join(err, peer.Alive(), b.plane.Alive())
	}
	loaded := time.Now()
	s, err := b.settle(ctx, peer, f, quiet)
	wrong := 0
	if errors.Is(err, wait.ErrTimeout) {
		log.Print(err)
		wrong, err = b.tracker.amiss(), nil
	}
	if err != nil {
		return Measurement{}, err
	}
	after, err := b.usage(peer)
	if err != nil {
		return Measurement{}, err
	}
	m := Measurement{
		Writes: s.writes, Refused: s.refused, Slices: b.tracker.count(), Wrong: wrong,
		CPU: (after.peer - before.peer).Seconds(), APIServerCPU: (after.api - before.api).Seconds(),
		Load: loaded.Sub(begin).Seconds(), Settle: max(0, s.last.Sub(loaded).Seconds()), Late: f.lateness().Seconds(),
		Others: max(0, float64(after.others-before.others)/float64(after.all-before.all)),
	}
	m.Status, m.StatusSent, m.Deletion, m.Skipped = b.tracker.latencies()
	m.Resident, m.Peak, err = peer.Memory()
	return m, err
}

// usage is CPU time used so far: by two programs, by all but ours, and what there was.
type usage struct{ peer, api, others, all time.Duration }

func (b *bench) usage(peer *process.Process) (u usage, err error) {
	if u.peer, err = peer.CPU(); err != nil {
		return u, err
	}
	if u.api, err = b.plane.API.CPU(); err != nil {
		return u, err
	}
	etcd, err := b.plane.Etcd.CPU()
	if err != nil {
		return u, err
	}
	self, err := process.CPUOf(os.Getpid())
	if err != nil {
		return u, err
	}
	busy, all, err := process.Machine()
	u.others, u.all = busy-u.peer-u.api-etcd-self, all
	return u, err
}

// settled is what was written until all was right and quiet.
type settled struct {
	writes  controlplane.Writes
	refused int
	last    time.Time // when the last write was noticed
}

// settle waits until slices and Endpoints are right and nothing has been written for a while. The writes are those since
// it last returned.
func (b *bench) settle(ctx context.Context, peer *process.Process, f *fleet, quiet time.Duration) (settled, error) {
	s := settled{writes: controlplane.Writes{}, last: time.Now()}
	err := wait.Poll(ctx, 50*time.Millisecond, 10*b.patience, "slices that are right", func() (bool, error, error) {
		if err := errors.Join(peer.Alive(), b.plane.Alive()); err != nil {
			return false, nil, err
		}
		writes, refused, err := b.audit.Next()
		if err != nil {
			return false, nil, err
		}
		if len(writes) > 0 {
			s.last = time.Now()
		}
		for what, n := range writes {
			s.writes[what] += n
		}
		s.refused += refused
		unfinished, err := b.tracker.right()
		if unfinished != nil && time.Since(s.last) > b.patience {
			err = fmt.Errorf("nothing was written for %s: %w: %w", b.patience, wait.ErrTimeout, unfinished)
		}
		if unfinished != nil || err != nil {
			return false, unfinished, err
		}
		if time.Since(s.last) < quiet {
			return false, errors.New("it goes on writing"), nil
		}
		unfinished, err = f.endpointsRight(ctx)
		return unfinished == nil && err == nil, unfinished, err
	})
	return s, err
}

// deleteServices deletes them; their Pods are gone already.
func (b *bench) deleteServices(ctx context.Context, f *fleet) error {
	var operations []controlplane.Operation
	for service := range f.pods {
		operations = append(operations, func(ctx context.Context) error {
			return f.client.CoreV1().Services(namespaceOf(service)).Delete(ctx, serviceName(service), metav1.DeleteOptions{})
		})
	}
	if err := controlplane.InParallel(ctx, operations); err != nil {
		return fmt.Errorf("deleting Services: %w", err)
	}
	return nil
}

// clean deletes what is left of Services that were deleted. Slices would be left to the garbage collector, which does
// not run.
func (b *bench) clean(ctx context.Context, f *fleet) error {
	namespaces := map[string]bool{}
	for service := range f.pods {
		namespaces[namespaceOf(service)] = true
	}
	for namespace := range namespaces {
		all := metav1.ListOptions{}
		err := errors.Join(
			f.client.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, all),
			f.client.CoreV1().Endpoints(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
		if err != nil {
			return fmt.Errorf("deleting what is left: %w", err)
		}
	}
	err := wait.Poll(ctx, 50*time.Millisecond, b.patience, "the end of all slices", func() (bool, error, error) {
		return b.tracker.count() == 0, errors.New("there still are some"), nil
	})
	b.tracker.forget()
	return err
}

// prepare makes the namespaces and nodes.
func (b *bench) prepare(ctx context.Context, services int) error {
	var operations []controlplane.Operation
	for service := 0; service < services; service += servicesPerNamespace {
		operations = append(operations, func(ctx context.Context) error {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(service)}}
			_, err := b.plane.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
			return err
		})
	}
	for n := range b.nodes {
		operations = append(operations, func(ctx context.Context) error {
			_, err := b.plane.Client.CoreV1().Nodes().Create(ctx, newNode(n), metav1.CreateOptions{FieldManager: "kubelet"})
			return err
		})
	}
	if err := controlplane.InParallel(ctx, operations); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespaces and nodes: %w", err)
	}
	return nil
}
