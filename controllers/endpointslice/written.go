package endpointslice

import (
	"slices"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// written is the guard against a cache that is behind: what was written and not yet seen in the cache, laid over what
// the cache says. So a pass need not wait for the cache, and never plans twice from the same old state.
//
// It rests on resourceVersions of one resource being ordered (guaranteed since Kubernetes 1.35, KEP-5504, and true of
// every API server on etcd before): once the cache has seen any slice at or after a write, it has seen the write.
type written struct {
	mu sync.Mutex
	// newest is the highest resourceVersion seen in any event of slices.
	newest    string
	byService map[types.NamespacedName]map[types.UID]record
}

// record is one write: the slice as the API server returned it; nil where it was deleted.
type record struct {
	slice *discoveryv1.EndpointSlice
}

func newWritten() *written {
	return &written{byService: map[types.NamespacedName]map[types.UID]record{}}
}

// put notes a slice as the API server returned it after a write.
func (w *written) put(service types.NamespacedName, slice *discoveryv1.EndpointSlice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !newer(slice.ResourceVersion, w.newest) {
		// Its event was faster than the response.
		w.drop(service, slice.UID)
		return
	}
	w.set(service, slice.UID, record{slice: slice})
}

// putDeleted notes that a slice was deleted.
func (w *written) putDeleted(service types.NamespacedName, uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(service, uid, record{})
}

func (w *written) set(service types.NamespacedName, uid types.UID, rec record) {
	if w.byService[service] == nil {
		w.byService[service] = map[types.UID]record{}
	}
	w.byService[service][uid] = rec
}

// event notes that the cache has got as far as this slice, and says whether it is the echo of a write of ours.
func (w *written) event(service types.NamespacedName, slice *discoveryv1.EndpointSlice, deleted bool) (echo bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if newer(slice.ResourceVersion, w.newest) {
		w.newest = slice.ResourceVersion
	}
	rec, ok := w.byService[service][slice.UID]
	if !ok {
		return false
	}
	switch {
	case deleted:
		w.drop(service, slice.UID)
		return rec.slice == nil
	case rec.slice != nil && !newer(rec.slice.ResourceVersion, slice.ResourceVersion):
		w.drop(service, slice.UID)
		return rec.slice.ResourceVersion == slice.ResourceVersion
	default:
		// An older state on its way to the one that we wrote.
		return true
	}
}

// mark returns how far the cache is. It has to be taken before the cache is read.
func (w *written) mark() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest
}

// overlay returns what the slices of a Service are, given what the cache said after mark.
func (w *written) overlay(service types.NamespacedName, mark string, cached []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, rec := range w.byService[service] {
		at := slices.IndexFunc(cached, func(s *discoveryv1.EndpointSlice) bool { return s.UID == uid })
		switch {
		case rec.slice == nil && at >= 0:
			cached = slices.Delete(cached, at, at+1)
		case rec.slice == nil, !newer(rec.slice.ResourceVersion, mark):
			w.drop(service, uid)
		case at < 0:
			cached = append(cached, rec.slice)
		case newer(rec.slice.ResourceVersion, cached[at].ResourceVersion):
			cached[at] = rec.slice
		}
	}
	return cached
}

// forget drops everything about a Service that is gone.
func (w *written) forget(service types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byService, service)
}

func (w *written) drop(service types.NamespacedName, uid types.UID) {
	delete(w.byService[service], uid)
	if len(w.byService[service]) == 0 {
		delete(w.byService, service)
	}
}

// newer says whether resourceVersion a is after b. An empty b is before everything; what cannot be compared counts as
// not newer, so that the cache is believed.
func newer(a, b string) bool {
	if b == "" {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}
