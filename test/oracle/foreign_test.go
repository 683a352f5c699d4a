package oracle

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// edit is what somebody else does to a slice of a Service. It returns nil to delete it.
type edit struct {
	name string
	do   func(slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice
	// oursAlone says that upstream does not repair it, or not until something else happens (TestForeignEdits).
	oursAlone bool
}

var edits = []edit{
	{name: "delete", do: func(*discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice { return nil }},
	{name: "drop half the endpoints", do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Endpoints = s.Endpoints[:len(s.Endpoints)/2]
		return s
	}},
	{name: "say the contrary of ready", do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range s.Endpoints {
			ready := s.Endpoints[i].Conditions.Ready // somebody's own may say nothing, which is ready
			s.Endpoints[i].Conditions.Ready = new(ready != nil && !*ready)
		}
		return s
	}},
	{name: "add an endpoint twice", do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		if len(s.Endpoints) > 0 {
			s.Endpoints = append(slices.Clone(s.Endpoints), s.Endpoints[0])
		}
		return s
	}},
	{name: "add an endpoint of their own", do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		address := map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "192.0.2.1", discoveryv1.AddressTypeIPv6: "2001:db8::1"}
		s.Endpoints = append(slices.Clone(s.Endpoints), discoveryv1.Endpoint{
			Addresses: []string{address[s.AddressType]}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "theirs"},
		})
		return s
	}},
	{name: "change ports", do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Ports = []discoveryv1.EndpointPort{{Name: new("theirs"), Port: new(int32(1)), Protocol: new(corev1.ProtocolTCP)}}
		return s
	}},
	{name: "take the owner away", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.OwnerReferences = nil
		return s
	}},
	{name: "add a label", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Labels["theirs"] = "label"
		return s
	}},
	{name: "take the manager's name away", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		delete(s.Labels, discoveryv1.LabelManagedBy)
		return s
	}},
	{name: "name another Service", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Labels[discoveryv1.LabelServiceName] = "theirs"
		return s
	}},
	{name: "say it is headless", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Labels[corev1.IsHeadlessService] = "theirs"
		return s
	}},
	{name: "hint", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range s.Endpoints {
			s.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "theirs"}}}
		}
		return s
	}},
	{name: "change the old topology", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range s.Endpoints {
			s.Endpoints[i].DeprecatedTopology = map[string]string{"theirs": "key"}
		}
		return s
	}},
	{name: "begin to delete", oursAlone: true, do: func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.DeletionTimestamp = &metav1.Time{}
		return s
	}},
}

// edit does what somebody else does to the slice of a Service that a number chooses.
func (s *store) edit(service types.NamespacedName, e edit, number int) {
	all := s.of(service, managedBy)
	if len(all) == 0 {
		return
	}
	old := all[number%len(all)]
	edited := e.do(old.DeepCopy())
	if edited == nil {
		_ = s.remove(keyOf(old), "")
		return
	}
	edited.Endpoints = edited.Endpoints[:min(len(edited.Endpoints), s.limit)]
	s.put(old, edited)
}
