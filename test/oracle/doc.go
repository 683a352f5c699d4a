// Package oracle compares the library endpoints with upstream's own code: the same random streams of Service, Pod and
// Node events go to k8s.io/endpointslice, to the Endpoints controller of k8s.io/kubernetes, and to ours, and what
// comes out must be equal but for names and packing. What differs on purpose stands in differences_test.go, each with
// its reason and with a test that shows it.
//
// It is a nested module, so that upstream's code does not reach the product's go.sum, and it holds tests alone, beside
// the simulation of topology hints in topology/. It needs neither an API server nor a network: a small store stands for
// the one, and that the other writes what is said here is tested in test/integration with the real programs.
package oracle
