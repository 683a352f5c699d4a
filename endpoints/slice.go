package endpoints

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// build returns the object that a draft is to be written as.
func (p *planner) build(d *draft) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{AddressType: d.key.family, Ports: d.ports, Endpoints: d.endpoints}
	if d.bin != nil {
		slice.ObjectMeta = d.bin.slice.ObjectMeta
		slice.Annotations = maps.Clone(slice.Annotations)
		// The API server keeps these when they are left out, and they can be as long as the rest.
		slice.ManagedFields = nil
	} else {
		slice.Name = p.freeName(d.key.family)
		slice.Namespace = p.set.service.Namespace
		slice.OwnerReferences = []metav1.OwnerReference{ownerReference(p.set.service)}
	}
	if slice.Endpoints == nil {
		slice.Endpoints = []discoveryv1.Endpoint{}
	}
	slice.Labels = p.layout.labels
	SetTrigger(&slice.ObjectMeta, p.pass.Trigger)
	return slice
}

// SetTrigger sets the annotation from which consumers measure how long a change took to reach them, or removes it
// where the time is not known, so that an old one is not taken for this change's.
func SetTrigger(meta *metav1.ObjectMeta, trigger time.Time) {
	if trigger.IsZero() {
		delete(meta.Annotations, corev1.EndpointsLastChangeTriggerTime)
		return
	}
	metav1.SetMetaDataAnnotation(meta, corev1.EndpointsLastChangeTriggerTime, trigger.UTC().Format(time.RFC3339Nano))
}

// freeName returns the first name of the Service's slices that is free. Two plans made from the same, perhaps stale,
// state choose the same name, so that the API server refuses the second instead of keeping a duplicate.
func (p *planner) freeName(family discoveryv1.AddressType) string {
	l := p.layout
	for i := 0; ; i++ {
		if i == len(l.names[family]) {
			l.names[family] = append(l.names[family], sliceName(p.set.service, family, i))
		}
		name := l.names[family][i]
		_, named := p.named[name]
		if named || l.bins[name] != nil || l.opts.Taken != nil && l.opts.Taken(name) {
			continue
		}
		if p.named == nil {
			p.named = map[string]struct{}{}
		}
		p.named[name] = struct{}{}
		return name
	}
}

// sliceName returns a name that is the owner's, a dash and eight characters, as upstream's, which are random there.
func sliceName(owner metav1.Object, family discoveryv1.AddressType, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", owner.GetUID(), family, i))
	return owner.GetName() + "-" + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:5]))
}

// maxNames bounds the search for a Service's slice by its name; more slices than that no Service has.
const maxNames = 1000

// HasOwnName says whether a slice has one of the names that Pack and Mirror give to slices of this Service or Endpoints
// object: it was ours even if its labels no longer say so.
func HasOwnName(owner metav1.Object, slice *discoveryv1.EndpointSlice) bool {
	if !strings.HasPrefix(slice.Name, owner.GetName()+"-") || len(slice.Name) != len(owner.GetName())+9 {
		return false
	}
	for i := range maxNames {
		if sliceName(owner, slice.AddressType, i) == slice.Name {
			return true
		}
	}
	return false
}
