package cloud

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDifferences(t *testing.T) {
	set := Resource{Kind: "Set", Key: "80", ID: "s-1", Attributes: map[string]string{"port": "80", "path": "/"}, HasTargets: true,
		Targets: []Target{{ID: "a"}, {ID: "b"}}, DependsOn: []Ref{{Kind: "Check", Key: "80", ID: "c-1"}}, Owners: []OwnerID{"k/1"}}
	address := Resource{Kind: "Address", Key: "ipv4", ID: "a-1", State: StateReady, Ingress: []Ingress{{IP: "192.0.2.1"}}}
	edited := func(r Resource, edit func(*Resource)) Resource {
		edit(&r)
		return r
	}
	cases := map[string]struct {
		reason    string
		left, now []Resource
		want      []Difference
	}{
		"Nothing": {"order does not count, nor do others' marks", []Resource{set, address},
			[]Resource{address, edited(set, func(r *Resource) { r.Owners = []OwnerID{"k/1", "k/2"} })}, nil},
		"Gone":    {"deleted by somebody", []Resource{set, address}, []Resource{set}, []Difference{{"Address", "ipv4", "gone"}}},
		"Left":    {"it was on its way out", []Resource{edited(set, func(r *Resource) { r.State = StateDeleting })}, nil, nil},
		"Appears": {"somebody copied the marks", nil, []Resource{set}, []Difference{{"Set", "80", "another one appeared"}}},
		"Replaced": {"the same name and another id", []Resource{set}, []Resource{edited(set, func(r *Resource) { r.ID = "s-2" })},
			[]Difference{{"Set", "80", "another one appeared"}, {"Set", "80", "gone"}}},
		"Attributes": {"all names, sorted, of values that went and came, too", []Resource{set},
			[]Resource{edited(set, func(r *Resource) { r.Attributes = map[string]string{"port": "81", "zone": "x"} })},
			[]Difference{{"Set", "80", "path, port, zone changed"}}},
		"References": {"it points elsewhere", []Resource{set}, []Resource{edited(set, func(r *Resource) { r.DependsOn = []Ref{{ID: "c-9"}} })},
			[]Difference{{"Set", "80", "it points to others"}}},
		"Targets": {"counted both ways", []Resource{set}, []Resource{edited(set, func(r *Resource) { r.Targets = []Target{{ID: "b"}, {ID: "x"}, {ID: "y"}} })},
			[]Difference{{"Set", "80", "1 targets missing, 2 too many"}}},
		"Address": {"clients lose it", []Resource{address}, []Resource{edited(address, func(r *Resource) { r.Ingress = []Ingress{{IP: "192.0.2.2"}} })},
			[]Difference{{"Address", "ipv4", "its address changed"}}},
		"Failed": {"it broke", []Resource{address}, []Resource{edited(address, func(r *Resource) { r.State = StateFailed })},
			[]Difference{{"Address", "ipv4", "failed"}}},
		"UnderWay": {"the cloud changes it", []Resource{address, set}, []Resource{
			edited(address, func(r *Resource) { r.State, r.Ingress = StatePending, nil }), edited(set, func(r *Resource) { r.State = StateDeleting })}, nil},
		"Made": {"a pending one got its address", []Resource{edited(address, func(r *Resource) { r.State, r.Ingress = StatePending, nil })}, []Resource{address}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := [2][]Resource{append([]Resource(nil), tc.left...), append([]Resource(nil), tc.now...)}
			if diff := cmp.Diff(tc.want, Differences(tc.left, tc.now)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if !reflect.DeepEqual(before, [2][]Resource{append([]Resource(nil), tc.left...), append([]Resource(nil), tc.now...)}) {
				t.Error("an argument was changed")
			}
		})
	}
}
