package loadbalancer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// How long to wait for what nobody will tell us about.
const (
	waitPending  = 2 * time.Second // at first, see patience
	maxPending   = 30 * time.Second
	waitConflict = 30 * time.Second
	waitQuota    = time.Minute
	waitBlocked  = time.Minute
	waitPlugin   = 5 * time.Second
)

// untilStart is after how long a provider that did not start is asked for again; 0: never, since there is none of the name.
func untilStart(err error) time.Duration {
	switch {
	case errors.Is(err, cloud.ErrNoProvider):
		return 0
	case cloud.IsClass(err, cloud.RetryAfter): // a plugin that is not there
		return waitPlugin
	}
	return waitBlocked // what it lacks may come, and nobody tells
}

// result is what a pass came to, before anything of it is written.
type result struct {
	status          metav1.ConditionStatus
	reason, message string
	outcome         cloud.Outcome
	// observed: outcome says what there is in the cloud.
	observed bool
	// podTargets: the Service sends to Pods.
	podTargets bool
	// portsError is the reason of upstream's condition LoadBalancerPortsError; empty: none.
	portsError string
	// drift that the pass is to tell of, if the record does not know it yet; nil: none.
	drift *v1alpha1.Drift
	// requeue after this long; 0: when something changes. lasts: somebody has to put it right of whom nobody tells, so that it is
	// a longer wait the longer it is so, see wait.
	requeue time.Duration
	lasts   bool
	// err is retried with a growing delay; nil: not.
	err      error
	warnings []warning
}

// warning is an event beside the pass's own.
type warning struct{ reason, message string }

// refused is a pass that did not begin.
func refused(reason, message string) result {
	return result{status: metav1.ConditionFalse, reason: reason, message: message}
}

// ensured is a pass without an error.
func ensured(out cloud.Outcome, policy v1alpha1.Policy) result {
	r := result{status: metav1.ConditionFalse, outcome: out, observed: true}
	switch left := out.Left; {
	case len(left.Blocked) > 0:
		r.reason, r.requeue, r.lasts = v1alpha1.ReasonReplacementNeeded, waitBlocked, true
		r.message = cloud.Messages(left.Blocked)
		for _, b := range left.Blocked {
			switch b.Reason {
			case cloud.BlockReplacement:
			case cloud.BlockRefused:
				r.reason = v1alpha1.ReasonReplacementRefused
			case cloud.BlockAdoption:
				r.reason = v1alpha1.ReasonAdoptionRefused
			case cloud.BlockOffered:
				r.reason = v1alpha1.ReasonAdoptionOffered
			default:
				r.reason = v1alpha1.ReasonConflict
			}
		}
	case len(left.Operations) > 0 && policy == v1alpha1.PolicyPlan:
		r.reason = v1alpha1.ReasonPlanned
		r.message = fmt.Sprintf("%d operations are planned and none is done, because the policy is Plan", len(left.Operations))
	case !left.Empty():
		r.reason, r.message, r.requeue = v1alpha1.ReasonPending, "Waiting for the cloud", waitPending
		if len(left.Waiting) > 0 {
			r.message = "Waiting for " + strings.Join(left.Waiting, ", ")
		}
	default:
		r.status, r.reason, r.message = metav1.ConditionTrue, v1alpha1.ReasonEnsured, "The cloud has what the Service asks for"
	}
	return r
}

// failed is a pass that ended with an error, by its class.
func failed(err error, out cloud.Outcome) result {
	e := cloud.Classify(err)
	r := result{status: metav1.ConditionFalse, message: err.Error(), outcome: out, observed: len(out.Observed)+len(out.Done) > 0}
	switch e.Class {
	case cloud.UserError:
		r.reason = v1alpha1.ReasonInvalidService
		if errors.Is(err, cloud.ErrMixedProtocols) {
			r.portsError = "LoadBalancerMixedProtocolNotSupported"
		}
	case cloud.Pending:
		r.reason, r.requeue = v1alpha1.ReasonPending, waitPending
	case cloud.Quota:
		r.reason, r.requeue, r.lasts = v1alpha1.ReasonQuotaExceeded, waitQuota, true
	case cloud.Conflict:
		r.reason, r.requeue, r.lasts = v1alpha1.ReasonConflict, waitConflict, true
	case cloud.NotFound:
		// Gone between two calls: the next pass sees it.
		r.reason, r.requeue = v1alpha1.ReasonPending, waitPending
	case cloud.Throttled:
		r.reason, r.requeue, r.err = v1alpha1.ReasonThrottled, max(0, e.After), err
	case cloud.RetryAfter:
		r.reason, r.requeue, r.err = v1alpha1.ReasonCloudError, max(0, e.After), err
	default:
		r.reason, r.err = v1alpha1.ReasonCloudError, err
	}
	if r.requeue > 0 {
		r.err = nil
	}
	return r
}

// concluded is a pass with or without an error, after one that came to last. What is blocked stays so when the cloud is done
// with the rest, and somebody has to decide: that is said first.
func concluded(out cloud.Outcome, err error, policy v1alpha1.Policy, last *metav1.Condition) result {
	if err == nil {
		return ensured(out, policy)
	}
	r := failed(err, out)
	if len(out.Left.Blocked) == 0 || !cloud.IsClass(err, cloud.Pending) {
		switch {
		case r.requeue > 0 || r.err != nil:
		case out.Working || len(out.Left.Waiting) > 0:
			r.requeue = waiting(r, last) // a mistake in one thing does not leave another undone
		default:
			r.requeue, r.lasts = waitBlocked, true // it may be put right in the cloud, of which nobody tells
		}
		return r
	}
	observed := r.observed
	r = ensured(out, policy)
	r.observed, r.requeue, r.lasts = observed, waiting(r, last), false
	return r
}

// waiting is how long to wait for a cloud that is at something, beside what the result says.
func waiting(r result, last *metav1.Condition) time.Duration {
	if last != nil && last.Status == r.status {
		return patience(last.LastTransitionTime.Time)
	}
	return waitPending
}

// wait is after how long to look again after a pass that came to this: the longer it lasts the longer, since many Services can have the
// same thing in their way.
func (e *entry) wait(res *result) time.Duration {
	if !res.lasts {
		e.lasting = ""
		return res.requeue
	}
	if e.lasting != res.reason {
		e.lasting, e.since = res.reason, time.Now()
	}
	return max(res.requeue, min(time.Since(e.since)/4, maxRetry))
}

// patience is how long to wait for a cloud that has been at it since then: some deletions take minutes.
func patience(since time.Time) time.Duration {
	return min(max(time.Since(since)/4, waitPending), maxPending)
}

// planned turns operations into the record's form.
func planned(operations []cloud.Operation) []v1alpha1.PlannedOperation {
	var ops []v1alpha1.PlannedOperation
	for _, op := range operations {
		action := string(op.Action)
		if op.Action == cloud.ActionSyncTargets {
			action = string(cloud.ActionUpdate)
		}
		ops = append(ops, v1alpha1.PlannedOperation{Action: action, Kind: op.Resource.Kind, Key: op.Resource.Key, Reason: op.Reason})
	}
	return ops
}

// failure reports whether something stands in the way, rather than being under way.
func (r *result) failure() bool {
	switch r.reason {
	case v1alpha1.ReasonPending, v1alpha1.ReasonPlanned, v1alpha1.ReasonAdoptionOffered:
		return false
	}
	return r.status == metav1.ConditionFalse
}

// targetsFailed reports whether nothing but targets is left to be done.
func (r *result) targetsFailed() bool {
	for _, op := range r.outcome.Left.Operations {
		if op.Action != cloud.ActionSyncTargets {
			return false
		}
	}
	return len(r.outcome.Left.Operations) > 0
}
