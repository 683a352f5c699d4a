// Package portalloc hands out node ports and cluster IPs.
//
// An Allocator is a bitmap over any ranges of ports, Addresses the same over a prefix, both with upstream's static and
// dynamic bands. A Ledger is what a cluster needs on top: which Service has which node port, pools that split the range,
// ports that are kept for the names of deleted Services, ports that two Services have, and the choice of node ports for
// a Service.
//
// The package is pure. It knows neither clocks nor randomness nor the API server: both are arguments, and whoever uses
// it decides where the truth is. Beside a real API server, whose own allocator cannot be turned off, that server stays
// the arbiter, and a Ledger is only a good guess made from the Services that were seen. Where Services are served
// without an allocator, the Ledger is the allocator: see the example of Ledger.
package portalloc
