// Package cloudtest is the suite that every provider passes before it may touch a cloud. It drives the provider through
// the core (cloud.Converge, behind cloud.Limited), on a cloud of the provider's own making: an emulator.
//
//	func TestProvider(t *testing.T) {
//		cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness { … })
//	}
//
// Each property is a case by name:
//
//	DesiredIsPure                 the same Spec gives the same resources, and is not changed
//	ReplayIsIdempotent            every call that changes something can be made twice
//	NoChangeNoWrite               a pass in which nothing differs makes no call that changes something
//	CrashAnywhere                 stopped after any single call of creation, changes and deletion, it ends up as
//	                              without the stop, and leaks nothing; also where the Service is deleted next
//	ForeignIsUntouched            what is foreign stays as it is, also under the name that ours would have
//	DeleteWhateverIsThere         a deletion finishes whatever part of the resources there is
//	ThrottlingWithRetryAfter      nothing that changes something is sent before the time that the cloud named is over,
//	                              for any Service
//	ThrottlingWithoutRetryAfter   nor before a time that grows with each refusal
//	EveryCallIsCounted            no call is sent past the account's limits
//	BlockedChangesNothing         a Service that asks for what it may not have, since something would have to be replaced, for
//	                              a replacement that the cloud refuses (of a cloud.Checker), or for what the provider does not
//	                              know, keeps all that it has; its targets follow the nodes
//	NodesAreCheap                 nodes that come cost the stated number of calls, for one Service and for many at once
//	FailedTargetsAreTold          each change of targets that is not done is told so
//	TargetsAreAddedFirst          new targets are there before old ones go
//	ListIsComplete                List shows what Observe shows for each owner, and nothing of another cluster
//	PodsAreTargets                each Pod is sent to at its own port
//	PodsAreCheap                  NodesAreCheap, of Pods
//	HealthIsTold                  of each registered target it is told whether it answers, and of no other
//	SharedInAnyOrder              two Services that join or leave one balancer, one in the middle of the other; and one that
//	                              gives up a family, which goes where no other has it
//	SharedConcurrently            many that do so at the same time
//	SharedCrashAnywhere           CrashAnywhere, beside another Service on the balancer
//	AdoptedWithConsent            a balancer that is there is adopted with its owner's consent, with its address, and is let
//	                              go when the Service goes
//	NotAdoptedWithoutConsent      without consent, or where another Service has it, it stays as it is, and so does what the
//	                              Service has
//	OfferedAndTakenOver           what another controller made for this very Service is offered, or taken over; what it
//	                              made for others is not
//	AdoptionCrashAnywhere         CrashAnywhere, of both
//	Feature/…                     what Capabilities declares can be had, and what is Passthrough is at an address that nodes serve
//
// What a provider does not declare is skipped, with a message that names it. Of one that is Opaque those cases are skipped,
// under Opaque/… and under their own names, whose outcome depends on what it passes its Services on to; each says why. It is
// not a test of traffic.
package cloudtest
