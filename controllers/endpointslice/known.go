package endpointslice

import (
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// knownSlices are the slices in a Service's layout, to tell who changes them. Passes change it, and event handlers ask
// it which slices are ours: one whose labels do not say so any more would change, or go, without anybody's notice.
type knownSlices struct {
	mu    sync.RWMutex
	byUID map[types.UID]known
}

// known is what is remembered of a slice beside the layout.
type known struct {
	name     string
	managers []metav1.ManagedFieldsEntry
}

func (k *knownSlices) get(uid types.UID) (is known, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	is, ok = k.byUID[uid]
	return is, ok
}

func (k *knownSlices) has(uid types.UID) bool {
	_, ok := k.get(uid)
	return ok
}

func (k *knownSlices) put(slice *discoveryv1.EndpointSlice) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byUID == nil {
		k.byUID = map[types.UID]known{}
	}
	k.byUID[slice.UID] = known{name: slice.Name, managers: slice.ManagedFields}
}

func (k *knownSlices) forget(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byUID, uid)
}

func (k *knownSlices) forgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byUID = nil
}
