package topology

import (
	"cmp"
	"fmt"
	"slices"
)

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
	// met, which under a strict policy stands beside no hints. Policy.Keep is beside it.
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

// describe reports what is, after the moves of a finding.
func (a *Assignment) describe(found finding, changed int) Report {
	groups := a.sorted()
	f := a.figures(after(groups, nil))
	r := Report{
		Reason: found.reason, Hinted: f.hinted && len(groups) > 0, Endpoints: len(a.members),
		CrossZone: f.cross, Overload: f.overload, Kept: found.kept, Changed: changed,
	}
	if found.bound.den > 0 {
		r.Bound = float64(found.bound.num)/float64(found.bound.den)/float64(a.total) - 1
	}
	placed := map[string]int{}
	for _, g := range groups {
		placed[g.place] += g.size
	}
	for z, zone := range a.zones {
		r.Zones = append(r.Zones, ZoneReport{
			Name: zone.zone, Share: float64(zone.weight) / float64(a.total), Endpoints: placed[zone.zone],
			Serving: f.serving[z], Local: f.local[z],
		})
		delete(placed, zone.zone)
	}
	for name, size := range placed {
		r.Zones = append(r.Zones, ZoneReport{Name: name, Endpoints: size})
	}
	slices.SortFunc(r.Zones, func(x, y ZoneReport) int { return cmp.Compare(x.Name, y.Name) })
	r.Message = a.message(r, f, found.optimum)
	return r
}

// message explains a report in one line.
func (a *Assignment) message(r Report, is, optimum figures) string {
	figures := fmt.Sprintf("%s of the traffic crosses zones and no endpoint gets more than %s above an even share",
		percent(r.CrossZone), percent(r.Overload))
	if r.Kept {
		figures += fmt.Sprintf("; hints that stand are kept, the best would have %s cross zones", percent(optimum.cross))
		if !is.everywhere && optimum.everywhere {
			figures += ", and the clients of some zones are sent to all"
		}
	}
	switch r.Reason {
	case BoundMet:
		return fmt.Sprintf("%d endpoints in %d zones meet the bound of %d%%: %s", r.Endpoints, len(a.zones), a.policy.Bound, figures)
	case BoundRaised:
		return fmt.Sprintf("%d endpoints in %d zones cannot meet the bound of %d%%, but one of %s: %s",
			r.Endpoints, len(a.zones), a.policy.Bound, percent(r.Bound), figures)
	case TooFewEndpoints:
		return fmt.Sprintf("%d endpoints are too few for %d zones, and the clients of some zones are sent to all: %s",
			r.Endpoints, len(a.zones), figures)
	case BoundNotMet:
		return fmt.Sprintf("Hints are off: %d endpoints in %d zones cannot meet the bound of %d%%, but one of %s",
			r.Endpoints, len(a.zones), a.policy.Bound, percent(r.Bound))
	case NoEndpoints:
		return "No endpoint is ready"
	default:
		return "Hints are off: no zone has a node that is ready, takes ordinary Pods, and has a zone label and CPU"
	}
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", share*100) }
