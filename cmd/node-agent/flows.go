package main

import (
	"github.com/go-logr/logr"

	"github.com/fairlead/fairlead/dataplane/conntrack"
)

// newCleaner returns nil where flows are not to be cleaned, or cannot: the rules work without.
func newCleaner(log logr.Logger, c *configuration, observer conntrack.Observer) *conntrack.Cleaner {
	options := conntrack.Options{Flows: *c.Conntrack.CleanFlows, Resets: *c.Conntrack.ResetTerminated, Observer: observer}
	if !options.Flows && !options.Resets {
		return nil
	}
	cleaner, err := conntrack.New(options)
	if err != nil {
		log.Error(err, "Flows to endpoints that are gone stay until they time out")
		return nil
	}
	return cleaner
}
