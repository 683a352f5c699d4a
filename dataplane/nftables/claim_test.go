package nftables

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

func takeClaim(t *testing.T, ns *nstest.Namespace, patience time.Duration, waiting func(error)) (*Claim, error) {
	t.Helper()
	c, err := TakeClaim(t.Context(), Options{NetNS: ns.FD()}, patience, waiting)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("%v", err)
	}
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// never is for claims that are not to be waited for.
func never(t *testing.T) func(error) {
	return func(err error) { t.Errorf("waits: %v", err) }
}

// TestClaim: of two agents the second is told of the first, in another namespace it is not, and it goes on as soon as the
// first has ended. What lies in the way and is nobody's is no agent.
func TestClaim(t *testing.T) {
	node, other := nstest.New(t, "node"), nstest.New(t, "other")
	if err := node.Do(func() error { return exec.Command("nft", "add table ip fairlead-agent").Run() }); err != nil {
		t.Fatal(err)
	}
	if err := Claimed(Options{NetNS: node.FD()}); err != nil {
		t.Fatalf("a table without an owner: %v", err)
	}
	first, err := takeClaim(t, node, 0, never(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeClaim(t, other, 0, never(t)); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	// What others do to all tables they can reach does not take the claim away.
	if err := node.Do(func() error { return exec.Command("nft", "flush ruleset").Run() }); err != nil {
		t.Fatal(err)
	}
	taken := (*ClaimedError)(nil)
	for range 2 {
		if _, err := takeClaim(t, node, 0, never(t)); !errors.As(err, &taken) || taken.Port != first.conn.port() {
			t.Fatalf("the second agent: %v, want to be told of the first one's port %d", err, first.conn.port())
		}
	}
	if err := Claimed(Options{NetNS: node.FD()}); !errors.As(err, &taken) {
		t.Errorf("asked for: %v", err)
	}
	begin, waits := time.Now(), 0
	if _, err := takeClaim(t, node, 3*claimInterval/2, func(error) { waits++ }); !errors.As(err, &taken) || waits != 1 {
		t.Errorf("at the end of its patience: %v, told %d times", err, waits)
	}
	if took := time.Since(begin); took < 3*claimInterval/2 {
		t.Errorf("patience of only %v", took)
	}
	if _, err := takeClaim(t, node, time.Minute, func(error) { _ = first.Close() }); err != nil {
		t.Errorf("after the first one has ended: %v", err)
	}
	var out []byte
	if err := node.Do(func() (err error) {
		out, err = exec.Command("nft", "list", "ruleset").CombinedOutput()
		return err
	}); err != nil || !strings.Contains(string(out), "table ip fairlead-agent") {
		t.Errorf("nft list ruleset: %v, %s", err, out)
	}
}

// TestClaimGivesUp: an agent that is told to end while it waits ends.
func TestClaimGivesUp(t *testing.T) {
	node := nstest.New(t, "node")
	if _, err := takeClaim(t, node, 0, never(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	taken := (*ClaimedError)(nil)
	if _, err := TakeClaim(ctx, Options{NetNS: node.FD()}, time.Minute, func(error) { cancel() }); !errors.As(err, &taken) {
		t.Error(err)
	}
}
