package mirroring

import (
	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

// state is what is remembered of one Endpoints object between passes. Only one pass at a time touches it, since the
// queue never hands out a key twice.
type state struct {
	share
	pace     endpoints.Pace
	refusals work.Refusals
	// invalid and skipped are how many addresses the last events told of.
	invalid, skipped int
	// failing says that the last pass failed, so that only the first of several failures makes an event.
	failing bool
}
