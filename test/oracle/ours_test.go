package oracle

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

// ours is what both ways of driving our library have in common: the store that they write to, watched for endpoints
// that vanish while they move.
type ours struct {
	t       testing.TB
	cluster *cluster
	store   *store
	limit   int
	// wanted are the endpoints of each Service as upstream has them.
	wanted map[types.NamespacedName]map[place]int
	// known are slices that were once of the Service, whatever their labels say now.
	known map[types.UID]types.NamespacedName
	// writing is the Service that is being written, and nobody's while someone else writes.
	writing *types.NamespacedName
}

func newOurs(t testing.TB, c *cluster, limit int) *ours {
	o := &ours{t: t, cluster: c, store: newStore(limit), limit: limit, known: map[types.UID]types.NamespacedName{}}
	o.store.watch = o.check
	return o
}

// check looks after each single write whether an endpoint that is wanted, and was there, is still there.
func (o *ours) check(old, _ *discoveryv1.EndpointSlice) {
	if o.writing == nil || old == nil {
		return
	}
	service := o.cluster.services[*o.writing]
	if service.DeletionTimestamp != nil && !endpoints.OwnedBy(old, service) {
		return // a slice of another owner goes, and nothing is made in its place
	}
	held := placesOf(o.store.of(*o.writing, managedBy))
	for p := range placesOf([]*discoveryv1.EndpointSlice{old}) {
		if o.wanted[*o.writing][p] > 0 && held[p] == 0 && old.DeletionTimestamp == nil && old.Labels[discoveryv1.LabelManagedBy] == managedBy {
			o.t.Errorf("%v of %s is in no slice for a while", p, o.writing)
		}
	}
}

// write does one write as a controller does.
func (o *ours) write(service types.NamespacedName, write endpoints.Write) (result *discoveryv1.EndpointSlice, err error) {
	o.writing = &service
	defer func() { o.writing = nil }()
	switch write.Verb {
	case endpoints.Create:
		if o.cluster.services[service].DeletionTimestamp != nil {
			o.t.Errorf("%s is being deleted and gets a new slice", service)
		}
		result, err = o.store.create(write.Slice)
	case endpoints.Update:
		result, err = o.store.update(write.Slice)
	case endpoints.Delete:
		err = o.store.remove(keyOf(write.Slice), write.Slice.UID)
		if apierrors.IsNotFound(err) {
			err = nil
		}
	}
	if result != nil {
		o.known[result.UID] = service
	}
	return result, err
}

// isOurs says whether a slice is one that we keep for a Service.
func (o *ours) isOurs(service types.NamespacedName, slice *discoveryv1.EndpointSlice) bool {
	if slice.Namespace != service.Namespace {
		return false
	}
	if slice.Labels[discoveryv1.LabelManagedBy] == managedBy && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
		return true
	}
	return o.known[slice.UID] == service
}

func newSet(service *corev1.Service) *endpoints.Set {
	policy, err := topology.Parse(service)
	if err != nil {
		policy = topology.None
	}
	return endpoints.NewSet(service, endpoints.SetOptions{Hints: topology.Local(policy)})
}

// scratch makes everything anew from what there is, at every step.
type scratch struct {
	*ours
	triggers map[types.NamespacedName]*endpoints.TriggerTimes
	members  map[types.NamespacedName]map[string]bool
}

func (s *scratch) settle() {
	for key := range s.triggers {
		if s.cluster.services[key] == nil {
			delete(s.triggers, key)
			delete(s.members, key)
		}
	}
	for _, key := range sortedKeys(s.cluster.services) {
		for pass := 0; s.sync(key, pass); pass++ {
			if pass > 50 {
				s.t.Fatalf("planning %s does not come to an end", key)
			}
		}
	}
}

// sync makes and carries out one plan and says whether there was anything to do.
func (s *scratch) sync(key types.NamespacedName, pass int) bool {
	service := s.cluster.services[key]
	var existing []*discoveryv1.EndpointSlice
	for _, name := range sortedKeys(s.store.slices) {
		if slice := s.store.slices[name]; s.isOurs(key, slice) {
			existing = append(existing, slice)
		}
	}
	var plan endpoints.Plan
	if !endpoints.Selected(service) {
		plan = endpoints.Release(service, existing)
	} else {
		set := newSet(service)
		for _, pod := range podsOf(s.cluster, service) {
			set.Put(pod, zoneOf(s.cluster, pod))
		}
		layout := endpoints.NewLayout(endpoints.Options{ManagedBy: managedBy, MaxEndpoints: s.limit})
		for _, slice := range existing {
			layout.Observe(slice)
		}
		plan = layout.Plan(set, endpoints.Pass{Trigger: s.trigger(key, service)})
	}
	for _, write := range plan.Writes {
		if pass > 0 && write.Verb == endpoints.Create {
			s.t.Fatalf("a second plan for %s creates %s", key, write.Slice.Name)
		}
		if _, err := s.write(key, write); err != nil {
			s.t.Fatalf("%s %s: %v", write.Verb, write.Slice.Name, err)
		}
	}
	s.store.passed[key] = true
	return len(plan.Writes) > 0
}

func (s *scratch) trigger(key types.NamespacedName, service *corev1.Service) time.Time {
	triggers := s.triggers[key]
	if triggers == nil {
		triggers = &endpoints.TriggerTimes{}
		s.triggers[key] = triggers
	}
	now := map[string]bool{}
	for _, pod := range podsOf(s.cluster, service) {
		triggers.Note(pod)
		now[pod.Name] = true
	}
	for name := range s.members[key] {
		if !now[name] {
			triggers.Gone(name)
		}
	}
	s.members[key] = now
	return triggers.Next(service)
}

func zoneOf(c *cluster, pod *corev1.Pod) endpoints.Zone {
	node := c.nodes[pod.Spec.NodeName]
	if node == nil {
		return endpoints.Zone{NodeMissing: true}
	}
	return endpoints.Zone{Name: node.Labels[corev1.LabelTopologyZone]}
}
