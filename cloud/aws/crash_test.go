package aws

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

var errKilled = errors.New("killed")

// crashAnywhere has a Service change from one Spec to another, nil being none, by a manager that is killed before, or after,
// each of its calls that change something, and another one that goes on. It comes to the same end as without.
func crashAnywhere(t *testing.T, options awstest.Options, from, to *cloud.Spec) {
	t.Helper()
	owner := spec("uid-1", 0).Owner
	begun := func() (*awstest.Server, cloud.Provider) {
		server := awstest.New(options)
		p := testProvider(server, unlimited)
		if from != nil {
			settled(t, p, owner, from)
		}
		return server, p
	}
	server, p := begun()
	settled(t, p, owner, to)
	want := server.Snapshot()
	for at, killed := 0, true; killed; at++ {
		server, p := begun()
		seen := 0
		killed = false
		server.SetHook(func(call awstest.Call) error {
			if !call.Write() {
				return nil
			}
			if killed = killed || seen == at; killed {
				return errKilled
			}
			seen++
			return nil
		})
		var desired []cloud.Resource
		if to != nil {
			var err error
			if desired, err = p.Desired(*to); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := cloud.Converge(t.Context(), p, owner, desired, cloud.Options{}); killed == (err == nil) {
			t.Fatalf("killed at %d: %t, and the pass ended with %v", at, killed, err)
		}
		server.SetHook(nil)
		for range 3 {
			out, err := cloud.Converge(t.Context(), testProvider(server, unlimited), owner, desired, cloud.Options{})
			if err == nil && out.Left.Empty() {
				break
			}
		}
		settled(t, p, owner, to)
		if diff := cmp.Diff(want, server.Snapshot()); diff != "" {
			t.Fatalf("killed at call %d that changes something, it comes to another end (-want +got):\n%s", at, diff)
		}
	}
}
