// Package proxies holds the tests of whole programs, ours and kube-proxy, against a real API server: both run the table
// of dataplane/conformance at the same time, on the same objects, each as the proxy of a node in a network of its own,
// and what becomes of packets is compared. `make packets` prints both columns. What they cost is measured elsewhere:
// see docs/figures.md.
package proxies
