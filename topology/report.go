package topology

// Reason is why a Service has the hints that it has, or has none. Reasons are stable: conditions and metrics use them.
type Reason string

const (
	// BoundMet: every ready endpoint has hints, and the policy's bound holds.
	BoundMet Reason = "BoundMet"
	// BoundRaised: every ready endpoint has hints; the smallest bound that can be met is above the policy's.
	BoundRaised Reason = "BoundRaised"
	// TooFewEndpoints: every ready endpoint has hints, but they are fewer than the zones, and clients of the zones that no
	// hint names are sent to all endpoints.
	TooFewEndpoints Reason = "TooFewEndpoints"
	// BoundNotMet: no hints, since the bound cannot be met and the policy is strict.
	BoundNotMet Reason = "BoundNotMet"
	// NoEndpoints: nothing is ready.
	NoEndpoints Reason = "NoEndpoints"
	// NoCapacity: no hints, since no zone has any capacity.
	NoCapacity Reason = "NoCapacity"
	// Nearest: the policy is one of trafficDistribution, and each endpoint serves where it is. Never in a Report.
	Nearest Reason = "Nearest"
	// UnknownMode: no hints, since Parse returned an error, which is the message. Never in a Report.
	UnknownMode Reason = "UnknownMode"
)

// Report says what an assignment comes to, if the demand of zones is in proportion to their capacity and a proxy sends to
// each endpoint that it may choose alike.
type Report struct {
	Reason Reason
	// Message is one sentence that explains the reason. It has figures in it, which change more often than the reason.
	Message string
	// Hinted says that endpoints have hints: all of them.
	Hinted bool
	// Endpoints is how many are ready.
	Endpoints int
	// CrossZone is the share of traffic that crosses zones, from 0 to 1.
	CrossZone float64
	// Overload is how much more than an even share the endpoint with most traffic gets: 0.2 is 20% more.
	Overload float64
	// Bound is the bound on Overload that the best assignment was found under: the policy's, or the smallest that can be
	// met. Policy.Keep is beside it.
	Bound float64
	// Kept says that the hints are not the best ones, but stand by Policy.Keep.
	Kept bool
	// Changed counts endpoints whose hints were changed; one that had none, and got some, counts.
	Changed int
	// Zones has the zones with demand or endpoints, sorted.
	Zones []ZoneReport
}

// ZoneReport is one zone of a Report.
type ZoneReport struct {
	// Name is empty for endpoints whose zone is not known.
	Name string
	// Share is its share of the demand, from 0 to 1.
	Share float64
	// Endpoints is how many are in it.
	Endpoints int
	// Serving is how many its clients are sent to, and Local how many of those are in it.
	Serving, Local int
}
