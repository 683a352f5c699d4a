// Package endpoints decides which endpoints a Service has and which EndpointSlices hold them.
//
// The way through it:
//
//	index := NewIndex()                  // which Pods each Service has
//	services := index.PutPod(pod)        // an event: whom does it concern?
//	set := NewSet(service, SetOptions{}) // the endpoints of one Service ...
//	set.Put(pod, zone)                   // ... kept up to date Pod by Pod
//	layout := NewLayout(opts)            // the slices of one Service as they are ...
//	layout.Observe(slice)                // ... kept up to date event by event
//	plan := layout.Plan(set, pass)       // what to create, update and delete so that slices hold the set
//	layout.Wrote(write, answer)          // a write of the plan that succeeded
//
// All of it is incremental: an event costs what it changes, however many Pods there are. Set and Layout are kept from
// one plan to the next, one of each for a Service; a Service that changes gets a new Set and keeps its Layout. A write
// that failed is not told to the Layout, and so is in the next plan again; a cache that is behind does no harm.
//
// Who produces slices without Pods puts endpoints into the Set (PutEndpoint) and needs no Index. Who keeps nothing
// between two plans calls Pack. Classic returns the same endpoints as the older Endpoints object, Mirror the slices of
// Endpoints objects that people write, Attachments the addresses of Pods on a secondary network. Pace says when to
// write, TriggerTimes since when consumers have waited. Package topology gives the hints: those that depend on one
// endpoint alone through SetOptions.Hints, the others between events and plan through Set.Hint.
//
// It is a library of pure decisions over plain data: no client, no clock, no logger, and nothing that it is given is
// changed. It neither watches nor writes; package controllers/endpointslice does that for Kubernetes itself, and
// producers of slices of their own can do it their way. What it is given and what it hands out share memory: a client
// that decodes its answer into the slice that it was given, as those do that speak JSON, is given a deep copy.
//
// The meaning is upstream's (k8s.io/endpointslice, Kubernetes 1.37) but for what is marked as ours where it is
// decided: slices are compacted, reserved labels that someone changed are put back, names are deterministic.
package endpoints
