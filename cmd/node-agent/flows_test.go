package main

import (
	"testing"

	"github.com/go-logr/logr"
)

func TestConntrackSwitches(t *testing.T) {
	tests := map[string]struct {
		text          string
		flows, resets bool
	}{
		"Default": {"", true, true},
		"Flows":   {"conntrack: {cleanFlows: false}\n", false, true},
		"Resets":  {"conntrack: {resetTerminated: false}\n", true, false},
		"Both":    {"conntrack: {cleanFlows: false, resetTerminated: false}\n", false, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := loadConfiguration(write(t, header+tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if *c.Conntrack.CleanFlows != tc.flows || *c.Conntrack.ResetTerminated != tc.resets {
				t.Errorf("cleanFlows %v, resetTerminated %v", *c.Conntrack.CleanFlows, *c.Conntrack.ResetTerminated)
			}
			if cleaner := newCleaner(logr.Discard(), c, nil); cleaner != nil && !tc.flows && !tc.resets {
				t.Error("a cleaner with nothing to do")
			}
		})
	}
}
