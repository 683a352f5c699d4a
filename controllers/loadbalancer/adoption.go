package loadbalancer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// adopting reports whether a balancer that is not the Service's yet may become so: until then what another controller
// published for the Service is right, or nobody published anything.
func adopting(out cloud.Outcome) bool {
	left := out.Left
	if slices.ContainsFunc(left.Operations, func(op cloud.Operation) bool { return op.Action == cloud.ActionAdopt }) {
		return true
	}
	// With nothing of the Service's own in the cloud, what is waited for is what it is to adopt.
	return len(out.Observed) == 0 && (len(left.Operations) == 0 && len(left.Waiting) > 0 ||
		slices.ContainsFunc(left.Blocked, func(b cloud.Block) bool {
			return b.Reason == cloud.BlockAdoption || b.Reason == cloud.BlockOffered
		}))
}

// eventsOfAdoption tells of balancers that became the Service's, or were let go. The balancer itself counts, not its parts.
func (r *Reconciler) eventsOfAdoption(svc *corev1.Service, done []cloud.Operation) {
	for _, op := range done {
		switch {
		case op.Action == cloud.ActionAdopt && (op.Resource.Lent && op.Resource.ID == op.Resource.Adopted || op.Observed.Adopted == op.Resource.ID):
			r.event(svc, corev1.EventTypeNormal, EventAdopted, actionEnsure, "Adopted the load balancer "+op.Resource.ID)
		case op.Action == cloud.ActionUpdate && op.Observed.Lent && !op.Resource.Lent && op.Observed.ID == op.Observed.Adopted:
			r.event(svc, corev1.EventTypeNormal, EventReleased, actionDelete,
				"Let go of the load balancer "+op.Observed.ID+", which was adopted and stays in the cloud")
		}
	}
}

// leftByOthers tells what another controller made for a Service that goes before anybody decided about it, or before a manager saw it:
// the finalizer can be that controller's. Whoever had a balancer of ours was asked when that was made.
func (r *Reconciler) leftByOthers(ctx context.Context, v *view, e *entry, owner cloud.Owner) ([]string, error) {
	// What was deleted is not in the record any more by the time that the cloud is looked at once more.
	if last := r.lastStatus(v); !hasFinalizer(v.service) || owner.Group != "" || e.had || last != nil && len(last.Resources) > 0 {
		return nil, nil
	}
	if options, _ := cloud.ParseOptions(v.service, v.binding.class); options.Adopt == v1alpha1.AdoptNone {
		return nil, nil // decided, whatever else is wrong
	}
	provider, err := r.Providers.Get(v.binding.provider)
	if err != nil || !provider.Capabilities().Adopt {
		return nil, err
	}
	offers, err := cloud.Offers(cloud.WithPriority(ctx, cloud.PriorityUrgent), provider, owner)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, f := range offers {
		left = append(left, fmt.Sprintf("balancer %s, which %s made for this Service", f.ID, f.MadeBy))
	}
	return left, nil
}

// eventLeft tells of it: that controller, if it still runs, or somebody by hand, has to see to it.
func (r *Reconciler) eventLeft(svc *corev1.Service, left []string) {
	if len(left) > 0 {
		r.event(svc, corev1.EventTypeWarning, EventLeft, actionDelete, "Left in the cloud, since it was not taken over: "+strings.Join(left, "; "))
	}
}

// observeAdoption adds to the options of a Service that names a balancer what the decision about it needs: whether an earlier
// Service of its name left that behind, and the names of all Services. One that lives, by a copy of its record, left nothing.
func (r *Reconciler) observeAdoption(ctx context.Context, v *view, caps cloud.Capabilities, options *cloud.Options) error {
	names := options.Adopt != "" && options.Adopt != v1alpha1.AdoptNone
	v.takesBackFrom = r.leftBehind(v, names)
	if !names && v.takesBackFrom == "" {
		return nil
	}
	var list corev1.ServiceList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	services := make(map[string]string, len(list.Items))
	for i := range list.Items {
		services[string(list.Items[i].UID)] = list.Items[i].Namespace + "/" + list.Items[i].Name
	}
	if services[string(v.takesBackFrom)] != "" {
		v.takesBackFrom = ""
	}
	if caps.TakeBack {
		options.Retained = r.ownedBy(v.takesBackFrom)
	}
	if names {
		options.Services = services
	}
	return nil
}

// ownedBy is the mark of a Service; empty where there is no UID.
func (r *Reconciler) ownedBy(uid types.UID) cloud.OwnerID {
	if uid == "" {
		return ""
	}
	return cloud.Owner{ClusterID: r.ClusterID, ServiceUID: string(uid)}.ID()
}

// leftBehind returns the UID of the earlier Service of the name that left something behind under Retain, by the record that the
// manager wrote of it, of this class, where this one names a balancer; empty: none did. Which one it names is not asked: that can be
// corrected, and what it names has the mark of that Service or has not. A taking back that was begun goes on.
func (r *Reconciler) leftBehind(v *view, names bool) types.UID {
	if last := r.lastStatus(v); last != nil && last.Provider == v.binding.provider {
		return last.TakesBackFrom
	}
	if v.retained == nil || !names {
		return ""
	}
	status := &v.retained.Status
	if status.Provider != v.binding.provider || status.LoadBalancerClass != v.binding.className {
		return ""
	}
	return status.ServiceUID
}

// handBack makes the record of a Service that goes, and has nothing in the cloud, again that of the earlier Service from which it did
// not take back what that left there. False: there is nothing of that one, or it was not asked for.
func (r *Reconciler) handBack(ctx context.Context, name types.NamespacedName, last *written) (bool, error) {
	if last == nil || last.status.TakesBackFrom == "" {
		return false, nil
	}
	provider, err := r.Providers.Get(last.status.Provider)
	if err != nil {
		return false, err
	}
	owner := cloud.Owner{ClusterID: r.ClusterID, ServiceUID: string(last.status.TakesBackFrom), Namespace: name.Namespace, Name: name.Name}
	out, err := cloud.Converge(cloud.WithPriority(ctx, cloud.PriorityUrgent), provider, owner, nil, cloud.Options{Policy: v1alpha1.PolicyPlan})
	if err != nil || len(out.Observed) == 0 {
		return false, err
	}
	next := &written{uid: last.uid, status: *last.status.DeepCopy()}
	next.status.ServiceUID, next.status.TakesBackFrom = last.status.TakesBackFrom, ""
	next.status.ServiceFingerprint, next.status.Drift = "", nil
	if err := r.recordRetained(ctx, name, next, out.Observed); err != nil {
		return false, err
	}
	r.last.Delete(last.status.ServiceUID) // the Service itself has no record any more
	return true, nil
}
