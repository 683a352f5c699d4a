// Package nftables programs the state that dataplane/model computes into the kernel, over netlink: one table per
// address family with a fixed program of some twenty chains and with maps; a Service is elements of maps, never a
// chain or a rule of its own. It decides nothing about Services, reads no API and needs no nft binary.
//
// # The program
//
// A packet of a new connection is looked up by destination address, protocol and port in map frontends (or, on
// the node's own addresses, by protocol and port in map node-ports). What the maps hold is one 32-bit word: the
// number of a group of endpoints, its fate (refuse, drop, or the chain that picks one of N endpoints) and flags.
// The program needs a register for this word that outlives a rule. It does not use the packet mark, whose bits
// belong to others, but the packet's own destination address: address translation replaces it anyway, and
// conntrack remembers what it was, so that a refusal can put it back. Only the masquerade mark is a bit of the
// packet mark; other bits are never touched.
//
// The word's fate selects a chain pick-N, which translates to the endpoint at (group, random number below N) of
// map endpoints. One change of an endpoint is a few elements, at any number of Services.
//
// With session affinity of T seconds, chain pick-N-Ts remembers in map affinity the member of the group that a
// client went to. All addresses of a Service port that lead to the same group share this memory; under traffic
// policy Local the groups for inside and outside clients differ, and each has its own.
//
// Linux 5.9 or later is needed; New says what is missing.
//
// # Guarantees
//
// Nothing outside the tables named Options.Table in the families ip and ip6 is read or written. A sync that finds
// nothing to change writes nothing. Established connections are conntrack's and survive every sync; a table that
// must be replaced whole is replaced in one transaction, for the kernel stops translating when the last user of
// NAT and conntrack in a namespace goes (so after Cleanup they stall, unless another program has NAT rules).
package nftables

import (
	"errors"
	"fmt"

	"github.com/google/nftables"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Options of a Backend. The zero value is ready for use.
type Options struct {
	// Table is the name of our tables in the families ip and ip6; default fairlead.
	Table string
	// MasqueradeMark is the bit (or bits) of the packet mark that carries the wish for masquerade from the first
	// chain to the last; it is cleared there. Default 0x4000, which is kube-proxy's too.
	MasqueradeMark uint32
	// MasqueradePredictable turns off full randomisation of source ports of masqueraded connections.
	MasqueradePredictable bool
	// NetNS is a file descriptor of the network namespace to program; 0: that of the calling thread.
	NetNS int
}

func (o Options) withDefaults() Options {
	if o.Table == "" {
		o.Table = "fairlead"
	}
	if o.MasqueradeMark == 0 {
		o.MasqueradeMark = 1 << 14
	}
	return o
}

// Backend keeps the tables of one network namespace. It is not safe for concurrent use.
type Backend struct {
	options Options
	conn    *connection
	tables  [2]*table // IPv4, IPv6
	// watch is nil where nobody asked for it.
	watch *watch
	// synced is true when the tables' elements are known to be what the kernel holds.
	synced bool
	// census is there while the watch hears nothing.
	census *census
	// committed, in tests, is called after each transaction; an error ends the sync there.
	committed func() error
}

// New opens a netlink connection and tries what the program needs; the error names what the kernel lacks.
func New(o Options) (*Backend, error) {
	o = o.withDefaults()
	conn, err := dial(o)
	if err != nil {
		return nil, err
	}
	if err := probe(conn, o); err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	b := &Backend{options: o, conn: conn}
	for i, f := range families {
		b.tables[i] = newTable(f, o)
	}
	return b, nil
}

// Close closes the connection to the kernel; the tables stay.
func (b *Backend) Close() error {
	return b.conn.CloseLasting()
}

// Sync brings the kernel to a state. With changes, the difference between the state of the last successful call
// and this one, the cost is that of the changes and one transaction. Without (nil), whatever the kernel holds is
// read and the difference written. After an error the tables' content is unknown and the next call reads it
// whatever its arguments are. The error says what to change.
func (b *Backend) Sync(state *model.State, changes *model.Changes) error {
	var err error
	if changes == nil || !b.synced {
		err = b.fullSync(state)
	} else {
		err = b.partialSync(state, changes)
	}
	b.synced = err == nil
	return withRemedy(err)
}

func (b *Backend) partialSync(state *model.State, c *model.Changes) error {
	if err := validate(c.Frontends, c.Groups); err != nil {
		return err
	}
	if err := b.applyChanges(state, c); err != nil {
		return err
	}
	return b.send(b.conn.transaction, b.writeNewChains)
}

// fullSync works in this order:
//
//  1. read the tables, and number groups as they are numbered there;
//  2. put everything the state has, remove the rest: both only in memory;
//  3. send the difference;
//  4. delete chains and sets that nothing uses any more.
func (b *Backend) fullSync(state *model.State) error {
	frontends, groups := sortedFrontends(state), sortedGroups(state)
	if err := validate(frontends, groups); err != nil {
		return err
	}
	if err := b.catchUp(); err != nil {
		return err
	}
	found := make([]*found, len(b.tables))
	for i, t := range b.tables {
		var err error
		if found[i], err = b.read(t); err != nil {
			return fmt.Errorf("reading table %s %s: %w", t.familyName(), t.table.Name, err)
		}
		t.adopt(frontends)
		t.want()
	}
	if err := b.applyAll(state, frontends, groups); err != nil {
		return err
	}
	for _, t := range b.tables {
		t.sweep()
		t.forgetFates()
	}
	write := func() error {
		return b.send(b.conn.bulk, func(tx *transaction) error {
			for i, t := range b.tables {
				if err := b.writeProgram(tx, t, found[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	const many = 1000
	var err error
	if b.tables[0].differences()+b.tables[1].differences() > many {
		err = b.unheard(write)
	} else {
		err = write()
	}
	if err != nil {
		return err
	}
	for i, t := range b.tables {
		if err := b.deleteUnused(t, found[i]); err != nil {
			return &model.CleanupError{Family: t.number, Err: fmt.Errorf("deleting unused chains and sets: %w", err)}
		}
	}
	return nil
}

// catchUp tells the watch that what was changed before now is about to be read.
func (b *Backend) catchUp() error {
	if b.watch == nil {
		return nil
	}
	generation, err := b.conn.GetGen()
	if err != nil {
		return fmt.Errorf("asking for the generation of the ruleset: %w", err)
	}
	b.watch.seen.Store(generation.ID)
	return nil
}

// Cleanup removes our tables; it is no error if there are none. One that another program has for itself stays, which the
// error says.
func Cleanup(o Options) error {
	o = o.withDefaults()
	conn, err := dial(o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	var owned error
	for _, f := range families {
		t := &nftables.Table{Name: o.Table, Family: f.table}
		there, err := findTable(conn, t)
		if err != nil {
			return err
		}
		if there == nil {
			continue
		}
		if err := othersOwn(there); err != nil {
			owned = errors.Join(owned, fmt.Errorf("deleting table %s %s: %w", familyName(f.table), o.Table, err))
			continue
		}
		conn.DelTable(t)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("deleting tables %s: %w", o.Table, err)
	}
	return owned
}

func (t *table) familyName() string { return familyName(t.table.Family) }

// familyName is empty for families that we have no table in.
func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return ""
}
