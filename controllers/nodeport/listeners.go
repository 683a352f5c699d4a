package nodeport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// longestName is how much of a program's name is told: nodes are not trusted with more.
const longestName = 40

// teller says on Services which programs listen on their node ports.
type teller struct {
	client   client.Client
	recorder events.EventRecorder
}

// tell brings the condition of every Service in step with what was found. Where reports are missing nothing is taken back.
func (t *teller) tell(ctx context.Context, found []listener, missing bool) error {
	var services corev1.ServiceList
	if err := t.client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	byService := map[portalloc.Key][]listener{}
	for _, l := range found {
		key := portalloc.Key{Namespace: l.Namespace, Name: l.Service}
		byService[key] = append(byService[key], l)
	}
	var all []error
	count := 0
	for i := range services.Items {
		svc := &services.Items[i]
		listeners := on(svc, byService[portalloc.KeyOf(svc)])
		count += len(listeners)
		all = append(all, t.say(ctx, svc, listeners, missing))
	}
	listenersFound.Set(float64(count))
	return errors.Join(all...)
}

// on returns those of the listeners that are where the Service is served, sorted, each once. A node tells of what it sees,
// and may be late, or lie.
func on(svc *corev1.Service, listeners []listener) []listener {
	ports := portalloc.PortsOf(svc)
	var real []listener
	for _, l := range listeners {
		if slices.Contains(ports, l.Port) && l.HealthCheck == (l.Port == int(svc.Spec.HealthCheckNodePort)) {
			l.Protocol, l.Listener, l.Process = printable(l.Protocol), printable(l.Listener), printable(l.Process)
			real = append(real, l)
		}
	}
	slices.SortFunc(real, func(a, b listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.node, b.node),
			cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Process, b.Process))
	})
	return slices.Compact(real)
}

// printable is a text of a node as it can stand in a message.
func printable(text string) string {
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(clean); len(runes) > longestName {
		clean = string(runes[:longestName])
	}
	return clean
}

// say writes the condition of one Service where it differs, with an event when it became False.
func (t *teller) say(ctx context.Context, svc *corev1.Service, listeners []listener, missing bool) error {
	have := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsClear)
	want := metav1.Condition{Type: v1alpha1.ConditionNodePortsClear, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonClear,
		Message: "no program listens on its node ports any more"}
	switch {
	case len(listeners) > 0:
		want.Status, want.Reason, want.Message = metav1.ConditionFalse, v1alpha1.ReasonListener, message(listeners)
	case have == nil || have.Status == metav1.ConditionTrue || missing:
		return nil
	}
	became, err := applyCondition(ctx, t.client, time.Now(), svc, FieldManager+"-listeners", want)
	if err == nil && became && want.Status == metav1.ConditionFalse {
		t.recorder.Eventf(svc, nil, corev1.EventTypeWarning, "NodePort"+want.Reason, "CheckNodePorts", "%s", want.Message)
	}
	return err
}

// message says what listens where, and what to do.
func message(listeners []listener) string {
	texts := make([]string, len(listeners))
	var served, checks bool
	for i, l := range listeners {
		port := fmt.Sprintf("%d/%s", l.Port, l.Protocol)
		if served, checks = served || !l.HealthCheck, checks || l.HealthCheck; l.HealthCheck {
			port = fmt.Sprintf("healthCheckNodePort %d", l.Port)
		}
		texts[i] = fmt.Sprintf("%s on node %s (%s, %s)", port, l.node, cmp.Or(l.Process, "unknown program"), l.Listener)
	}
	text := "programs on nodes listen on ports of this Service: " + some(texts)
	if served {
		text += "; what comes to a node port goes to the Service and not to them"
	}
	if checks {
		text += "; load balancers ask them, and not the node agent, whether the Service has endpoints there"
	}
	return text + "; give the Service other ports, or the programs"
}
