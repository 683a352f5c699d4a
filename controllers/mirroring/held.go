package mirroring

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
)

// held knows the mirrored slices as they are at the API server: by the events of the cache, and by our own writes
// until the cache has caught up with them. So a pass need not wait for the cache, and never plans twice from the same
// old state. It also knows which Services have no selector.
//
// It rests on resourceVersions of one resource being ordered (guaranteed since Kubernetes 1.35, KEP-5504, and true of
// every API server on etcd before).
type held struct {
	mu         sync.Mutex
	keys       map[types.UID]types.NamespacedName
	byKey      map[types.NamespacedName]map[types.UID]*holding
	selectless map[types.NamespacedName]struct{}
}

// holding is one slice.
type holding struct {
	// slice is its newest known state.
	slice *discoveryv1.EndpointSlice
	// ours says that it had our label once: somebody who takes it off does not make it his.
	ours bool
	// deleted says that we deleted it; events from before are still on their way.
	deleted bool
	// gone says that the cache saw it deleted. It is forgotten when the next pass begins: until then, the answer to a
	// write of this pass may still come and must not bring it back.
	gone bool
}

func newHeld() *held {
	return &held{
		keys:       map[types.UID]types.NamespacedName{},
		byKey:      map[types.NamespacedName]map[types.UID]*holding{},
		selectless: map[types.NamespacedName]struct{}{},
	}
}

// keyOf names the Endpoints object that a slice is of: its owner, or what its label says where it has none. The two
// differ only after a foreign edit. None: the slice has nothing to do with mirroring.
func keyOf(slice *discoveryv1.EndpointSlice) (key types.NamespacedName, ok bool) {
	owner := metav1.GetControllerOf(slice)
	name := ""
	switch {
	case owner != nil && owner.Kind == "Endpoints" && owner.APIVersion == corev1.SchemeGroupVersion.String():
		name = owner.Name
	case marked(slice):
		name = slice.Labels[discoveryv1.LabelServiceName]
	}
	return types.NamespacedName{Namespace: slice.Namespace, Name: name}, name != ""
}

func marked(slice *discoveryv1.EndpointSlice) bool {
	return slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy
}

// observe takes in an event and returns which Endpoints have to be looked at: none where it is the echo of a write of
// ours, or older than that.
func (h *held) observe(slice *discoveryv1.EndpointSlice) []types.NamespacedName {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.get(slice.UID)
	if before != nil && (before.deleted || before.gone || !endpoints.Newer(slice.ResourceVersion, before.slice.ResourceVersion)) {
		return nil
	}
	return h.put(slice, before)
}

// wrote takes in a slice as it was written, with the version that this made. It counts even where an event was faster
// that shows the same version otherwise: an admission webhook changed it then, and writing it again would only have it
// changed again.
func (h *held) wrote(slice *discoveryv1.EndpointSlice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.get(slice.UID)
	if before == nil || !before.gone &&
		(slice.ResourceVersion == before.slice.ResourceVersion || endpoints.Newer(slice.ResourceVersion, before.slice.ResourceVersion)) {
		h.put(slice, before)
	}
}

// deleted notes that we deleted a slice.
func (h *held) deleted(slice *discoveryv1.EndpointSlice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.get(slice.UID); before != nil {
		before.deleted = true
	}
}

// remove notes that the cache saw a slice deleted, and returns which Endpoints have to be looked at: none where it was
// us.
func (h *held) remove(uid types.UID) []types.NamespacedName {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.get(uid)
	if before == nil {
		return nil
	}
	key := h.keys[uid]
	if before.deleted {
		h.drop(uid)
		return nil
	}
	before.gone = true
	return []types.NamespacedName{key}
}

// relearn forgets the slices of an Endpoints object and takes those that the cache has, which list gives. Events wait
// meanwhile, so that none falls between.
func (h *held) relearn(key types.NamespacedName, list func() ([]discoveryv1.EndpointSlice, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	cached, err := list()
	if err != nil {
		return err
	}
	for _, uid := range slices.Collect(maps.Keys(h.byKey[key])) {
		h.drop(uid)
	}
	for i := range cached {
		if of, ok := keyOf(&cached[i]); ok && of == key {
			h.put(&cached[i], nil)
		}
	}
	return nil
}

// slices returns the slices of an Endpoints object at the beginning of a pass; source is nil where there is none. They
// belong to the cache.
func (h *held) slices(key types.NamespacedName, source *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*discoveryv1.EndpointSlice
	for uid, holding := range h.byKey[key] {
		switch {
		case holding.gone:
			h.drop(uid)
		case holding.deleted:
		case isOurs(holding, source):
			all = append(all, holding.slice)
		}
	}
	return all
}

// isOurs says whether a slice of an Endpoints object is this controller's to keep. One that was ours stays ours when
// somebody changes its labels, or it would stay behind with endpoints that nobody updates; after a restart it is known
// by its name.
func isOurs(holding *holding, source *corev1.Endpoints) bool {
	if marked(holding.slice) {
		return true
	}
	return source != nil && metav1.IsControlledBy(holding.slice, source) &&
		(holding.ours || endpoints.HasOwnName(source, holding.slice))
}

// setSelectless notes whether a Service exists that has no selector.
func (h *held) setSelectless(key types.NamespacedName, selectless bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if selectless {
		h.selectless[key] = struct{}{}
	} else {
		delete(h.selectless, key)
	}
}

func (h *held) isSelectless(key types.NamespacedName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.selectless[key]
	return ok
}

func (h *held) get(uid types.UID) *holding {
	return h.byKey[h.keys[uid]][uid]
}

// put replaces what is held of a slice and returns the Endpoints that this concerns: both, where it goes from one to
// another.
func (h *held) put(slice *discoveryv1.EndpointSlice, before *holding) []types.NamespacedName {
	var concerned []types.NamespacedName
	next := &holding{slice: slice, ours: marked(slice)}
	if before != nil {
		concerned = append(concerned, h.keys[slice.UID])
		next.ours = next.ours || before.ours
		h.drop(slice.UID)
	}
	key, ok := keyOf(slice)
	if !ok {
		return concerned
	}
	if h.byKey[key] == nil {
		h.byKey[key] = map[types.UID]*holding{}
	}
	h.keys[slice.UID] = key
	h.byKey[key][slice.UID] = next
	return append(concerned, key)
}

func (h *held) drop(uid types.UID) {
	key := h.keys[uid]
	delete(h.keys, uid)
	delete(h.byKey[key], uid)
	if len(h.byKey[key]) == 0 {
		delete(h.byKey, key)
	}
}
