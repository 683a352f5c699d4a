package loadbalancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// An orphan is what carries the mark of this cluster, and of Services all of which are gone, or have no balancer of the provider any
// more, and have no record either. One that was seen for less than the grace time is none: a cache may be behind. Orphans are reported,
// and deleted only when somebody asks by id.

// maxOrphans is how many a class's status holds.
const maxOrphans = 100

// orphanage is what is known of the orphans of one provider.
type orphanage struct {
	provider string
	// classes of the provider, the oldest first: that one lists the orphans, all of them can be asked to delete some.
	classes []v1alpha1.LoadBalancerClass
	// resources that are orphans, sorted, and since when each of them is seen.
	resources []cloud.Resource
	since     map[cloud.Ref]time.Time
	// fresh is how many of them nobody was told of yet.
	fresh int
	// ripe is after how long the next one becomes an orphan; 0: there is none. young are the ids of what may become one.
	ripe  time.Duration
	young []string
}

// sighting is what is remembered of something that is, or may become, an orphan.
type sighting struct {
	since time.Time
	told  bool
}

// refOf tells resources apart by kind and id.
func refOf(r *cloud.Resource) cloud.Ref { return cloud.Ref{Kind: r.Kind, ID: r.ID} }

// tendOrphans looks for orphans among what a sweep found, tells of them, and deletes those that somebody asked to have
// deleted. It returns after how long it wants to be called again; 0: with the next sweep.
func (r *sweepReconciler) tendOrphans(ctx context.Context, name string, p cloud.Provider, found []cloud.Resource) (time.Duration, error) {
	classes, err := r.classesOf(ctx, name)
	if err != nil {
		return 0, err
	}
	known, err := knownOwners(ctx, r.Client, name)
	if err != nil {
		return 0, err
	}
	o := r.gather(name, classes, orphansOf(r.ClusterID, known, found), time.Now())
	asked, err := r.askedIDs(ctx, o)
	if err != nil {
		return 0, err
	}
	var wait time.Duration
	var failure error
	if len(asked) > 0 {
		wait, failure = r.deleteAsked(ctx, p, o, asked)
	}
	orphansFound.WithLabelValues(name).Set(float64(len(o.resources)))
	if o.fresh > 0 {
		r.tellOfOrphans(ctx, o)
	}
	if err := r.listOrphans(ctx, o); err != nil {
		return 0, errors.Join(failure, err)
	}
	return cmp.Or(wait, o.ripe), failure
}

// classesOf returns the classes of a provider, the oldest first.
func (r *Reconciler) classesOf(ctx context.Context, provider string) ([]v1alpha1.LoadBalancerClass, error) {
	var list v1alpha1.LoadBalancerClassList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	return slices.DeleteFunc(cloud.ClassesByAge(list.Items), func(c v1alpha1.LoadBalancerClass) bool { return c.Spec.Provider != provider }), nil
}

// knownOwners returns the UIDs of Services that have, or may have, something of a provider's: those that a record of the provider is still
// there of and, where their own record does not say who serves them, those that have, or want, a balancer. What was retained of one that
// wants none any more, or another provider's, is nobody's once its record is gone.
func knownOwners(ctx context.Context, from client.Reader, provider string) (map[types.UID]bool, error) {
	known := map[types.UID]bool{}
	var records v1alpha1.LoadBalancerRecordList
	if err := from.List(ctx, &records); err != nil {
		return nil, fmt.Errorf("listing LoadBalancerRecords: %w", err)
	}
	recorded := map[types.NamespacedName]types.UID{} // a copy of a record elsewhere says nothing of who serves the Service by now
	for i := range records.Items {
		status := &records.Items[i].Status
		recorded[client.ObjectKeyFromObject(&records.Items[i])] = status.ServiceUID
		for _, uid := range []types.UID{status.ServiceUID, status.TakesBackFrom} {
			known[uid] = known[uid] || status.Provider == provider || status.Provider == ""
		}
	}
	var services corev1.ServiceList
	if err := from.List(ctx, &services); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		svc := &services.Items[i]
		if recorded[client.ObjectKeyFromObject(svc)] != svc.UID {
			known[svc.UID] = known[svc.UID] || svc.Spec.Type == corev1.ServiceTypeLoadBalancer || hasFinalizer(svc)
		}
	}
	return known, nil
}

// orphansOf returns the resources none of whose owners is known, sorted; what nobody owns is one if it carries the mark of a
// group of this cluster. What the cloud deletes already is none.
func orphansOf(clusterID string, known map[types.UID]bool, found []cloud.Resource) []cloud.Resource {
	var orphans []cloud.Resource
	for _, r := range found {
		gone := len(r.Owners) > 0 || r.Shared
		for _, id := range r.Owners {
			uid, ours := strings.CutPrefix(string(id), clusterID+"/")
			gone = gone && ours && !known[types.UID(uid)]
		}
		if gone && r.ID != "" && r.State != cloud.StateDeleting {
			orphans = append(orphans, r)
		}
	}
	cloud.SortResources(orphans)
	return orphans
}

// gather keeps of what is seen now what was seen long enough. Since when is known from the class's status, or, of what is
// not listed yet, from earlier sweeps of this process.
func (r *sweepReconciler) gather(name string, classes []v1alpha1.LoadBalancerClass, seen []cloud.Resource, now time.Time) *orphanage {
	o := &orphanage{provider: name, classes: classes, since: map[cloud.Ref]time.Time{}}
	before := map[cloud.Ref]sighting{}
	if seen, ok := r.sightings.Load(name); ok {
		maps.Copy(before, seen.(map[cloud.Ref]sighting))
	}
	for i := range classes {
		for _, orphan := range classes[i].Status.Orphans {
			before[cloud.Ref{Kind: orphan.Kind, ID: orphan.ID}] = sighting{orphan.Since.Time, true}
		}
	}
	after := map[cloud.Ref]sighting{}
	for i := range seen {
		ref := refOf(&seen[i])
		s, was := before[ref]
		if !was {
			s.since = now
		}
		if wait := r.OrphanGrace - now.Sub(s.since); wait > 0 {
			o.ripe, o.young = min(cmp.Or(o.ripe, wait), wait), append(o.young, ref.ID)
		} else {
			o.resources, o.since[ref] = append(o.resources, seen[i]), s.since
			if !s.told {
				o.fresh++
			}
			s.told = true
		}
		after[ref] = s
	}
	r.sightings.Store(name, after)
	return o
}

// askedIDs are the ids that the annotations of classes name, sorted. One that cannot be read is taken off, and told of.
func (r *sweepReconciler) askedIDs(ctx context.Context, o *orphanage) ([]string, error) {
	var ids []string
	for i := range o.classes {
		asked, wrong := cloud.OrphanIDs(&o.classes[i])
		ids = append(ids, asked...)
		if wrong == nil {
			continue
		}
		cleared, err := r.clearAsked(ctx, &o.classes[i])
		if err != nil {
			return nil, err
		}
		if cleared {
			r.classEvent(o, corev1.EventTypeWarning, EventOrphansKept, fmt.Sprintf("LoadBalancerClass %q asks for nothing: %v", o.classes[i].Name, wrong))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// deleteAsked deletes the orphans with these ids, and tells of it. Ids that are no orphans' are told of, too. The annotation
// stays for as long as some of them could not be deleted yet, or are not orphans for long enough.
func (r *sweepReconciler) deleteAsked(ctx context.Context, p cloud.Provider, o *orphanage, asked []string) (time.Duration, error) {
	early := slices.ContainsFunc(asked, func(id string) bool { return slices.Contains(o.young, id) })
	chosen, strangers := o.choose(asked)
	// Past the cache: it may not show a Service yet that the annotation's author sees.
	known, err := knownOwners(ctx, r.APIReader, o.provider)
	if err != nil {
		return 0, err
	}
	if gone := orphansOf(r.ClusterID, known, chosen); len(gone) < len(chosen) {
		return minRetry, nil // the cache will show it, too
	}
	done, failure := deleteOrphans(ctx, p, r.ClusterID, chosen)
	if len(done) > 0 {
		r.classEvent(o, corev1.EventTypeNormal, EventOrphansDeleted, "Deleted what belonged to no Service: "+names(done))
	}
	if len(strangers) > 0 {
		r.classEvent(o, corev1.EventTypeWarning, EventOrphansKept, "Not deleted, since no orphan has the id: "+strings.Join(strangers, ", "))
	}
	o.without(done)
	switch c := cloud.Classify(failure); {
	case failure == nil && early:
		return o.ripe, nil
	case failure == nil:
		for i := range o.classes {
			if _, err := r.clearAsked(ctx, &o.classes[i]); err != nil {
				return 0, err
			}
		}
		return 0, nil
	case c.Class == cloud.Pending, c.Class == cloud.Throttled, c.After > 0:
		return max(c.After, waitPending), nil
	}
	r.classEvent(o, corev1.EventTypeWarning, EventOrphansKept, failure.Error())
	return 0, fmt.Errorf("deleting orphans of provider %q: %w", o.provider, failure)
}

// choose returns the orphans with the ids, and the ids that none has, nor what may become one.
func (o *orphanage) choose(ids []string) (chosen []cloud.Resource, strangers []string) {
	for _, id := range ids {
		before := len(chosen)
		for i := range o.resources {
			if o.resources[i].ID == id {
				chosen = append(chosen, o.resources[i])
			}
		}
		if len(chosen) == before && !slices.Contains(o.young, id) {
			strangers = append(strangers, id)
		}
	}
	return chosen, strangers
}

// without takes out what is no orphan any more.
func (o *orphanage) without(done []cloud.Resource) {
	for i := range done {
		o.resources = slices.DeleteFunc(o.resources, func(r cloud.Resource) bool { return refOf(&r) == refOf(&done[i]) })
	}
}

// deleteOrphans deletes for one owner after the other, dependents first, and returns what is done with. What several Services
// had loses one mark after the other, and goes with the last; what is lent is let go.
func deleteOrphans(ctx context.Context, p cloud.Provider, clusterID string, chosen []cloud.Resource) (done []cloud.Resource, err error) {
	left := slices.Clone(chosen)
	uids := map[string]bool{}
	for _, r := range left {
		for _, id := range r.Owners {
			uids[strings.TrimPrefix(string(id), clusterID+"/")] = true
		}
		if len(r.Owners) == 0 {
			uids[""] = true
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(uids)) {
		owner := cloud.Owner{ClusterID: clusterID, ServiceUID: uid}
		plan, planErr := cloud.Diff(owner, nil, slices.DeleteFunc(slices.Clone(left), func(r cloud.Resource) bool {
			return len(r.Owners) > 0 && !slices.Contains(r.Owners, owner.ID())
		}), v1alpha1.ReplacementNever)
		if planErr != nil {
			return done, fmt.Errorf("planning: %w", planErr)
		}
		ops, applyErr := cloud.Apply(ctx, p, owner, plan)
		err = cmp.Or(err, applyErr)
		for _, op := range ops {
			i := slices.IndexFunc(left, func(r cloud.Resource) bool { return r.Kind == op.Resource.Kind && r.ID == op.Resource.ID })
			switch {
			case i < 0:
			case op.Action == cloud.ActionDelete, op.Action == cloud.ActionUpdate && len(op.Resource.Owners) == 0:
				done = append(done, left[i])
				left = slices.Delete(left, i, i+1)
			case op.Action == cloud.ActionUpdate:
				left[i].Owners = op.Resource.Owners
			}
		}
	}
	return done, err
}

// clearAsked takes the annotation off a class, unless it was changed meanwhile, and reports whether it did. The class is read past the
// cache, which need not show yet what we wrote of it ourselves.
func (r *sweepReconciler) clearAsked(ctx context.Context, seen *v1alpha1.LoadBalancerClass) (bool, error) {
	asked, ok := seen.Annotations[v1alpha1.AnnotationDeleteOrphans]
	if !ok {
		return false, nil
	}
	class := &v1alpha1.LoadBalancerClass{}
	if err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(seen), class); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading LoadBalancerClass %q: %w", seen.Name, err)
	}
	if now, ok := class.Annotations[v1alpha1.AnnotationDeleteOrphans]; !ok || now != asked {
		return false, nil // its change wakes us
	}
	changed := class.DeepCopy()
	delete(changed.Annotations, v1alpha1.AnnotationDeleteOrphans)
	patch := client.MergeFromWithOptions(class, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("taking the annotation off LoadBalancerClass %q: %w", class.Name, err)
	}
	return true, nil
}

func (r *sweepReconciler) tellOfOrphans(ctx context.Context, o *orphanage) {
	ctrl.LoggerFrom(ctx).Info("Found orphans", "provider", o.provider, "orphans", names(o.resources))
	r.classEvent(o, corev1.EventTypeWarning, EventOrphans, fmt.Sprintf(
		"%d resources belong to Services that are gone, or have no balancer there any more (kubectl fairlead orphans lists them): %s", len(o.resources), names(o.resources)))
}

// names tells resources by kind and id.
func names(resources []cloud.Resource) string {
	texts := make([]string, len(resources))
	for i, r := range resources {
		texts[i] = r.Kind + " " + r.ID
	}
	return strings.Join(texts, ", ")
}

func (r *sweepReconciler) classEvent(o *orphanage, kind, reason, message string) {
	if len(o.classes) > 0 {
		r.Recorder.Eventf(&o.classes[0], nil, kind, reason, actionSweep, "%s", note(message))
	}
}

// listOrphans writes the status of the provider's classes, where it differs.
func (r *sweepReconciler) listOrphans(ctx context.Context, o *orphanage) error {
	for i := range o.classes {
		var want []v1alpha1.Orphan
		if i == 0 {
			want = o.status()
		}
		if err := r.writeOrphans(ctx, &o.classes[i], want); err != nil {
			return err
		}
	}
	return nil
}

func (o *orphanage) status() []v1alpha1.Orphan {
	var list []v1alpha1.Orphan
	for i := range o.resources {
		resource := &o.resources[i]
		orphan := v1alpha1.Orphan{Kind: resource.Kind, ID: resource.ID, Key: resource.Key,
			Since: metav1.NewTime(o.since[refOf(resource)]).Rfc3339Copy()}
		for _, id := range resource.Owners {
			_, uid, _ := strings.Cut(string(id), "/")
			orphan.ServiceUIDs = append(orphan.ServiceUIDs, types.UID(uid))
		}
		list = append(list, orphan)
	}
	return list[:min(len(list), maxOrphans)]
}
