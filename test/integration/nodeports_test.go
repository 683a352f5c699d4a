package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// nodePorted makes the client's view of a Service of type NodePort, without a number where port is 0.
func nodePorted(ns, name string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}}}
}

func portOf(svc *corev1.Service) int32 { return svc.Spec.Ports[0].NodePort }

// unused returns the first of so many ports in a row that no Service has: those of the tests before are still there.
func unused(t *testing.T, size int32) (first int32) {
	t.Helper()
	var services corev1.ServiceList
	if err := suite.admin.List(t.Context(), &services); err != nil {
		t.Fatal(err)
	}
	taken := map[int32]bool{}
	for _, svc := range services.Items {
		taken[svc.Spec.HealthCheckNodePort] = true
		for _, port := range svc.Spec.Ports {
			taken[port.NodePort] = true
		}
	}
	first = 31000
	for port := first; port < first+size; port++ {
		if taken[port] {
			first = port + 1
		}
	}
	return first
}

// pool makes a pool of a namespace with so many ports, until the test ends. Its Services go then, too.
func pool(t *testing.T, ns string, size int32, change func(*fairleadv1alpha1.NodePortPoolSpec)) (p *fairleadv1alpha1.NodePortPool, first int32) {
	t.Helper()
	first = unused(t, size)
	p = &fairleadv1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "pool-of-" + ns}, Spec: fairleadv1alpha1.NodePortPoolSpec{
		Ranges:            []fairleadv1alpha1.PortRange{{First: first, Last: first + size - 1}},
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}}}}
	if change != nil {
		change(&p.Spec)
	}
	create(t, p)
	t.Cleanup(func() {
		remove(t, p)
		var services corev1.ServiceList
		if err := suite.admin.List(context.Background(), &services, client.InNamespace(ns)); err != nil {
			t.Error(err)
		}
		for i := range services.Items {
			remove(t, &services.Items[i])
		}
	})
	return p, first
}

// counts waits for numbers in the status of a pool.
func counts(t *testing.T, p *fairleadv1alpha1.NodePortPool, used, reserved int32) {
	t.Helper()
	eventually(t, waitFor, fmt.Sprintf("%d used and %d reserved ports", used, reserved), func() error {
		get(t, "", p.Name, p)
		if s := p.Status; s.Used == nil || *s.Used != used || *s.Reserved != reserved {
			return fmt.Errorf("the status is %+v", s)
		}
		return nil
	})
}

// setEnforcement changes a pool, and waits until the policy stands or is gone.
func setEnforcement(t *testing.T, p *fairleadv1alpha1.NodePortPool, to fairleadv1alpha1.Enforcement) {
	t.Helper()
	get(t, "", p.Name, p)
	before := p.DeepCopy()
	p.Spec.Enforcement = to
	if err := suite.admin.Patch(t.Context(), p, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitFor, "the policy of "+string(to), func() error {
		for _, object := range []client.Object{&admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}} {
			err := suite.admin.Get(t.Context(), client.ObjectKey{Name: "fairlead-node-ports"}, object)
			if stands := err == nil; stands != (to == fairleadv1alpha1.EnforcementEnforce) {
				return fmt.Errorf("%T: stands: %t (%w)", object, stands, err)
			}
		}
		return nil
	})
}

// TestNodePorts: with config/default alone, Services get the ports of their namespace's pool, a dry run leaves nothing, and
// while no manager answers Services are made as ever, unless a pool is enforced.
func TestNodePorts(t *testing.T) {
	needsAPIServer(t)
	address := freeAddress(t)
	installWebhook(t, "default", address)
	run := func() *manager { return startManager(t, "--leader-elect=false", "--webhook-bind-address="+address) }
	m := run()
	ns, other := namespace(t), namespace(t)
	p, begin := pool(t, ns, 10, func(s *fairleadv1alpha1.NodePortPoolSpec) { s.Sticky = true })
	mine := func(port int32) bool { return begin <= port && port < begin+10 }
	counts(t, p, 0, 0)

	numbered := func(name string) {
		t.Helper()
		eventually(t, waitFor, "a port of the pool", func() error {
			dry := nodePorted(ns, name, 0)
			if err := suite.admin.Create(t.Context(), dry, client.DryRunAll); err != nil {
				return err
			}
			if !mine(portOf(dry)) {
				return fmt.Errorf("it is %d", portOf(dry))
			}
			return nil
		})
	}
	numbered("dry")
	for i := range 10 { // were a dry run remembered, the pool would be full now
		numbered(fmt.Sprint("dry", i))
	}
	svc := nodePorted(ns, "cart", 0)
	create(t, svc)
	had := portOf(svc)
	if !mine(had) {
		t.Errorf("it got %d, not of its pool", had)
	}
	free := func(n int32) int32 { return begin + (had-begin+n)%10 } // the n-th after it
	counts(t, p, 1, 0)
	remove(t, svc)
	counts(t, p, 0, 1)
	svc = nodePorted(ns, "cart", 0)
	create(t, svc)
	if portOf(svc) != had {
		t.Errorf("it came back with %d, had %d", portOf(svc), had)
	}
	foreign := nodePorted(other, "foreign", 0)
	create(t, foreign)
	remove(t, foreign) // it may have been one that is named below

	// While nobody answers, the API server numbers.
	if err := m.stop(t); err != nil {
		t.Fatal(err)
	}
	create(t, nodePorted(ns, "without", free(1)))
	random := nodePorted(ns, "random", 0)
	create(t, random)
	remove(t, random)

	m = run()
	setEnforcement(t, p, fairleadv1alpha1.EnforcementEnforce)
	eventually(t, waitFor, "a refusal that names the pool's ranges", func() error {
		err := suite.admin.Create(t.Context(), nodePorted(other, "intruder", free(2)), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "node ports of Service "+other+"/intruder") {
			return fmt.Errorf("it was answered with %w", err)
		}
		return nil
	})
	if err := m.stop(t); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitFor, "a refusal by the policy", func() error {
		err := suite.admin.Create(t.Context(), nodePorted(other, "intruder", free(2)), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "fairlead-node-ports") {
			return fmt.Errorf("it was answered with %w", err)
		}
		return nil
	})
	create(t, nodePorted(ns, "named", free(3)))

	run()
	setEnforcement(t, p, fairleadv1alpha1.EnforcementBestEffort)
	eventually(t, waitFor, "an end of refusals", func() error {
		return suite.admin.Create(t.Context(), nodePorted(other, "intruder", free(2)), client.DryRunAll)
	})
}

// door is an address that leads to one manager's webhooks, and later to another's.
type door struct {
	net.Listener
	to atomic.Pointer[string]
}

func newDoor(t *testing.T, to string) *door {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	d := &door{Listener: listener}
	d.to.Store(&to)
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go d.lead(in)
		}
	}()
	return d
}

func (d *door) lead(in net.Conn) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", *d.to.Load())
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// installTwice has the API server ask both of two addresses for numbers, each for about half of the Services, and neither for
// those called unasked.
func installTwice(t *testing.T, first, second string) {
	t.Helper()
	objects, err := kustomize("config/default")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() != "MutatingWebhookConfiguration" {
			continue
		}
		hooks := &admissionv1.MutatingWebhookConfiguration{}
		convert(t, object, hooks)
		one := hooks.Webhooks[0]
		hooks.Webhooks = nil
		for i, address := range []string{first, second} {
			w := *one.DeepCopy()
			w.Name = fmt.Sprintf("half-%d.fairlead.dev", i)
			w.TimeoutSeconds = new(patientWebhook)
			w.ClientConfig = admissionv1.WebhookClientConfig{URL: new("https://" + address + *one.ClientConfig.Service.Path)}
			w.MatchConditions = append(w.MatchConditions, admissionv1.MatchCondition{Name: "half",
				Expression: fmt.Sprintf("object.metadata.name != 'unasked' && object.metadata.name.matches('[02468]$') == %t", i == 0)})
			hooks.Webhooks = append(hooks.Webhooks, w)
		}
		create(t, hooks)
		t.Cleanup(func() { remove(t, hooks) })
	}
}

// TestNodePortReplicas: two managers answer at the same time, of which one leads and is killed while 32 clients create
// Services. All get a port of their pool, none that of another, and those that are made again have their own.
func TestNodePortReplicas(t *testing.T) {
	needsAPIServer(t)
	addresses := [2]string{freeAddress(t), freeAddress(t)}
	doors := [2]*door{newDoor(t, addresses[0]), newDoor(t, addresses[1])}
	installTwice(t, doors[0].Addr().String(), doors[1].Addr().String())
	before := holder(t)
	leader := startManager(t, "--webhook-bind-address="+addresses[0])
	newHolder(t, before)
	startManager(t, "--webhook-bind-address="+addresses[1])

	const clients, each, spare = 32, 5, 20
	ns := namespace(t)
	p, begin := pool(t, ns, clients*each+spare, func(s *fairleadv1alpha1.NodePortPoolSpec) { s.Sticky = true })
	mine := func(port int32) bool { return begin <= port && port < begin+clients*each+spare }
	setEnforcement(t, p, fairleadv1alpha1.EnforcementEnforce)
	for _, name := range []string{"probe-0", "probe-1"} {
		eventually(t, waitFor, "answers of both", func() error {
			svc := nodePorted("default", name, begin)
			if err := suite.admin.Create(t.Context(), svc, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "node ports of Service") {
				return fmt.Errorf("%s was answered with %w", name, err)
			}
			return nil
		})
	}

	eventually(t, waitFor, "a refusal by the policy", func() error {
		err := suite.admin.Create(t.Context(), nodePorted("default", "unasked", begin), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "fairlead-node-ports") {
			return fmt.Errorf("it was answered with %w", err)
		}
		return nil
	})

	var made atomic.Int32
	half := make(chan struct{})
	var all sync.WaitGroup
	problems := make(chan error, clients)
	insist := func(svc *corev1.Service) error {
		for end := time.Now().Add(waitFor); ; {
			try := svc.DeepCopy()
			err := suite.admin.Create(t.Context(), try)
			switch {
			case err == nil:
				*svc = *try
				return nil
			case time.Now().After(end):
				return fmt.Errorf("creating %s: %w", svc.Name, err)
			// Chosen by both at the same time, or numbered by nobody while one of them was killed.
			case apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
			default:
				return err
			}
		}
	}
	for i := range clients {
		all.Go(func() {
			for j := range each {
				if err := insist(nodePorted(ns, fmt.Sprintf("s-%d-%d", i, j), 0)); err != nil {
					problems <- err
					return
				}
				if made.Add(1) == clients*each/2 {
					close(half)
				}
			}
		})
	}
	select {
	case <-half:
		leader.kill(t)
		expire(t)
		doors[0].to.Store(&addresses[1])
	case <-time.After(waitFor):
		t.Error("the first half was not made")
	}
	all.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	var services corev1.ServiceList
	if err := suite.admin.List(t.Context(), &services, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	seen := map[int32]string{}
	for i := range services.Items {
		svc := &services.Items[i]
		if port := portOf(svc); !mine(port) || seen[port] != "" {
			t.Errorf("%s has %d, as has %q", svc.Name, port, seen[port])
		}
		seen[portOf(svc)] = svc.Name
	}
	if len(seen) != clients*each {
		t.Fatalf("%d Services have ports, want %d", len(seen), clients*each)
	}
	// The one that is left leads now, and gives names their ports back.
	counts(t, p, clients*each, 0)
	for i := range 10 {
		svc := services.Items[i]
		remove(t, &svc)
	}
	counts(t, p, clients*each-10, 10)
	for i := range 10 {
		svc := nodePorted(ns, services.Items[i].Name, 0)
		if err := insist(svc); err != nil {
			t.Fatal(err)
		}
		if portOf(svc) != portOf(&services.Items[i]) {
			t.Errorf("%s had %d and comes back with %d", svc.Name, portOf(&services.Items[i]), portOf(svc))
		}
	}
	setEnforcement(t, p, fairleadv1alpha1.EnforcementBestEffort)
}

// nodePortsClear returns the condition that programs listen on a Service's node ports; nil: none.
func nodePortsClear(t *testing.T, svc *corev1.Service) *metav1.Condition {
	t.Helper()
	get(t, svc.Namespace, svc.Name, svc)
	return meta.FindStatusCondition(svc.Status.Conditions, fairleadv1alpha1.ConditionNodePortsClear)
}
