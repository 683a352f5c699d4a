package endpoints

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// FuzzMirror changes one Endpoints object and its slices at random. After every write of every plan: no address and
// port that stays is lost, even where an earlier write failed. After every plan: one slice for each set of ports and
// family, each endpoint once in one of them, exactly the ports and the readiness that the object says, no slice above
// its limit; and the same plan again has nothing to do, in whatever order it is given the slices.
func FuzzMirror(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 2))
		// More than any subset has, so that all can be reached; what is left out is TestMirrorContent's.
		opts := MirrorOptions{ManagedBy: managedBy, MaxEndpoints: 12}
		source := newSource()
		var all []*discoveryv1.EndpointSlice
		for range 12 {
			source.Subsets = randomSubsets(random)
			all = disturb(random, all)
			before := source.DeepCopy()
			given := copies(all)
			plan := Mirror(source, all, opts)
			if diff := cmp.Diff(given, all) + cmp.Diff(before, source); diff != "" {
				t.Fatalf("what was given was changed:\n%s", diff)
			}
			checkOrder(t, all, plan.Writes)
			all = carryOut(all, plan.Writes)
			want, shown := told(source.Subsets), shownBy(t, all, opts.MaxEndpoints)
			maps.DeleteFunc(want, func(key string, _ bool) bool { return joinsPorts(source.Subsets, key) })
			maps.DeleteFunc(shown, func(key string, _ bool) bool { return joinsPorts(source.Subsets, key) })
			if diff := cmp.Diff(want, shown); diff != "" {
				t.Fatalf("endpoints (-of the object +of slices):\n%s", diff)
			}
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			if again := Mirror(source, all, opts); len(again.Writes) > 0 {
				t.Fatalf("a second plan writes %s", verbs(again.Writes))
			}
			if plan.Slices != len(all) {
				t.Fatalf("the plan counts %d slices of %d", plan.Slices, len(all))
			}
		}
	})
}

func randomSubsets(random *rand.Rand) []corev1.EndpointSubset {
	var subsets []corev1.EndpointSubset
	for range random.IntN(4) {
		ports := ""
		for i := range 3 {
			if random.IntN(2) == 0 {
				ports += fmt.Sprintf("p%d:%d ", i, i+1)
			}
		}
		var addresses []string
		for i := range 6 {
			address := fmt.Sprintf("10.0.0.%d", i+1)
			if i > 3 {
				address = fmt.Sprintf("fd00::%d", i)
			}
			switch random.IntN(4) {
			case 0:
				addresses = append(addresses, address)
			case 1:
				addresses = append(addresses, "!"+address)
			}
		}
		subsets = append(subsets, sub(ports, addresses...))
	}
	return subsets
}

// disturb is somebody else's edit of the slices.
func disturb(random *rand.Rand, all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	all = copies(all)
	if len(all) == 0 {
		return all
	}
	slice := all[random.IntN(len(all))]
	switch random.IntN(8) {
	case 0:
		slice.Endpoints = slice.Endpoints[:len(slice.Endpoints)/2]
	case 1:
		slice.Labels = nil
	case 2:
		slice.Endpoints = append(slice.Endpoints, slice.Endpoints...)
	case 3:
		second := slice.DeepCopy()
		second.Name = fmt.Sprintf("copy-%d", random.Uint64())
		all = append(all, second)
	}
	return all
}

func copies(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var copied []*discoveryv1.EndpointSlice
	for _, slice := range all {
		copied = append(copied, slice.DeepCopy())
	}
	return copied
}

// joinsPorts says whether something told is an address without ports that has ports elsewhere in the object. Whether
// it is shown without ports, too, depends on the other addresses, as upstream.
func joinsPorts(subsets []corev1.EndpointSubset, key string) bool {
	if strings.Contains(key, " ") {
		return false
	}
	for other := range told(subsets) {
		if strings.HasPrefix(other, key+" ") {
			return true
		}
	}
	return false
}

// told returns what an Endpoints object says of each address and port: ready, or not.
func told(subsets []corev1.EndpointSubset) map[string]bool {
	ready := map[string]bool{}
	tell := func(addresses []corev1.EndpointAddress, ports []corev1.EndpointPort, is bool) {
		for _, address := range addresses {
			keys := []string{address.IP}
			if len(ports) > 0 {
				keys = nil
			}
			for _, port := range ports {
				keys = append(keys, fmt.Sprintf("%s %s:%d", address.IP, port.Name, port.Port))
			}
			for _, key := range keys {
				before, known := ready[key]
				ready[key] = is && (before || !known)
			}
		}
	}
	for _, subset := range subsets {
		tell(subset.Addresses, subset.Ports, true)
		tell(subset.NotReadyAddresses, subset.Ports, false)
	}
	return ready
}

// shownBy returns what slices say of each address and port.
func shownBy(t *testing.T, all []*discoveryv1.EndpointSlice, limit int) map[string]bool {
	t.Helper()
	ready := map[string]bool{}
	groups := map[string]bool{}
	for _, slice := range all {
		group := string(slice.AddressType) + portsKey(slice.Ports)
		if groups[group] || len(slice.Endpoints) == 0 || len(slice.Endpoints) > limit {
			t.Fatalf("slice %s has %d endpoints, and another of its ports and family exists: %t", slice.Name, len(slice.Endpoints), groups[group])
		}
		groups[group] = true
		for _, e := range slice.Endpoints {
			one := &discoveryv1.EndpointSlice{Ports: slice.Ports, Endpoints: []discoveryv1.Endpoint{e}}
			for key := range reach([]*discoveryv1.EndpointSlice{one}) {
				if _, twice := ready[key]; twice {
					t.Fatalf("%s is there twice", key)
				}
				ready[key] = *e.Conditions.Ready
			}
		}
	}
	return ready
}
