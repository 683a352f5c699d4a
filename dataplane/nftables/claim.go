package nftables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Claim says that one process programs a network namespace. It is an empty table that the kernel gives to one netlink
// socket and takes away with it (flag owner, Linux 5.12), so that it cannot outlive the process, however that ends, nor be
// taken by anybody who could not write our tables; `nft list table ip fairlead-agent` names the holder's program.
type Claim struct {
	conn *connection
}

// claimInterval is the time between two tries to get a claim that another process holds.
const claimInterval = 200 * time.Millisecond

// ClaimedError says that another process programs the network namespace.
type ClaimedError struct {
	// Table is the claim's, Port that of the holder's netlink socket: mostly the process id, as the holder sees it.
	Table string
	Port  uint32
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("another node-agent programs this network namespace: it holds the table ip %s (netlink port %d, mostly "+
		"its process id)", e.Table, e.Port)
}

// TakeClaim makes this process the one that programs a network namespace until the Claim is closed or the process ends.
// As long as another one does, waiting is called, once, and the claim tried again for so long as patience says; then the
// error is a *ClaimedError. An errors.ErrUnsupported says that the kernel cannot tell.
func TakeClaim(ctx context.Context, o Options, patience time.Duration, waiting func(error)) (*Claim, error) {
	o = o.withDefaults()
	conn, err := dial(o)
	if err != nil {
		return nil, err
	}
	err = conn.claim(o.claimTable())
	taken := (*ClaimedError)(nil)
	if errors.As(err, &taken) && patience > 0 {
		waiting(err)
		err = waitForClaim(ctx, conn, o.claimTable(), patience)
	}
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	return &Claim{conn}, nil
}

func waitForClaim(ctx context.Context, conn *connection, table *nftables.Table, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(claimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		err := conn.claim(table)
		if taken := (*ClaimedError)(nil); ctx.Err() != nil || !errors.As(err, &taken) {
			return err
		}
	}
}

// Claimed returns a *ClaimedError if another process programs the network namespace now.
func Claimed(o Options) error {
	o = o.withDefaults()
	conn, err := dial(o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	_, err = conn.claimed(o.claimTable())
	return err
}

// Close lets another process have the claim.
func (c *Claim) Close() error { return c.conn.CloseLasting() }

func (o Options) claimTable() *nftables.Table {
	return &nftables.Table{Name: o.Table + "-agent", Family: nftables.TableFamilyIPv4, Flags: nftables.TableFlagOwner}
}

// claim tries to make the table.
func (c *connection) claim(table *nftables.Table) error {
	there, err := c.claimed(table)
	if err != nil {
		return err
	}
	if there { // it is nobody's: made by hand
		c.DelTable(table)
	}
	c.AddTable(table)
	err = c.Flush()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		err = fmt.Errorf("%w by this kernel: tables with an owner (Linux 5.12): %w", errors.ErrUnsupported, err)
	}
	if _, taken := c.claimed(table); taken != nil { // meanwhile
		return taken
	}
	return fmt.Errorf("claiming table ip %s: %w", table.Name, err)
}

// claimed says whether the table is there; the error is a *ClaimedError if it is another's.
func (c *connection) claimed(table *nftables.Table) (there bool, err error) {
	is, err := findTable(c, table)
	if err != nil || is == nil {
		return false, err
	}
	if is.Flags&nftables.TableFlagOwner != 0 && is.Owner != 0 && is.Owner != c.port() {
		return true, &ClaimedError{Table: table.Name, Port: is.Owner}
	}
	return true, nil
}
