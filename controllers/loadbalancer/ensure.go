package loadbalancer

import (
	"cmp"
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// ensure makes the balancer what the Service asks for. Whatever cannot be done leaves the balancer that runs as it is,
// but for its targets, which follow the nodes.
func (r *Reconciler) ensure(ctx context.Context, v *view, e *entry) (ctrl.Result, error) {
	provider, err := r.Providers.Get(v.binding.provider)
	if cloud.IsClass(err, cloud.RetryAfter) { // a plugin that is not there
		return r.report(ctx, v, e, failed(err, cloud.Outcome{}))
	}
	if err != nil {
		res := refused(v1alpha1.ReasonClassNotAccepted, err.Error())
		res.requeue = untilStart(err)
		return r.report(ctx, v, e, res)
	}
	if err := r.readBackends(ctx, v); err != nil {
		return ctrl.Result{}, err
	}
	spec, options, err := cloud.BuildSpec(cloud.Input{ClusterID: r.ClusterID, Service: v.service, Class: v.binding.targeted(),
		Nodes: v.nodes, Slices: v.slices, Waiting: r.waiting(ctx, v.service), Capabilities: provider.Capabilities()})
	desired, wrong := provider.Desired(spec)
	if unasked(provider, wrong) {
		return r.report(ctx, v, e, failed(wrong, cloud.Outcome{}))
	}
	if v.binding.refusal != "" {
		return r.keep(ctx, v, e, provider, spec, desired, refused(v1alpha1.ReasonClassNotAccepted, v.binding.refusal))
	}
	if wrong != nil {
		// Whoever puts things right wants to hear all of it.
		wrong = provider.Classify(wrong)
		if cloud.IsClass(err, cloud.UserError) {
			wrong = fmt.Errorf("%w; %w", err, wrong)
		}
		err = wrong
	}
	if err != nil {
		return r.keep(ctx, v, e, provider, spec, desired, failed(err, cloud.Outcome{}))
	}
	if err := r.observeAdoption(ctx, v, provider.Capabilities(), &options); err != nil {
		return ctrl.Result{}, err
	}
	// Neither a record nor the finalizer: no manager has begun with it yet.
	options.New = r.lastStatus(v) == nil && !hasFinalizer(v.service)
	// The record names the class and the provider, and the finalizer holds the Service, before the first call.
	v.binding.remember(options)
	if err := r.writeBinding(ctx, v); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.hold(ctx, v.service, v.binding.mark(v.service)); err != nil {
		// A Service that is gone gets nothing, since nothing would hold it until that is deleted again. Its record,
		// whose creation we hear of, is released like any other that was left behind.
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.sweepOnce(v.binding.provider)
	e.announced = false
	last := r.lastCondition(v)
	if last == nil {
		r.eventEnsuring(v.service)
	}
	if res, done := r.withoutLook(v, e, provider, spec, desired, options); done {
		if res == nil {
			return ctrl.Result{}, nil
		}
		return r.report(ctx, v, e, *res)
	}
	if e.drift {
		ctx = cloud.WithPriority(ctx, cloud.PriorityDrift)
	}
	options.Unshown = e.unshown(provider.Capabilities())
	out, err := cloud.Converge(ctx, provider, spec.Owner, desired, options)
	e.drift = false
	e.remember(spec, options, out, cmp.Or(err, ctx.Err()))
	e.saw(v.service)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	res := concluded(out, err, options.Policy, last)
	res.drift, res.podTargets = e.found, spec.PodTargets
	if backendsOf(spec).count() == 0 {
		res.warnings = append(res.warnings, unavailable(spec.PodTargets))
	}
	return r.report(ctx, v, e, res)
}

// unasked reports whether an error of Desired says nothing about the Spec: the provider, a plugin, could not be asked. What it
// returned beside it must not be taken for what the Service wants.
func unasked(p cloud.Provider, err error) bool {
	return err != nil && p.Classify(err).Class != cloud.UserError
}

// withoutLook does the pass of a Service that has what it asks for, and of which is known what there is in the cloud: from
// the sweep, when the manager has just started, or from the last pass, where the Service is the same since. So a restart
// costs no call for each Service, nor does a pass that somebody else than the Service's owner caused. False: the cloud
// has to be looked at. No result: there is nothing to be done now, since the sweep, or whoever sends targets, sees to it.
func (r *Reconciler) withoutLook(v *view, e *entry, p cloud.Provider, spec cloud.Spec, desired []cloud.Resource, options cloud.Options) (*result, bool) {
	if last := r.lastCondition(v); last == nil || last.Status != metav1.ConditionTrue || options.Policy == v1alpha1.PolicyPlan {
		return nil, false
	}
	var observed []cloud.Resource
	switch {
	case !e.looked:
		seen := r.sweeps.of(v.binding.provider)
		if seen == nil {
			return nil, true
		}
		if seen.owners == nil {
			return nil, false
		}
		observed = seen.owners[spec.Owner.ID()]
		if v.record != nil {
			e.noteSince(v, observed, seen.at, p.Capabilities().ReadLag)
		}
	case e.settled && !e.drift && e.same(v.service):
		var err error
		if observed, err = e.asObserved(p); err != nil {
			return nil, false
		}
	default:
		return nil, false
	}
	if options.Adopts(p.Capabilities(), spec.Owner, desired, observed) {
		return nil, false
	}
	out, err := cloud.Compare(spec.Owner, desired, observed, options)
	if err != nil || !out.Left.TargetsOnly() || len(out.Left.Blocked)+len(out.Left.Waiting) > 0 {
		return nil, false
	}
	e.remember(spec, options, out, nil)
	e.saw(v.service)
	if len(out.Left.Operations) > 0 {
		r.wakeTargets(e)
		return nil, true
	}
	res := ensured(out, options.Policy)
	return &res, true
}

// keep leaves the balancer of a Service that cannot be served as it is, and says why; only its targets follow the nodes,
// as far as the provider can tell what they are.
func (r *Reconciler) keep(ctx context.Context, v *view, e *entry, p cloud.Provider, spec cloud.Spec, desired []cloud.Resource, res result) (ctrl.Result, error) {
	if v.record == nil {
		return r.report(ctx, v, e, res) // it never had one, or another class did
	}
	if err := r.hold(ctx, v.service, v.binding.mark(v.service)); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	options := cloud.Options{Policy: v.binding.policy, TargetsOnly: true}
	out, err := cloud.Converge(ctx, p, spec.Owner, desired, options)
	e.remember(spec, options, out, cmp.Or(err, ctx.Err()))
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if err != nil {
		res.requeue = max(cloud.Classify(err).After, waitConflict)
	} else {
		res.outcome, res.observed = out, true
	}
	return r.report(ctx, v, e, res)
}
