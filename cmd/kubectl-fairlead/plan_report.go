package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// States of a plan.
const (
	// stateDone: the cloud has what the Service asks for.
	stateDone = "Done"
	// statePlanned: there are steps, and none is taken, because the policy is Plan.
	statePlanned = "Planned"
	// stateUnderWay: there are steps, and the manager is at them.
	stateUnderWay = "UnderWay"
	// stateHeldUp: something is in the way; steps may be missing.
	stateHeldUp = "HeldUp"
	// stateOutdated: the manager has not looked at the Service since it was changed.
	stateOutdated = "Outdated"
	// stateUnserved: nobody of ours serves it, or has seen it yet.
	stateUnserved = "Unserved"
)

// planEntry is what `plan -o json` prints of one Service.
type planEntry struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     string `json:"state"`
	// Class is the name of the LoadBalancerClass; empty where the manager's configuration serves the Service.
	Class    string          `json:"class,omitempty"`
	Provider string          `json:"provider,omitempty"`
	Policy   v1alpha1.Policy `json:"policy,omitempty"`
	// Reason and Message are those of the condition Ready.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Steps in the order in which they are taken.
	Steps []v1alpha1.PlannedOperation `json:"steps"`
	// IfReplaced are the steps that would be taken if the replacement were allowed that is in the way; empty where none is.
	IfReplaced []v1alpha1.PlannedOperation `json:"ifReplaced,omitempty"`
	Drift      *v1alpha1.Drift             `json:"drift,omitempty"`
}

// planOf reads a plan. Nil: there is no record; classes are not known. None of them is changed.
func planOf(svc *corev1.Service, record *v1alpha1.LoadBalancerRecord, classes []v1alpha1.LoadBalancerClass) planEntry {
	e := planEntry{Namespace: svc.Namespace, Name: svc.Name, State: stateUnserved, Steps: []v1alpha1.PlannedOperation{}}
	if record == nil || record.Status.ServiceUID != svc.UID {
		// It was refused, or is somebody else's.
		if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c != nil {
			e.State, e.Reason, e.Message = stateHeldUp, c.Reason, c.Message
		} else if classes != nil {
			e.Message = unserved(svc, classes)
		}
		return e
	}
	status := record.Status
	e.Class, e.Provider, e.Policy, e.Drift = status.LoadBalancerClass, status.Provider, status.Policy, status.Drift
	e.Steps, e.IfReplaced = append(e.Steps, status.Plan...), status.ReplacementPlan
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		e.State = stateUnderWay // it has just been bound
		return e
	}
	e.Reason, e.Message = ready.Reason, ready.Message
	switch {
	case status.ServiceFingerprint != cloud.Fingerprint(svc):
		e.State = stateOutdated
	case ready.Reason == v1alpha1.ReasonRetained, ready.Status == metav1.ConditionTrue && len(e.Steps) == 0:
		e.State = stateDone
	case ready.Reason == v1alpha1.ReasonPlanned:
		e.State = statePlanned
	case ready.Reason == v1alpha1.ReasonPending, ready.Reason == v1alpha1.ReasonDeleting, ready.Status == metav1.ConditionTrue:
		e.State = stateUnderWay
	default:
		e.State = stateHeldUp
	}
	return e
}

// unserved says why nobody of ours serves a Service, as far as its class tells; empty: it tells of nothing wrong.
func unserved(svc *corev1.Service, classes []v1alpha1.LoadBalancerClass) string {
	class := cloud.SelectClass(svc, classes, false)
	if class == nil {
		if named := svc.Spec.LoadBalancerClass; named != nil {
			return fmt.Sprintf("No LoadBalancerClass has the className %q: either another controller has, or there is a typing mistake", *named)
		}
		return "It names no class, and no LoadBalancerClass is the default: the manager's cloud.provider serves it, or another controller, or nobody"
	}
	if c := meta.FindStatusCondition(class.Status.Conditions, v1alpha1.ConditionAccepted); c != nil && c.Status != metav1.ConditionTrue {
		return fmt.Sprintf("LoadBalancerClass %q is not accepted (%s): %s", class.Name, c.Reason, c.Message)
	}
	return ""
}

func printPlans(w io.Writer, entries []planEntry, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		if entries == nil {
			entries = []planEntry{}
		}
		return encoder.Encode(entries)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "There is no Service of type LoadBalancer.")
		return err
	}
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := e.print(w); err != nil {
			return err
		}
	}
	return nil
}

var signs = map[string]string{"Create": "+", "Update": "~", "Delete": "-", "Adopt": "="}

func (e *planEntry) print(w io.Writer) error {
	fmt.Fprintf(w, "svc/%s in %s", e.Name, e.Namespace)
	if e.Provider != "" {
		fmt.Fprintf(w, " (provider %s, class %s, policy %s)", e.Provider, cmp.Or(e.Class, "-"), cmp.Or(string(e.Policy), "-"))
	}
	fmt.Fprintf(w, ": %s\n", e.verdict())
	switch {
	case e.State == stateHeldUp, e.State == stateOutdated && e.Message != "", e.Reason == v1alpha1.ReasonRetained:
		fmt.Fprintf(w, "  %s: %s\n", e.Reason, e.Message)
	case e.State == stateUnserved && e.Message != "":
		fmt.Fprintf(w, "  %s\n", e.Message)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printSteps(table, e.Steps)
	if len(e.IfReplaced) > 0 {
		fmt.Fprintf(table, "  With the annotation %s=%s:\n", v1alpha1.AnnotationReplacement, v1alpha1.ReplacementRecreate)
		printSteps(table, e.IfReplaced)
	}
	if d := e.Drift; d != nil && d.State == v1alpha1.DriftFound {
		fmt.Fprintf(table, "  Changed by somebody else, found %s:\n", d.FoundAt.UTC().Format(time.RFC3339))
		for _, r := range d.Resources {
			fmt.Fprintf(table, "  !\t%s/%s\t%s\n", r.Kind, r.Key, r.Difference)
		}
		if d.More > 0 {
			fmt.Fprintf(table, "  !\tand %d more\n", d.More)
		}
	}
	return table.Flush()
}

func printSteps(w io.Writer, steps []v1alpha1.PlannedOperation) {
	for _, s := range steps {
		fmt.Fprintf(w, "  %s %s\t%s/%s\t%s\n", signs[s.Action], s.Action, s.Kind, s.Key, s.Reason)
	}
}

// verdict is the state in words.
func (e *planEntry) verdict() string {
	steps, are := fmt.Sprintf("%d steps", len(e.Steps)), "are"
	if len(e.Steps) == 1 {
		steps, are = "1 step", "is"
	}
	switch e.State {
	case stateDone:
		if e.Reason == v1alpha1.ReasonRetained {
			return "nothing to do, what it had is retained in the cloud"
		}
		return "nothing to do, the cloud has what the Service asks for"
	case statePlanned:
		return steps + " would be taken; none is, because the policy is Plan"
	case stateUnderWay:
		return steps + " " + are + " being taken"
	case stateHeldUp:
		return "something is in the way"
	case stateOutdated:
		return "OUT OF DATE, the manager has not looked at the Service since it was changed: ask again"
	}
	return "no LoadBalancerRecord: it is not served by Fairlead, or the manager has not seen it yet"
}
