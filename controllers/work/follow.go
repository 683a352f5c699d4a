package work

import (
	"context"
	"errors"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Followed is a kind of objects and what is done with their events.
type Followed struct {
	Object  client.Object
	Handler toolscache.ResourceEventHandler
}

// Fill registers event handlers and waits until they have seen what there is. Errors name the caches by what.
func Fill(ctx context.Context, informers cache.Informers, what string, kinds ...Followed) error {
	all := make([]cache.Informer, len(kinds))
	for i, kind := range kinds {
		var err error
		if all[i], err = informers.GetInformer(ctx, kind.Object, cache.BlockUntilSynced(false)); err != nil { // All fill at once.
			return fmt.Errorf("getting the informer of %T: %w", kind.Object, err)
		}
	}
	synced := make([]toolscache.InformerSynced, len(kinds))
	for i, kind := range kinds {
		registration, err := all[i].AddEventHandler(kind.Handler)
		if err != nil {
			return fmt.Errorf("adding a handler for %T: %w", kind.Object, err)
		}
		synced[i] = registration.HasSynced
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("%s did not fill", what)
	}
	return nil
}

// Deleted returns the object of an event of deletion, as it was last seen where the event itself was missed.
func Deleted[T any](obj any) (T, bool) {
	if unknown, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	object, ok := obj.(T)
	return object, ok
}

// WaitForSync is that of a source whose caches, named by what, have filled or failed to once synced is closed; failed is
// not read before.
func WaitForSync(ctx context.Context, synced <-chan struct{}, failed *error, what string) error {
	select {
	case <-synced:
		if ctx.Err() != nil {
			return nil // Stopped; what has failed has failed for that.
		}
		return *failed
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil
		}
		return errors.New("timed out waiting for " + what)
	}
}
