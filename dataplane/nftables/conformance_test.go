package nftables

import (
	"testing"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// TestPacketsConform runs the table that all backends share.
func TestPacketsConform(t *testing.T) {
	conformance.Run(t, func(tb testing.TB, netns int) conformance.Backend {
		b, err := New(Options{NetNS: netns})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = b.Close() })
		return b
	})
}
