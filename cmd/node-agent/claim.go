package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead/fairlead/dataplane/conntrack"
	"github.com/fairlead/fairlead/dataplane/nftables"
)

// handOver is how long another agent may take to end, as one that is being replaced does: the time that Kubernetes gives a
// container.
const handOver = 30 * time.Second

const endOther = "end it first; where two DaemonSets run agents on this node, delete one, or keep them apart by nodeSelector"

// takeClaim makes this the node's only agent: two would undo each other's rules for ever. release is to be called at the
// end; it is nil, without an error, if the context ended first.
func takeClaim(ctx context.Context, log logr.Logger) (release func(), err error) {
	claim, err := nftables.TakeClaim(ctx, nftables.Options{}, handOver, func(err error) {
		log.Info("Waiting for another agent to end", "reason", err.Error(), "for", handOver)
	})
	taken := (*nftables.ClaimedError)(nil)
	switch {
	case err == nil:
		return func() { _ = claim.Close() }, nil
	case errors.As(err, &taken) && ctx.Err() != nil:
		return nil, nil
	case errors.As(err, &taken):
		return nil, fmt.Errorf("%w: %s", err, endOther)
	}
	// Where nftables cannot be programmed at all, the backend says why.
	log.V(1).Info("A second agent on this node would not be noticed", "reason", err.Error())
	return func() {}, nil
}

// cleanup removes what agents leave behind.
func cleanup() error {
	err := nftables.Cleanup(nftables.Options{})
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("removing our tables takes root or CAP_NET_ADMIN: %w", err)
	}
	err = errors.Join(err, conntrack.Cleanup(0))
	if taken := (*nftables.ClaimedError)(nil); errors.As(nftables.Claimed(nftables.Options{}), &taken) {
		return errors.Join(err, fmt.Errorf("our tables were removed, but will be written again: %w: end it first", taken))
	}
	return err
}
