// Package endpoints decides which endpoints a Service has and which EndpointSlices hold them.
//
// The way through it:
//
//	index := NewSelectorIndex()      // Services by selector: which Services does this Pod concern?
//	set := NewSet(service)           // the endpoints of one Service ...
//	set.Put(pod, zone)               // ... kept up to date Pod by Pod
//	plan := Pack(set, slices, opts)  // what to create, update and delete so that slices hold the set
//
// Between Set and Pack the caller may set hints on the set's endpoints (package topology). Classic returns the same
// endpoints as the older Endpoints object.
//
// It is a library of pure decisions over plain data: no client, no clock, no logger, and nothing that it is given is
// changed. It neither watches nor writes; package controllers/endpointslice does that for Kubernetes itself, and
// producers of slices of their own can do it their way.
//
// The meaning is upstream's (k8s.io/endpointslice, Kubernetes 1.37) but for what is marked as ours where it is
// decided: slices are compacted, reserved labels that someone changed are put back, names are deterministic.
package endpoints
