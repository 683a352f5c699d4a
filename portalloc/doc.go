// Package portalloc hands out node ports: a bitmap over one range, with upstream's static and dynamic bands, and the
// assignment of ports to a Service.
//
// It is pure and knows neither clocks nor randomness nor the API server: the random source is an argument, and whoever
// uses the package decides where the truth is. Beside a real API server, whose own allocator cannot be turned off, that
// server stays the arbiter, and an Allocator is only a good guess made from the Services that were seen.
package portalloc
