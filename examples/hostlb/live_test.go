package hostlb

import (
	"testing"

	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// TestLive runs the suite as it is run against a cloud that is somewhere else: in real time. It takes about a minute.
func TestLive(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute: run without -short")
	}
	cloudtest.RunLive(t, newHarness)
}
