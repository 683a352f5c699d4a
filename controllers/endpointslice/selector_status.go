package endpointslice

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// outcome is what a pass came to for one EndpointSelector.
type outcome struct {
	// refused says why it is not accepted; nil: it is.
	refused *refusal
	// problem says why the slices could not be written; nil: they were.
	problem *refusal
	// choice and census are nil where the EndpointSelector could not be read.
	choice *choice
	census *census
	// serving is what is in the slices, nil where nothing is of this EndpointSelector; waiting Pods are left out for
	// want of their node.
	serving *endpoints.Serving
	waiting int
}

// statusOf returns the status of an EndpointSelector after a pass, given the one before.
func statusOf(es *v1alpha1.EndpointSelector, last *v1alpha1.EndpointSelectorStatus, o outcome, now metav1.Time) *v1alpha1.EndpointSelectorStatus {
	status := &v1alpha1.EndpointSelectorStatus{}
	if o.census != nil {
		status.Pods = count(len(o.census.pods))
		if o.choice.network != "" {
			status.ExcludedAddresses = count(o.census.excluded)
		}
	}
	if o.serving != nil {
		status.Endpoints, status.ReadyEndpoints = count(o.serving.Published), count(o.serving.Ready)
		if o.refused == nil && o.serving.Any {
			status.ActiveGroup = o.choice.groupName(o.serving.Rank)
		}
	}
	status.Conditions = []metav1.Condition{
		newCondition(es, last, now, v1alpha1.ConditionAccepted, o.accepted(es)),
		newCondition(es, last, now, v1alpha1.ConditionProgrammed, o.programmed()),
	}
	return status
}

func count(n int) *int32 { return new(int32(min(n, 1<<31-1))) }

// newCondition returns a condition. It is True where the reason is the name of a good one.
func newCondition(es *v1alpha1.EndpointSelector, last *v1alpha1.EndpointSelectorStatus, now metav1.Time, name string, is refusal) metav1.Condition {
	c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: is.reason, Message: is.message,
		ObservedGeneration: es.Generation, LastTransitionTime: now}
	if is.reason == v1alpha1.ReasonAccepted || is.reason == v1alpha1.ReasonProgrammed {
		c.Status = metav1.ConditionTrue
	}
	if before := meta.FindStatusCondition(last.Conditions, name); before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return c
}

func (o *outcome) accepted(es *v1alpha1.EndpointSelector) refusal {
	if o.refused != nil {
		return *o.refused
	}
	return refusal{v1alpha1.ReasonAccepted, fmt.Sprintf("it has Service %q", es.Spec.Fairlead.ServiceName)}
}

// programmed is the first thing that is not as it should be.
func (o *outcome) programmed() refusal {
	switch {
	case o.refused != nil && o.serving != nil && o.serving.Published > 0:
		return refusal{v1alpha1.ReasonNotAccepted, fmt.Sprintf("not accepted, see Accepted; the %s that were there stay while their Pods do",
			plural(o.serving.Published, "endpoint"))}
	case o.refused != nil:
		return refusal{v1alpha1.ReasonNotAccepted, "not accepted, see Accepted; there are no endpoints of it"}
	case o.problem != nil:
		return *o.problem
	case o.census.excluding > 0:
		return refusal{v1alpha1.ReasonAddressesExcluded, fmt.Sprintf("%s of %s on network %q left out, since endpointSelector.allowedCIDRs "+
			"of the manager's configuration does not hold them or they can be no Pod's: take the Pods to a network that it holds, or ask the administrator to add its range; %s",
			addresses(o.census.excluded), plural(o.census.excluding, "Pod"), o.choice.network, o.serve())}
	}
	if missing := len(o.census.pods) - o.serving.Published - o.serving.Standby; missing > 0 {
		return refusal{v1alpha1.ReasonPodsLeftOut, o.census.leftOut(missing, o.waiting) + "; " + o.serve()}
	}
	return refusal{v1alpha1.ReasonProgrammed, o.serve()}
}

func addresses(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

// serve says in words what serves.
func (o *outcome) serve() string {
	text := fmt.Sprintf("%s, %d ready", plural(o.serving.Published, "endpoint"), o.serving.Ready)
	switch name := o.choice.groupName(o.serving.Rank); {
	case name == "":
	case !o.serving.Any:
		text += ", no group has a ready one"
	default:
		text += fmt.Sprintf(", group %s is active", name)
	}
	if o.serving.Standby > 0 {
		text += fmt.Sprintf(", %s standing by", plural(o.serving.Standby, "Pod"))
	}
	return text
}

// urgent says whether a status has to be written at once. Numbers that have changed alone, and the messages that hold
// them, can wait for more.
func urgent(last, next *v1alpha1.EndpointSelectorStatus) bool {
	if last.ActiveGroup != next.ActiveGroup || len(last.Conditions) != len(next.Conditions) {
		return true
	}
	for i := range next.Conditions {
		a, b := meta.FindStatusCondition(last.Conditions, next.Conditions[i].Type), &next.Conditions[i]
		if a == nil || a.Status != b.Status || a.Reason != b.Reason || a.ObservedGeneration != b.ObservedGeneration {
			return true
		}
	}
	return false
}

// Reasons of events on EndpointSelectors, beside those of their conditions.
const (
	EventActiveGroup   = "ActiveGroupChanged"
	EventNoActiveGroup = "NoActiveGroup"
)

// occurrence is an event to record.
type occurrence struct {
	warning bool
	reason  string
	message string
}

// changes returns what is worth an event between two statuses.
func changes(last, next *v1alpha1.EndpointSelectorStatus) []occurrence {
	var all []occurrence
	for _, name := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		was, is := meta.FindStatusCondition(last.Conditions, name), meta.FindStatusCondition(next.Conditions, name)
		if is.Reason == v1alpha1.ReasonNotAccepted || was != nil && was.Reason == is.Reason || was == nil && is.Status == metav1.ConditionTrue {
			continue
		}
		if is.Status == metav1.ConditionFalse {
			all = append(all, occurrence{true, is.Reason, is.Message})
		} else if name == v1alpha1.ConditionAccepted || was.Reason != v1alpha1.ReasonNotAccepted {
			all = append(all, occurrence{false, is.Reason, is.Message})
		}
	}
	accepted := meta.IsStatusConditionTrue(last.Conditions, v1alpha1.ConditionAccepted) && meta.IsStatusConditionTrue(next.Conditions, v1alpha1.ConditionAccepted)
	switch {
	case last.ActiveGroup == next.ActiveGroup || !accepted:
	case next.ActiveGroup == "":
		all = append(all, occurrence{true, EventNoActiveGroup, fmt.Sprintf("group %s serves no more, and no other group has a ready endpoint", last.ActiveGroup)})
	default:
		all = append(all, occurrence{false, EventActiveGroup, fmt.Sprintf("group %s serves", next.ActiveGroup)})
	}
	return all
}
