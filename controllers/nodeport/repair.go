package nodeport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// Two Services can have one node port although the API server hands each out once: written past it, by a backup that was
// restored into its storage or while its allocator was wrong. One of the two gets the other's packets.
//
// The older Service keeps the port (of two of one age the first by namespace and name). The other gets a new one if the
// first of its namespace's pools says Move, and a condition if not. Nothing of this is decided by the cache alone: both
// Services are read again, and the write carries the resourceVersion that was read, so that of two managers one writes
// and the other looks again.

// +kubebuilder:rbac:groups="",resources=services,verbs=get

// clash is a node port of a Service that an older one has.
type clash struct {
	port   int
	keeper portalloc.Key
}

// repair mends or reports every duplicate, and returns how long to wait before it is tried again; 0: nothing is left to
// try.
func (r *poolReconciler) repair(ctx context.Context, census *census, namespaces map[string]labels.Set) (time.Duration, error) {
	clashes := map[portalloc.Key][]clash{}
	var order []portalloc.Key
	for _, claim := range census.claims {
		for _, key := range claim.Services[1:] {
			if clashes[key] == nil {
				order = append(order, key)
			}
			clashes[key] = append(clashes[key], clash{claim.Port, claim.Services[0]})
		}
	}
	var again time.Duration
	var all []error // one that cannot be mended keeps no other from it
	for _, key := range order {
		wait, err := r.mend(ctx, key, clashes[key], namespaces[key.Namespace])
		again, all = max(again, wait), append(all, client.IgnoreNotFound(err))
	}
	return again, errors.Join(append(all, r.resolved(ctx, clashes))...)
}

// mend looks at one Service as the API server has it.
func (r *poolReconciler) mend(ctx context.Context, key portalloc.Key, clashes []clash, namespace labels.Set) (time.Duration, error) {
	svc := &corev1.Service{}
	if err := r.reader.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, svc); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	confirmed, err := r.confirm(ctx, svc, clashes)
	if err != nil || len(confirmed) == 0 {
		return 0, err
	}
	obstacle := obstacleTo(svc, confirmed)
	if obstacle == "" && !r.book.moves(namespace) {
		obstacle = "give this Service another one, or set duplicates to Move in the NodePortPool of its namespace"
	}
	if obstacle == "" {
		if obstacle, err = r.move(ctx, svc, confirmed, namespace); err != nil || obstacle == "" {
			return 0, err
		}
	}
	text := fmt.Sprintf("Service %s is older and keeps node port %d: %s", confirmed[0].keeper, confirmed[0].port, obstacle)
	return waitExhausted, r.reportUnique(ctx, svc, metav1.ConditionFalse, v1alpha1.ReasonDuplicate, text)
}

// confirm returns those of the clashes that are there in what the API server has, and whose keeper is still the one that
// keeps the port: it may have been made again since.
func (r *poolReconciler) confirm(ctx context.Context, svc *corev1.Service, clashes []clash) ([]clash, error) {
	var confirmed []clash
	for _, c := range clashes {
		keeper := &corev1.Service{}
		err := r.reader.Get(ctx, client.ObjectKey{Namespace: c.keeper.Namespace, Name: c.keeper.Name}, keeper)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading Service %s: %w", c.keeper, err)
		}
		if err == nil && portalloc.Precedes(keeper, svc) && slices.Contains(portalloc.PortsOf(keeper), c.port) &&
			slices.Contains(portalloc.PortsOf(svc), c.port) {
			confirmed = append(confirmed, c)
		}
	}
	return confirmed, nil
}

// obstacleTo says why a Service cannot get other ports, whoever wants it; "": nothing is in the way.
func obstacleTo(svc *corev1.Service, clashes []clash) string {
	switch {
	case svc.DeletionTimestamp != nil:
		return "this Service is being deleted"
	case slices.ContainsFunc(clashes, func(c clash) bool { return int(svc.Spec.HealthCheckNodePort) == c.port }):
		return "a healthCheckNodePort cannot be changed, delete this Service and create it again"
	}
	return ""
}

// moves reports whether the first pool of a namespace with those labels wants duplicates moved.
func (b *Book) moves(namespace labels.Set) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.pools, func(p pool) bool { return p.selector.Matches(namespace) })
	return i >= 0 && b.pools[i].move
}

// move gives a Service other node ports, and returns what keeps it from doing so.
func (r *poolReconciler) move(ctx context.Context, svc *corev1.Service, clashes []clash, namespace labels.Set) (string, error) {
	bare := svc.DeepCopy()
	for i := range bare.Spec.Ports {
		p := &bare.Spec.Ports[i]
		if slices.ContainsFunc(clashes, func(c clash) bool { return c.port == int(p.NodePort) }) {
			p.NodePort = 0
		}
	}
	chosen, err := r.book.assign(portalloc.Request{Service: bare, NodePorts: true}, namespace, r.intn)
	if full, ok := errors.AsType[*portalloc.ExhaustedError](err); ok {
		return full.Error(), nil
	} else if err != nil {
		return "", err
	}
	changed := bare
	chosen.Apply(changed)
	patch := client.MergeFromWithOptions(svc, client.MergeFromWithOptimisticLock{})
	err = r.client.Patch(ctx, changed, patch, client.FieldOwner(FieldManager))
	switch {
	case refused(err):
		// The promise stays: the next choice is another.
		return "the API server refused another: " + causes(err), nil
	case err != nil:
		r.book.withdraw(portalloc.KeyOf(svc))
		return "", fmt.Errorf("moving node ports: %w", err)
	}
	repairs.Inc()
	text := fmt.Sprintf("moved from node port %d, which Service %s has: clients of this Service need the new one", clashes[0].port, clashes[0].keeper)
	r.recorder.Eventf(changed, nil, corev1.EventTypeWarning, "NodePort"+v1alpha1.ReasonMoved, "RepairNodePorts", "%s", text)
	return "", r.reportUnique(ctx, changed, metav1.ConditionTrue, v1alpha1.ReasonMoved, text)
}

// resolved takes back what was said of Services that have no duplicate any more.
func (r *poolReconciler) resolved(ctx context.Context, clashes map[portalloc.Key][]clash) error {
	var services corev1.ServiceList
	if err := r.client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		svc := &services.Items[i]
		c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsUnique)
		if c == nil || c.Status == metav1.ConditionTrue || clashes[portalloc.KeyOf(svc)] != nil {
			continue
		}
		if err := r.reportUnique(ctx, svc, metav1.ConditionTrue, v1alpha1.ReasonUnique, "no other Service has its node ports"); err != nil {
			return err
		}
	}
	return nil
}

// reportUnique writes the condition where it differs, with an event when it became False.
func (r *poolReconciler) reportUnique(ctx context.Context, svc *corev1.Service, is metav1.ConditionStatus, reason, message string) error {
	became, err := applyCondition(ctx, r.client, r.book.now(), svc, FieldManager+"-repair",
		metav1.Condition{Type: v1alpha1.ConditionNodePortsUnique, Status: is, Reason: reason, Message: message})
	if err == nil && became && is == metav1.ConditionFalse {
		r.recorder.Eventf(svc, nil, corev1.EventTypeWarning, "NodePort"+reason, "RepairNodePorts", "%s", message)
	}
	return err
}

// applyCondition writes a condition of a Service where it differs, and reports whether its status did. manager is a field
// manager of the condition's own: an apply takes away what its manager does not name.
func applyCondition(ctx context.Context, c client.Client, now time.Time, svc *corev1.Service, manager string, want metav1.Condition) (became bool, err error) {
	have := meta.FindStatusCondition(svc.Status.Conditions, want.Type)
	since := metav1.NewTime(now).Rfc3339Copy()
	became = have == nil || have.Status != want.Status
	if !became {
		if have.Reason == want.Reason && have.Message == want.Message {
			return false, nil
		}
		since = have.LastTransitionTime
	}
	apply := corev1ac.Service(svc.Name, svc.Namespace).WithUID(svc.UID).WithStatus(corev1ac.ServiceStatus().WithConditions(
		metav1ac.Condition().WithType(want.Type).WithStatus(want.Status).WithReason(want.Reason).WithMessage(want.Message).
			WithObservedGeneration(svc.Generation).WithLastTransitionTime(since)))
	if err := c.Status().Apply(ctx, apply, client.FieldOwner(manager), client.ForceOwnership); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("applying the condition of Service %s: %w", portalloc.KeyOf(svc), err)
	}
	return became, nil
}
