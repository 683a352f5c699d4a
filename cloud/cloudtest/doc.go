// Package cloudtest is the suite that every provider passes before it may touch a cloud. It drives the provider through
// the core (cloud.Converge), on a cloud of the provider's own making: an emulator, or the cloud itself in memory.
//
//	func TestProvider(t *testing.T) {
//		cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness { … })
//	}
//
// What is held: a replay is idempotent; nothing is written where nothing differs; a crash before or after any single
// call converges and leaks nothing; what is foreign is left untouched, also under the name that ours would have; a
// deletion finishes whatever part of the resources is there; a throttled pass sends nothing more; Desired is pure. It is
// not a test of traffic.
package cloudtest
