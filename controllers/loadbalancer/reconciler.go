// Package loadbalancer gives Services of type LoadBalancer their load balancers, through the contract of package cloud,
// and takes them away again.
//
// It decides which class, and so which provider, serves a Service; it holds the finalizer, the LoadBalancerRecord, the
// Service's status and the events. What a balancer consists of is the provider's business; what has to be created,
// changed or deleted, and in which order, is decided in package cloud.
package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// FieldManager of everything that this controller applies.
const FieldManager = "fairlead-loadbalancer"

// Providers finds a provider by name. *cloud.Providers is one.
type Providers interface {
	Get(name string) (cloud.Provider, error)
}

// Reconciler gives Services their load balancers.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// APIReader reads past the cache, before anything is deleted that nobody owns. SetupWithManager sets it where it is
	// nil.
	APIReader client.Reader
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Providers of the cloud. Required.
	Providers Providers
	// ClusterID is part of the mark on everything that is made in a cloud. Required.
	ClusterID string
	// DefaultProvider serves Services without a class where no class is the default. Empty: nobody does. Not heeded in
	// coexist mode.
	DefaultProvider string
	// Coexist says that somebody else serves Services without a class: only Services of our classes are ours.
	Coexist bool
	// Concurrency is how many Services are worked on at once. 0: 4.
	Concurrency int
	// Resync is how often everything in a cloud is listed, to find what others changed, a tenth more or less. 0: 10
	// minutes.
	Resync time.Duration
	// InjectGates serves the webhook that gives Pods their readiness gates, by the manager's webhook server.
	InjectGates bool
	// OrphanGrace is for how long something has to be seen without its Service before it is an orphan. 0: 10 minutes.
	OrphanGrace time.Duration

	// fresh are Services as we left them, since the cache may still show them as they were before.
	fresh freshServices
	// last is what was *written of each record, by the Service's UID, since the cache may still hold the one before.
	last sync.Map
	// gone are the UIDs of Services that the API server does not have any more, of which a record is left.
	gone sync.Map
	// What is remembered of Services and of clouds between passes.
	ledger *ledger
	sweeps *sweeps
	// Services that send to Pods, and the caches that those need.
	pods     podTargets
	follower follower
	// sightings of orphans, by provider: a map by cloud.Ref, of the only worker that sweeps it.
	sightings sync.Map
	// wake has a Service get a pass, wakeNodes the targets of all brought to the nodes, wakeSweep a provider swept after
	// a while, wakeGates the Pods looked at that wait for a Service.
	wake      func(types.NamespacedName, priority)
	wakeNodes func()
	wakeSweep func(provider string, after time.Duration)
	wakeGates func(service types.NamespacedName)
}

// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch;patch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=loadbalancerclasses,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=fairlead.dev,resources=loadbalancerclasses/status,verbs=patch
// +kubebuilder:rbac:groups=fairlead.dev,resources=loadbalancerrecords,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the balancer of one Service what the Service asks for, or releases it.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	view, err := r.observe(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.followPods(ctx, view); err != nil {
		return ctrl.Result{}, err
	}
	if view.stale() {
		// A record of an earlier Service of this name: that one comes first.
		return r.quietly(r.releaseStale(ctx, view))
	}
	switch {
	case view.service == nil, view.binding == nil:
		return r.quietly(ctrl.Result{}, r.disown(ctx, view))
	case view.wanted():
		return r.quietly(r.exclusively(ctx, view, view.service.UID, view.binding.provider, r.ensure))
	default:
		return r.quietly(r.exclusively(ctx, view, view.service.UID, view.binding.provider, r.release))
	}
}

// exclusively does a pass with the Service's entry, unless somebody works on it, who then sees to it that there is one
// later.
func (r *Reconciler) exclusively(ctx context.Context, v *view, uid types.UID, provider string,
	pass func(context.Context, *view, *entry) (ctrl.Result, error)) (ctrl.Result, error) {
	e := r.ledger.begin(uid, v.name, provider, v.record != nil)
	if e == nil {
		return ctrl.Result{}, nil
	}
	defer func() {
		// Without the finalizer there is nothing of it in the cloud.
		if !e.looked && (v.service == nil || v.service.UID != uid || !hasFinalizer(v.service)) {
			r.ledger.forget(uid)
		}
		r.end(e)
	}()
	return pass(ctx, v, e)
}

// quietly turns conflicts, and the deletion of what was to be written, which the next pass resolves by itself, into a
// short wait. What a provider says is not about our writes, though its cloud can be an API server, too.
func (r *Reconciler) quietly(result ctrl.Result, err error) (ctrl.Result, error) {
	if _, ofCloud := errors.AsType[*cloud.Error](err); ofCloud {
		return result, err
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{}, nil // no record, no balancer: the Service is about to be deleted, and that wakes us
	}
	return result, err
}

// view is what one pass sees.
type view struct {
	name    types.NamespacedName
	service *corev1.Service              // nil: gone
	record  *v1alpha1.LoadBalancerRecord // nil: none
	// retained is the record of an earlier Service of the name, which left its balancer behind; nil: there is none.
	retained *v1alpha1.LoadBalancerRecord
	// takesBackFrom is the UID of that Service where this one asks for its balancer.
	takesBackFrom types.UID
	classes       []v1alpha1.LoadBalancerClass
	binding       *binding // nil: the Service is not ours
	toPods        bool
	// What it sends to, read once nobody else works on the Service: what was sent last must not be newer. Slices are nil where it
	// does not send to Pods.
	nodes  []*corev1.Node
	slices []*discoveryv1.EndpointSlice
}

func (v *view) wanted() bool {
	return v.service.Spec.Type == corev1.ServiceTypeLoadBalancer && v.service.DeletionTimestamp == nil &&
		!v.binding.releaseOnly
}

// stale reports whether the record belongs to a Service that is gone.
func (v *view) stale() bool {
	return v.record != nil && v.record.Status.ServiceUID != "" &&
		(v.service == nil || v.service.UID != v.record.Status.ServiceUID)
}

// observe reads everything that a pass needs, from the cache.
func (r *Reconciler) observe(ctx context.Context, name types.NamespacedName) (*view, error) {
	v := &view{name: name}
	service, record := &corev1.Service{}, &v1alpha1.LoadBalancerRecord{}
	if err := r.Client.Get(ctx, name, service); err == nil {
		v.service = r.fresh.or(service)
	} else if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading the Service: %w", err)
	}
	if err := r.Client.Get(ctx, name, record); err == nil {
		v.record = record
		if v.stale() && retained(record) {
			v.record, v.retained = nil, record // kept for people; a new Service of the name writes over it
		}
	} else if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading the LoadBalancerRecord: %w", err)
	}
	if v.service == nil {
		r.fresh.forget(name)
		return v, nil
	}
	var classes v1alpha1.LoadBalancerClassList
	if err := r.Client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	v.classes = classes.Items
	v.binding = bind(v.service, v.record, v.classes, r.Coexist, r.DefaultProvider)
	if v.binding != nil {
		v.binding.heed(v.service)
	}
	return v, nil
}

// hold has our finalizer and the mark on the Service, or, without a mark, neither; it writes nothing where that is so.
// NotFound: the Service is gone.
func (r *Reconciler) hold(ctx context.Context, svc *corev1.Service, mark string) error {
	if (mark != "") == hasFinalizer(svc) && svc.Annotations[v1alpha1.AnnotationServedBy] == mark {
		return nil
	}
	changed := svc.DeepCopy()
	if mark == "" {
		changed.Finalizers = withoutFinalizer(changed.Finalizers)
		delete(changed.Annotations, v1alpha1.AnnotationServedBy)
	} else {
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationServedBy, mark)
		if !hasFinalizer(svc) {
			changed.Finalizers = append(changed.Finalizers, v1alpha1.FinalizerLoadBalancer)
		}
	}
	patch := client.MergeFromWithOptions(svc, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("changing the finalizer of the Service: %w", err)
	}
	*svc = *changed
	r.fresh.keep(changed)
	return nil
}
