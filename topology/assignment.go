package topology

import discoveryv1 "k8s.io/api/discovery/v1"

// Assignment is the hints of the ready endpoints of one family of a Service, kept up to date. What Update returns is what
// Assign would, given the endpoints with the hints that they have now: neither order nor history counts. A Put or Delete
// costs O(log n), an Update what changes, beside a search over zones. It is not safe for concurrent use.
type Assignment struct{}

// NewAssignment returns an assignment without endpoints. The policy must be one for the whole (Policy.Whole).
func NewAssignment(policy Policy, capacities Capacities) *Assignment { return &Assignment{} }

// Put adds a ready endpoint, or makes it what it is now. For a key that the assignment has, the hints of e do not count:
// it knows those that it gave. So a caller puts what stands on slices at first, and later leaves Hints nil.
func (a *Assignment) Put(e Endpoint) {}

// Delete removes an endpoint that is gone, or not ready any more. It does nothing where there is none.
func (a *Assignment) Delete(key string) {}

// SetCapacities changes the capacities; the next Update goes by them.
func (a *Assignment) SetCapacities(capacities Capacities) {}

// Update returns the endpoints whose hints become others, sorted by key, and the report. New endpoints that have already
// the hints that they should have are not among them. A second Update at once returns none.
func (a *Assignment) Update() ([]Change, Report) { return nil, Report{} }

// Hints returns what an endpoint has since the last Update, nil where it has none or is not known. They are shared and
// must not be changed.
func (a *Assignment) Hints(key string) *discoveryv1.EndpointHints { return nil }
