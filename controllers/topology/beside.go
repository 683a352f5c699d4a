package topology

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

const (
	// maxRemovals passes within removalWindow that find hints of ours taken off again mean that the webhook is not in
	// place. kube-controller-manager looks at a Service again whenever someone else writes one of its slices: without an
	// end the two would write for ever. Now and then it happens by itself, where a Pod that stopped being ready is back
	// before we looked.
	maxRemovals   = 10
	removalWindow = time.Minute
	// rest is for how long nothing is written then.
	rest = 10 * time.Minute
)

// beside is what is remembered of a Service whose slices kube-controller-manager writes.
type beside struct {
	pace   endpoints.Pace
	policy topology.Policy
	// families are the assignments of a policy for the whole.
	families map[discoveryv1.AddressType]*family
	// wrote are the slices as we last wrote them, or as others did since without touching our hints.
	wrote map[types.UID]*discoveryv1.EndpointSlice
	// removals are the times of the last passes that found hints taken off, and until is when the rest ends.
	removals []time.Time
	until    time.Time
}

// family is the assignment of one family and the keys that it has.
type family struct {
	*topology.Assignment
	keys map[string]struct{}
}

func (b *beside) resting(now time.Time) bool { return now.Before(b.until) }

// writeHints makes the hints on the slices of a Service what they should be, and says when to look again.
func (r *Reconciler) writeHints(ctx context.Context, service *corev1.Service, st *state, policy topology.Policy) (again time.Duration, err error) {
	b, now := &st.beside, r.Clock.Now()
	if b.resting(now) {
		return b.until.Sub(now), nil
	}
	if wait := b.pace.Wait(now); wait > 0 {
		return wait, nil
	}
	all, err := r.slicesOf(ctx, service.Namespace, service.Name)
	if err != nil {
		return 0, err
	}
	if b.behind(all) {
		return work.RetryConflict, nil
	}
	if b.noteRemovals(all, now); b.resting(now) {
		return rest, nil
	}
	if policy.Whole() {
		reports := b.assign(policy, r.Capacities(), all)
		if report, served := reports[endpoints.Families(service)[0]]; served {
			r.report(client.ObjectKeyFromObject(service), &report)
		}
	}
	outdated, err := r.write(ctx, b, policy, all)
	if outdated && err == nil {
		again = work.RetryConflict
	}
	return again, err
}

// behind says whether the cache does not have all that we wrote.
func (b *beside) behind(all []*discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(all, func(s *discoveryv1.EndpointSlice) bool {
		wrote := b.wrote[s.UID]
		return wrote != nil && wrote.ResourceVersion != s.ResourceVersion && !endpoints.Newer(s.ResourceVersion, wrote.ResourceVersion)
	})
}

// noteRemovals finds out whether someone took hints off that we wrote.
func (b *beside) noteRemovals(all []*discoveryv1.EndpointSlice, now time.Time) {
	wrote, removed := b.wrote, false
	b.wrote = map[types.UID]*discoveryv1.EndpointSlice{}
	for _, s := range all {
		before := wrote[s.UID]
		switch {
		case before == nil:
		case keeps(before, s):
			b.wrote[s.UID] = s
		default:
			removed = true
		}
	}
	if !removed {
		return
	}
	b.removals = append(slices.DeleteFunc(b.removals, func(at time.Time) bool { return now.Sub(at) >= removalWindow }), now)
	if len(b.removals) >= maxRemovals {
		b.removals, b.until = nil, now.Add(rest)
	}
}

// keeps says whether the endpoints that are ready before and after have the same hints.
func keeps(before, after *discoveryv1.EndpointSlice) bool {
	if before.ResourceVersion == after.ResourceVersion {
		return true
	}
	had := map[string]*discoveryv1.Endpoint{}
	for i := range before.Endpoints {
		had[keyOf(&before.Endpoints[i])] = &before.Endpoints[i]
	}
	for i := range after.Endpoints {
		e := &after.Endpoints[i]
		was := had[keyOf(e)]
		if was != nil && ready(was) && ready(e) && was.Addresses[0] == e.Addresses[0] && !same(was.Hints, e.Hints) {
			return false
		}
	}
	return true
}

// assign brings the assignments up to date with slices.
func (b *beside) assign(policy topology.Policy, capacities topology.Capacities, all []*discoveryv1.EndpointSlice) map[discoveryv1.AddressType]topology.Report {
	if b.families == nil || b.policy != policy {
		b.policy, b.families = policy, map[discoveryv1.AddressType]*family{}
	}
	there := map[discoveryv1.AddressType]map[string]struct{}{}
	for _, s := range all {
		f := b.families[s.AddressType]
		if f == nil {
			f = &family{Assignment: topology.NewAssignment(policy, capacities)}
			b.families[s.AddressType] = f
		}
		if there[s.AddressType] == nil {
			there[s.AddressType] = map[string]struct{}{}
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !ready(e) {
				continue
			}
			in := topology.Endpoint{Key: keyOf(e), Hints: e.Hints}
			if e.Zone != nil {
				in.Zone = *e.Zone
			}
			f.Put(in)
			there[s.AddressType][in.Key] = struct{}{}
		}
	}
	reports := map[discoveryv1.AddressType]topology.Report{}
	for name, f := range b.families {
		for key := range f.keys {
			if _, still := there[name][key]; !still {
				f.Delete(key)
			}
		}
		f.keys = there[name]
		_, reports[name] = f.Follow(capacities)
	}
	return reports
}

// want returns the hints that an endpoint should have. Of those that are not ready, no proxy reads them.
func (b *beside) want(policy topology.Policy, slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	switch local := topology.Local(policy); {
	case !ready(e):
		return nil
	case policy.Whole():
		return b.families[slice.AddressType].Hints(keyOf(e))
	case local != nil:
		return local(e)
	}
	return nil
}

// hinted returns a slice with other hints, or nil where those of all endpoints that are ready are as they should be. The
// rest of it is as it was, so that a write changes nothing else; a slice that has changed meanwhile is not written.
func (b *beside) hinted(policy topology.Policy, slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	differs := false
	next := *slice
	next.Endpoints = slices.Clone(slice.Endpoints)
	for i := range next.Endpoints {
		e := &next.Endpoints[i]
		want := b.want(policy, slice, e)
		differs = differs || ready(e) && !same(e.Hints, want)
		e.Hints = want
	}
	if !differs {
		return nil
	}
	return next.DeepCopy() // What is sent is decoded into, and the cache's is not ours to change.
}

// write writes the slices whose hints are not as they should be.
func (r *Reconciler) write(ctx context.Context, b *beside, policy topology.Policy, all []*discoveryv1.EndpointSlice) (outdated bool, err error) {
	written := 0
	for _, slice := range all {
		next := b.hinted(policy, slice)
		if next == nil {
			continue
		}
		next.ManagedFields = nil // The cache has only part of them; the API server keeps what is left out.
		err := r.Client.Update(ctx, next, client.FieldOwner(FieldManager))
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			outdated = true
			continue
		}
		if err != nil {
			return false, fmt.Errorf("writing hints of EndpointSlice %s: %w", slice.Name, err)
		}
		b.wrote[next.UID] = next
		written++
	}
	if written > 0 {
		hintWrites.Add(float64(written))
		b.pace.Wrote(r.Clock.Now(), written)
		log.FromContext(ctx).V(1).Info("Wrote topology hints", "slices", written)
	}
	return outdated, nil
}
