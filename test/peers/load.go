package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/test/peers/controlplane"
)

const (
	// terminationTime passes between a Pod's deletion and its end, as a container's that handles SIGTERM.
	terminationTime = time.Second
	// podName's alphabet is that of generated names.
	letters = "bcdfghjklmnpqrstvwxz2456789"
)

// fleet is the load: Services and their Pods, and the clients' and kubelets' writes to them. Everything but the time
// follows from its seed.
type fleet struct {
	client  kubernetes.Interface
	tracker *tracker
	random  *rand.Rand
	nodes   int
	// pods of every Service, in the order of their making; made counts all that ever were.
	pods [][]*pod
	made int
	// late is how far behind its clock the load was at worst since lateness was last asked for.
	late time.Duration
}

func newFleet(client kubernetes.Interface, t *tracker, services, nodes int, seed uint64) *fleet {
	return &fleet{client: client, tracker: t, nodes: nodes, random: rand.New(rand.NewPCG(seed, 0)), pods: make([][]*pod, services)}
}

// add makes up a Pod.
func (f *fleet) add(service int) *pod {
	name := func(n int) string {
		text := make([]byte, n)
		for i := range text {
			text[i] = letters[f.random.IntN(len(letters))]
		}
		return string(text)
	}
	p := &pod{
		service: service, name: fmt.Sprintf("%s-%s-%s", serviceName(service), name(10), name(5)),
		ip: podIP(f.made), node: f.random.IntN(f.nodes),
	}
	f.made++
	f.pods[service] = append(f.pods[service], p)
	return p
}

// byClock does operations at even intervals and keeps how late they were.
func (f *fleet) byClock(ctx context.Context, perSecond int, operations []controlplane.Operation) error {
	late, err := controlplane.ByClock(ctx, perSecond, operations)
	f.late = max(f.late, late)
	return err
}

func (f *fleet) lateness() time.Duration {
	late := f.late
	f.late = 0
	return late
}

// create makes Services and then as many Pods of each, in random order; each becomes ready at once.
func (f *fleet) create(ctx context.Context, podsPerService int) error {
	var services, pods []controlplane.Operation
	for service := range f.pods {
		services = append(services, func(ctx context.Context) error {
			_, err := f.client.CoreV1().Services(namespaceOf(service)).Create(ctx, newService(service), metav1.CreateOptions{FieldManager: "kubectl"})
			if err != nil {
				return fmt.Errorf("creating Service: %w", err)
			}
			return nil
		})
		for range podsPerService {
			p := f.add(service)
			pods = append(pods, func(ctx context.Context) error { return f.bringUp(ctx, p) })
		}
	}
	f.random.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	if err := controlplane.InParallel(ctx, services); err != nil {
		return err
	}
	return controlplane.InParallel(ctx, pods)
}

// bringUp creates a Pod and writes its status: running and ready.
func (f *fleet) bringUp(ctx context.Context, p *pod) error {
	p.createdAt = time.Now()
	if _, err := f.client.CoreV1().Pods(p.namespace()).Create(ctx, newPod(p), metav1.CreateOptions{FieldManager: "kube-controller-manager"}); err != nil {
		return fmt.Errorf("creating Pod: %w", err)
	}
	return f.setReady(ctx, p, true)
}

func (f *fleet) setReady(ctx context.Context, p *pod, isReady bool) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.isReady = isReady
	want := unready
	if isReady {
		want = ready
	}
	return f.writeStatus(ctx, p, p.status(time.Now()), want, ofStatus)
}

// writeStatus patches as a kubelet does.
func (f *fleet) writeStatus(ctx context.Context, p *pod, status corev1.PodStatus, want appearance, k kind) error {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encoding a Pod's status: %w", err)
	}
	c := f.tracker.expect(p, want, k, time.Now())
	_, err = f.client.CoreV1().Pods(p.namespace()).Patch(ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "kubelet"}, "status")
	if err != nil {
		return fmt.Errorf("writing a Pod's status: %w", err)
	}
	f.tracker.answered(c, time.Now())
	return nil
}

// remove deletes a Pod; without grace it is gone at once.
func (f *fleet) remove(ctx context.Context, p *pod, grace int64, want appearance, k kind) error {
	c := f.tracker.expect(p, want, k, time.Now())
	err := f.client.CoreV1().Pods(p.namespace()).Delete(ctx, p.name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(grace)})
	if err != nil {
		return fmt.Errorf("deleting Pod: %w", err)
	}
	f.tracker.answered(c, time.Now())
	return nil
}

// terminate deletes a Pod with grace; its kubelet writes its last status when the containers have ended, and removes it.
func (f *fleet) terminate(ctx context.Context, p *pod) error {
	if err := f.remove(ctx, p, 30, unready, ofDeletion); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(terminationTime):
	}
	if err := f.writeStatus(ctx, p, p.lastStatus(time.Now()), absent, unmeasured); err != nil {
		return err
	}
	return f.remove(ctx, p, 0, absent, unmeasured)
}

// flip changes readiness so many times a second, evenly over all Pods: every other flip makes one unready, the others
// make those ready again that became unready a while before.
func (f *fleet) flip(ctx context.Context, flips, perSecond int) error {
	var pods []*pod
	for _, of := range f.pods {
		pods = append(pods, of...)
	}
	f.random.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	var operations []controlplane.Operation
	down := func(i int) {
		operations = append(operations, func(ctx context.Context) error { return f.setReady(ctx, pods[i%len(pods)], false) })
	}
	up := func(i int) {
		operations = append(operations, func(ctx context.Context) error { return f.setReady(ctx, pods[i%len(pods)], true) })
	}
	behind := min(len(pods)/2, 2*perSecond) // 4 s, as two periods of a probe
	for i := 0; len(operations) < flips; i++ {
		down(i)
		if i >= behind && len(operations) < flips {
			up(i - behind)
		}
	}
	return f.byClock(ctx, perSecond, operations)
}

// roll replaces all Pods of the first Service, one by one: each new one is ready before its old one goes.
func (f *fleet) roll(ctx context.Context, perSecond int) error {
	old := f.pods[0]
	f.pods[0] = nil
	operations := make([]controlplane.Operation, len(old))
	for i, p := range old {
		fresh := f.add(0)
		operations[i] = func(ctx context.Context) error {
			if err := f.bringUp(ctx, fresh); err != nil {
				return err
			}
			return f.terminate(ctx, p)
		}
	}
	return f.byClock(ctx, perSecond, operations)
}

// scale leaves so many Pods of the first Service, chosen at random. They all are told to end at once.
func (f *fleet) scale(ctx context.Context, to int) error {
	pods := f.pods[0]
	f.random.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	f.pods[0] = pods[:to]
	var operations, ends []controlplane.Operation
	for _, p := range pods[to:] {
		operations = append(operations, func(ctx context.Context) error { return f.remove(ctx, p, 30, unready, ofDeletion) })
		ends = append(ends, func(ctx context.Context) error {
			if err := f.writeStatus(ctx, p, p.lastStatus(time.Now()), absent, unmeasured); err != nil {
				return err
			}
			return f.remove(ctx, p, 0, absent, unmeasured)
		})
	}
	return errors.Join(controlplane.InParallel(ctx, operations), controlplane.InParallel(ctx, ends))
}

// removeAll deletes all Pods, without grace.
func (f *fleet) removeAll(ctx context.Context) error {
	var operations []controlplane.Operation
	for service, pods := range f.pods {
		for _, p := range pods {
			operations = append(operations, func(ctx context.Context) error { return f.remove(ctx, p, 0, absent, ofDeletion) })
		}
		f.pods[service] = nil
	}
	f.random.Shuffle(len(operations), func(i, j int) { operations[i], operations[j] = operations[j], operations[i] })
	return controlplane.InParallel(ctx, operations)
}

// endpointsRight compares the Endpoints objects with the Pods; unfinished says what is amiss. They are looked at but not
// watched: they are written at the same time as the slices, and watching would cost the API server as much again.
func (f *fleet) endpointsRight(ctx context.Context) (unfinished, err error) {
	for service, pods := range f.pods {
		object, err := f.client.CoreV1().Endpoints(namespaceOf(service)).Get(ctx, serviceName(service), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("Endpoints %s do not exist", serviceName(service)), nil
		}
		if err != nil {
			return nil, fmt.Errorf("getting Endpoints: %w", err)
		}
		shown := map[string]bool{}
		for _, subset := range object.Subsets {
			for _, a := range subset.Addresses {
				shown[a.IP] = true
			}
			for _, a := range subset.NotReadyAddresses {
				shown[a.IP] = false
			}
		}
		// Endpoints hold 1000 addresses; which ones is not compared.
		if len(shown) != min(len(pods), 1000) {
			return fmt.Errorf("Endpoints %s have %d addresses of %d Pods", serviceName(service), len(shown), len(pods)), nil
		}
		for _, p := range pods {
			if isReady, ok := shown[p.ip]; len(pods) <= 1000 && (!ok || isReady != p.isReady) {
				return fmt.Errorf("Endpoints %s do not show %s as they have to", serviceName(service), p.name), nil
			}
		}
	}
	return nil, nil
}
