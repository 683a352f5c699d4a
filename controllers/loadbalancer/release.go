package loadbalancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// release takes away what a Service has in the cloud, whether or not anything is found there, then the finalizer, then
// the record. Under Retain it stays, with the record of it; that there is nothing, so that nothing has to be recorded, the cloud says.
func (r *Reconciler) release(ctx context.Context, v *view, e *entry) (ctrl.Result, error) {
	retains := v.binding.policy == v1alpha1.PolicyRetain
	if last := r.lastStatus(v); retains && last != nil && len(last.Resources) > 0 {
		return ctrl.Result{}, r.retain(ctx, v, nil)
	}
	last, recorded := r.lastCondition(v), v.record != nil || r.lastStatus(v) != nil
	if !recorded { // the Service alone says how far it is
		last = meta.FindStatusCondition(v.service.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
	}
	// One that was refused and never held had nothing to delete, and one that is held no more has been told of: the cache can still
	// show its record.
	announce := last != nil && hasFinalizer(v.service) && !retains
	if announce && last.Reason != v1alpha1.ReasonDeleting && !e.announced {
		e.announced = true
		r.event(v.service, corev1.EventTypeNormal, EventDeleting, actionDelete, "Deleting the load balancer")
	}
	owner := cloud.OwnerOf(r.ClusterID, v.service)
	owner.Service = v.service // An Opaque provider needs it, even to delete.
	options := cloud.Options{Policy: v.binding.policy}
	if last := r.lastStatus(v); last != nil {
		options.Retained = r.ownedBy(last.TakesBackFrom)
	}
	out, err := r.clear(ctx, e, v.binding.provider, owner, options)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	r.eventsOfAdoption(v.service, out.Done)
	if retains && err == nil && len(out.Observed) > 0 {
		return ctrl.Result{}, r.retain(ctx, v, out.Observed)
	}
	var left []string
	if err == nil && out.Left.Empty() {
		left, err = r.leftByOthers(ctx, v, e, owner)
	}
	if err == nil && out.Left.Empty() {
		r.eventLeft(v.service, left)
		return ctrl.Result{}, r.released(ctx, v, announce)
	}
	res := ensured(out, v.binding.policy)
	if err != nil {
		res = failed(err, out)
		if res.requeue == 0 && res.err == nil {
			res.err = err // not even a user's mistake ends a release
		}
	}
	if res.reason == v1alpha1.ReasonPending && last != nil && last.Reason == v1alpha1.ReasonDeleting {
		res.requeue = patience(last.LastTransitionTime.Time)
	}
	failure := res.failure() && !errors.Is(err, errUnconfirmed) // to look twice is no failure
	if retains {
		res.message = messageLooking + res.message
	}
	res.message = cut(res.message, maxMessage)
	res.reason = v1alpha1.ReasonDeleting
	res.requeue = e.wait(&res)
	changed := last == nil || last.Message != res.message
	if err := r.writeReleasing(ctx, v, res, newCondition(v.service, last, res)); err != nil {
		return ctrl.Result{}, err
	}
	if failure && err != nil && changed {
		r.event(v.service, corev1.EventTypeWarning, EventDeleteFailed, actionDelete, res.message)
	}
	if res.err != nil {
		return ctrl.Result{}, fmt.Errorf("deleting the load balancer: %w", res.err)
	}
	return ctrl.Result{RequeueAfter: res.requeue}, nil
}

// writeReleasing says how far a release is: in the record, or, where there is none, on the Service. The mark goes before a
// condition there: with that, and without the mark, nobody would know who served it.
func (r *Reconciler) writeReleasing(ctx context.Context, v *view, res result, condition metav1.Condition) error {
	svc := v.service
	if hasFinalizer(svc) {
		if err := r.hold(ctx, svc, v.binding.mark(svc)); err != nil {
			return err
		}
	}
	if v.record != nil || r.lastStatus(v) != nil {
		return r.writeRecord(ctx, v, recordStatus(r.lastStatus(v), v, res, condition))
	}
	return r.writeStatus(ctx, svc, svc.Status.LoadBalancer.Ingress, conditionsOf(condition, ""))
}

// clear wants nothing of an owner; under Retain it looks what there is. That nothing is left counts only once the cloud has had the time
// to show what was made last, perhaps by a manager before this one: until then it is errUnconfirmed, with the time to wait.
func (r *Reconciler) clear(ctx context.Context, e *entry, name string, owner cloud.Owner, options cloud.Options) (cloud.Outcome, error) {
	provider, err := r.Providers.Get(name)
	if err != nil {
		return cloud.Outcome{}, err
	}
	ctx = cloud.WithPriority(ctx, cloud.PriorityUrgent)
	retains := options.Policy == v1alpha1.PolicyRetain
	if retains {
		options.Policy = v1alpha1.PolicyPlan
	}
	out, err := cloud.Converge(ctx, provider, owner, nil, options)
	if retains {
		out.Left = cloud.Plan{}
	}
	e.remember(cloud.Spec{Owner: owner}, options, out, cmp.Or(err, ctx.Err()))
	e.settled, e.seen = false, nil
	e.had = e.had || len(out.Observed)+len(out.Done) > 0
	lag := provider.Capabilities().ReadLag
	if err == nil && out.Left.Empty() && (!retains || len(out.Observed) == 0) && time.Since(e.touched) < lag {
		return out, &cloud.Error{Class: cloud.RetryAfter, After: lag - time.Since(e.touched), Err: errUnconfirmed}
	}
	return out, err
}

var errUnconfirmed = errors.New("nothing is left to be seen: looking once more")

// released forgets a Service of which nothing is left in the cloud. The finalizer goes before the record: without the
// record nobody could tell any more who has to release it. The record of an earlier Service, which has something left, stays.
func (r *Reconciler) released(ctx context.Context, v *view, announce bool) error {
	last := r.lastWritten(v)
	kept, err := r.handBack(ctx, v.name, last)
	if err != nil {
		return err
	}
	if err := r.hold(ctx, v.service, ""); client.IgnoreNotFound(err) != nil {
		return err
	}
	if announce {
		r.event(v.service, corev1.EventTypeNormal, EventDeleted, actionDelete, "Deleted the load balancer")
	}
	if err := r.letGo(ctx, v); err != nil || kept || last == nil {
		return err
	}
	return r.deleteRecord(ctx, v.name, last.uid)
}

// retained reports whether the record of a Service that is gone says that something stays. One that was written before the first call,
// and not after, says nothing.
func retained(record *v1alpha1.LoadBalancerRecord) bool {
	return record.Status.Policy == v1alpha1.PolicyRetain && len(record.Status.Resources) > 0
}

// retain lets the Service go and leaves the cloud, and the record, which then is nobody's, as they are. The record says why:
// else what a Service that is gone has left would be deleted. It gets what was observed, if anything was.
func (r *Reconciler) retain(ctx context.Context, v *view, observed []cloud.Resource) error {
	if last := r.lastStatus(v); last != nil {
		status := *last.DeepCopy()
		status.ServiceFingerprint = cloud.Fingerprint(v.service)
		if len(observed) > 0 {
			showObserved(&status, observed)
		}
		r.setRetained(&status, v.service)
		if err := r.writeRecord(ctx, v, status); err != nil {
			return err
		}
	}
	return r.letGo(ctx, v)
}

// recordRetained has the record of a Service that is gone say that what was observed of it stays.
func (r *Reconciler) recordRetained(ctx context.Context, name types.NamespacedName, next *written, observed []cloud.Resource) error {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	showObserved(&next.status, observed)
	r.setRetained(&next.status, svc)
	return r.applyRecord(ctx, svc, next)
}

// setRetained has the status of a record say that what a Service has stays though that is gone.
func (r *Reconciler) setRetained(status *v1alpha1.LoadBalancerRecordStatus, svc *corev1.Service) {
	message := messageRetained
	if p, err := r.Providers.Get(status.Provider); err == nil && p.Capabilities().TakeBack {
		message += messageTakeBack
	}
	status.Policy, status.Plan, status.ReplacementPlan = v1alpha1.PolicyRetain, nil, nil
	last := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	status.Conditions = []metav1.Condition{newCondition(svc, last, refused(v1alpha1.ReasonRetained, message))}
}

// letGo takes everything of ours off the Service. The condition goes last: without a record it is what tells that the finalizer
// is ours.
func (r *Reconciler) letGo(ctx context.Context, v *view) error {
	svc := v.service
	if err := r.hold(ctx, svc, ""); client.IgnoreNotFound(err) != nil {
		return err
	}
	if svc.DeletionTimestamp == nil {
		if err := r.writeStatus(ctx, svc, nil, nil); err != nil {
			return err
		}
	}
	r.last.Delete(svc.UID)
	r.ledger.forget(svc.UID)
	return nil
}

// disown takes our conditions off a Service that was refused and is not ours; one that names a class of ours which there is not is
// told so. One that was served is held by the finalizer where nobody knows by whom, and so where something of it stands: the record is
// gone, and its class is, too, or it names none any more. It says so.
func (r *Reconciler) disown(ctx context.Context, v *view) error {
	svc := v.service
	if svc == nil {
		return nil
	}
	last := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
	ingress := svc.Status.LoadBalancer.Ingress
	switch {
	case !hasFinalizer(svc) && namesNone(svc):
		return r.refuse(ctx, svc, v1alpha1.ReasonClassNotFound, EventSyncFailed, actionEnsure, fmt.Sprintf(
			"no LoadBalancerClass has the className %q: make one, or have the Service made anew with another loadBalancerClass", *svc.Spec.LoadBalancerClass))
	case last == nil:
		return nil
	case !hasFinalizer(svc):
		return r.writeStatus(ctx, svc, ingress, nil)
	}
	message := messageLost
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		message = messageLostClass
	}
	return r.refuse(ctx, svc, v1alpha1.ReasonClassNotAccepted, EventDeleteFailed, actionDelete, message)
}

// namesNone reports whether a Service of the type, which nobody serves, names a class that would be ours.
func namesNone(svc *corev1.Service) bool {
	class := svc.Spec.LoadBalancerClass
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil && class != nil &&
		strings.HasPrefix(*class, v1alpha1.ClassPrefix)
}

// refuse has a Service without a record say why it is not served, by its condition and, once, an event.
func (r *Reconciler) refuse(ctx context.Context, svc *corev1.Service, reason, event, action, message string) error {
	last := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
	condition := newCondition(svc, last, refused(reason, message))
	if err := r.writeStatus(ctx, svc, svc.Status.LoadBalancer.Ingress, conditionsOf(condition, "")); err != nil {
		return err
	}
	if last == nil || last.Message != message {
		r.event(svc, corev1.EventTypeWarning, event, action, message)
	}
	return nil
}

const (
	messageRetained = "by policy Retain all of this stays in the cloud, though its Service is gone or needs no load balancer any more: " +
		"once this record is deleted, it can be deleted as orphans"
	// messageLooking begins what is said while the cloud does not say what is to be retained.
	messageLooking  = "looking whether the cloud has anything that policy Retain keeps: "
	messageTakeBack = "; a Service of this name and class takes it back that names the balancer's id (status.resources) in the annotation " +
		v1alpha1.AnnotationAdopt + " from the start"
	messageLost = "the LoadBalancerClass that served this Service is gone, and so is the LoadBalancerRecord: create the class again, " +
		"or take the finalizer off once nothing is left in the cloud"
	messageLostClass = "this Service had a load balancer, and the LoadBalancerRecord that says of which class is gone: make it type LoadBalancer " +
		"of that class again, which finds what there is in the cloud, and then what it is to be, " +
		"or take the finalizer " + v1alpha1.FinalizerLoadBalancer + " off once nothing is left there"
)

func hasCondition(svc *corev1.Service) bool {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady) != nil
}

// deleteRecord deletes this very record. Conflict: there is another one of the name by now.
func (r *Reconciler) deleteRecord(ctx context.Context, name types.NamespacedName, uid types.UID) error {
	record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	if err := r.Client.Delete(ctx, record, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the LoadBalancerRecord: %w", err)
	}
	return nil
}

// releaseStale deletes the record of a Service that is not there, after what that left behind if it lives nowhere else: what is known of
// one that does is not touched.
func (r *Reconciler) releaseStale(ctx context.Context, v *view) (ctrl.Result, error) {
	// The cache shows a Service gone before it shows that its record is, too: then all of it has been deleted. Or that the record was
	// written last of all: then what it says is retained.
	var record v1alpha1.LoadBalancerRecord
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(v.record), &record)
	if apierrors.IsNotFound(err) || err == nil && record.UID != v.record.UID {
		r.gone.Delete(v.record.Status.ServiceUID)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading the LoadBalancerRecord: %w", err)
	}
	if v.record = &record; !v.stale() || retained(&record) {
		return ctrl.Result{}, nil // the cache shows it later, of which we hear
	}
	status := v.record.Status
	switch lives, err := r.lives(ctx, v.name, status.ServiceUID); {
	case err != nil:
		return ctrl.Result{}, err
	case lives != nil && *lives == v.name:
		return ctrl.Result{RequeueAfter: time.Second}, nil // it is the record's own, which the cache does not show yet
	case lives != nil:
		ctrl.LoggerFrom(ctx).Info("Deleting the copy of a LoadBalancerRecord, whose Service is another one", "serviceUID", status.ServiceUID)
		return ctrl.Result{}, r.deleteRecord(ctx, v.name, v.record.UID)
	}
	return r.exclusively(ctx, v, status.ServiceUID, status.Provider, r.releaseLeft)
}

// releaseLeft takes away what a Service left behind that is gone though our finalizer should have held it.
func (r *Reconciler) releaseLeft(ctx context.Context, v *view, e *entry) (ctrl.Result, error) {
	status := v.record.Status
	owner := cloud.Owner{ClusterID: r.ClusterID, ServiceUID: string(status.ServiceUID), Namespace: v.record.Namespace, Name: v.record.Name}
	out, err := r.clear(ctx, e, status.Provider, owner, cloud.Options{Policy: status.Policy, Retained: r.ownedBy(status.TakesBackFrom)})
	switch c := cloud.Classify(err); {
	case err == nil:
	case c.Class == cloud.Pending, c.After > 0:
		return ctrl.Result{RequeueAfter: max(c.After, waitPending)}, nil
	default:
		return ctrl.Result{}, fmt.Errorf("deleting the load balancer of a Service that is gone: %w", err)
	}
	if !out.Left.Empty() {
		return ctrl.Result{RequeueAfter: waitPending}, nil
	}
	if status.Policy == v1alpha1.PolicyRetain && len(out.Observed) > 0 {
		r.ledger.forget(status.ServiceUID)
		return ctrl.Result{}, r.recordRetained(ctx, v.name, &written{uid: v.record.UID, status: *status.DeepCopy()}, out.Observed)
	}
	kept, err := r.handBack(ctx, v.name, &written{uid: v.record.UID, status: status})
	if err != nil {
		return ctrl.Result{}, err
	}
	r.last.Delete(status.ServiceUID)
	r.gone.Delete(status.ServiceUID)
	r.ledger.forget(status.ServiceUID)
	if kept {
		return ctrl.Result{}, nil
	}
	if err := r.deleteRecord(ctx, v.name, v.record.UID); err != nil {
		return ctrl.Result{}, err
	}
	// The deletion of the record brings the Service back, if there is one of the name.
	return ctrl.Result{}, nil
}

// lives returns the name of the Service with the UID, wherever it is; nil: it is gone. A record that was copied, or restored into
// another namespace, names the Service that it was copied from. What the cache does not show it may not show yet, as that of a manager
// that has just started. So the API server is asked: for the one of the record's own name at first, since that is asked for again until the
// cache shows it; then for all, without what is in them, and once for each that is gone, since it comes back with another UID.
func (r *Reconciler) lives(ctx context.Context, own types.NamespacedName, uid types.UID) (*types.NamespacedName, error) {
	if _, gone := r.gone.Load(uid); gone {
		return nil, nil
	}
	var cached corev1.ServiceList
	if err := r.Client.List(ctx, &cached, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	for i := range cached.Items {
		if svc := &cached.Items[i]; svc.UID == uid {
			return new(client.ObjectKeyFromObject(svc)), nil
		}
	}
	// Lists, since the manager has no right to get one.
	ofOwn := []client.ListOption{client.InNamespace(own.Namespace), client.MatchingFields{metav1.ObjectNameField: own.Name}}
	for _, which := range [][]client.ListOption{ofOwn, nil} {
		var services metav1.PartialObjectMetadataList
		services.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceList"))
		if err := r.APIReader.List(ctx, &services, which...); err != nil {
			return nil, fmt.Errorf("listing Services: %w", err)
		}
		for i := range services.Items {
			if svc := &services.Items[i]; svc.UID == uid {
				return new(client.ObjectKeyFromObject(svc)), nil
			}
		}
	}
	r.gone.Store(uid, nil)
	return nil, nil
}
