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
// each of its calls that change something, and another one that goes on: it comes to the same end as without. Where there is seen, by
// which two accounts are compared, that is so, too, where meanwhile the Service is again what it was.
func crashAnywhere(t *testing.T, options awstest.Options, from, to *cloud.Spec, seen func(*awstest.Server) any) {
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
	var was any
	if seen != nil {
		was = seen(server)
	}
	settled(t, p, owner, to)
	want := server.Snapshot()
	for at, killed := 0, true; killed; at++ {
		server, p := begun()
		killed = killedPass(t, server, p, owner, to, at)
		recovered(t, server, owner, to)
		if diff := cmp.Diff(want, server.Snapshot()); diff != "" {
			t.Fatalf("killed at call %d that changes something, it comes to another end (-want +got):\n%s", at, diff)
		}
		if seen == nil {
			continue
		}
		server, p = begun()
		killedPass(t, server, p, owner, to, at)
		recovered(t, server, owner, from)
		if diff := cmp.Diff(was, seen(server)); diff != "" {
			t.Fatalf("killed at call %d that changes something, and asked for what there was, it leaves (-was +is):\n%s", at, diff)
		}
	}
}

// killedPass is one that ends before, or after, a call that changes something; it reports whether there was that call.
func killedPass(t *testing.T, server *awstest.Server, p cloud.Provider, owner cloud.Owner, to *cloud.Spec, at int) (killed bool) {
	t.Helper()
	seen := 0
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
	defer server.SetHook(nil)
	if _, err := cloud.Converge(t.Context(), p, owner, desiredOf(t, p, to), cloud.Options{}); killed == (err == nil) {
		t.Fatalf("killed at %d: %t, and the pass ended with %v", at, killed, err)
	}
	return killed
}

// recovered passes until a new manager finds nothing to do.
func recovered(t *testing.T, server *awstest.Server, owner cloud.Owner, to *cloud.Spec) {
	t.Helper()
	p := testProvider(server, unlimited)
	for range 3 {
		out, err := cloud.Converge(t.Context(), p, owner, desiredOf(t, p, to), cloud.Options{})
		if err == nil && out.Left.Empty() {
			break
		}
	}
	settled(t, p, owner, to)
}

func desiredOf(t *testing.T, p cloud.Provider, s *cloud.Spec) []cloud.Resource {
	t.Helper()
	if s == nil {
		return nil
	}
	desired, err := p.Desired(*s)
	if err != nil {
		t.Fatal(err)
	}
	return desired
}
