package loadbalancer

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// freshServices keeps Services as the API server answered our last write of each, until the cache shows that or something
// later: a pass that comes sooner would write the same again. Its zero value is ready. For several goroutines.
type freshServices struct{ byName sync.Map } // *corev1.Service, which is not changed

func (f *freshServices) keep(svc *corev1.Service) {
	f.byName.Store(client.ObjectKeyFromObject(svc), svc.DeepCopy())
}

// or returns the later one of a Service as the cache shows it, and as it was kept. It is the caller's.
func (f *freshServices) or(cached *corev1.Service) *corev1.Service {
	name := client.ObjectKeyFromObject(cached)
	kept, ok := f.byName.Load(name)
	if !ok {
		return cached
	}
	svc := kept.(*corev1.Service)
	if order, err := resourceversion.CompareResourceVersion(svc.ResourceVersion, cached.ResourceVersion); err != nil || order <= 0 {
		f.byName.CompareAndDelete(name, kept)
		return cached
	}
	return svc.DeepCopy()
}

func (f *freshServices) forget(name types.NamespacedName) { f.byName.Delete(name) }
