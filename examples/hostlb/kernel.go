package hostlb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cloud"
)

// kernel is what the provider needs of the host: the client of this "cloud". Each method is one call. The suite's harness
// stands between the two (see suite_test.go).
type kernel interface {
	// read returns everything in the table, as it was at one moment.
	read(ctx context.Context) (*state, error)
	// write does one transaction, as a whole or not at all. what is for messages. With a state it is refused (ERESTART) if
	// anything changed since that was read; nil: whatever there is by now.
	write(ctx context.Context, what string, since *state, build func(*transaction) error) error
}

// state is the content of the table.
type state struct {
	generation uint32
	// laidOut: the table is there.
	laidOut   bool
	addresses map[netip.Addr]mark
	sets      map[uint32]targetSet
	listeners map[endpoint]listener
}

// endpoint is what clients connect to.
type endpoint struct {
	address  netip.Addr
	protocol string // TCP or UDP
	port     uint16
}

type listener struct {
	mark
	nodePort uint16
	set      uint32
}

type targetSet struct {
	mark
	targets []netip.Addr // sorted by text, as Desired sorts them
}

// counted has each call wait for the account's limits before it is sent. It stands in front of whatever sends.
type counted struct{ kernel }

func (c counted) read(ctx context.Context) (*state, error) {
	if err := cloud.Wait(ctx, cloud.Read); err != nil {
		return nil, err
	}
	return c.kernel.read(ctx)
}

func (c counted) write(ctx context.Context, what string, since *state, build func(*transaction) error) error {
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return err
	}
	return c.kernel.write(ctx, what, since, build)
}

// table is the kernel's table of that name.
type table struct {
	layout
}

func newTable(name string) *table { return &table{newLayout(name)} }

// attempts to read a moment while others keep changing rules.
const attempts = 20

// read implements kernel. A list takes several messages, and there are four lists: they belong together if nobody changed
// anything meanwhile.
func (t *table) read(context.Context) (*state, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	for range attempts {
		before, err := conn.GetGen()
		if err != nil {
			return nil, fmt.Errorf("asking for the generation of rules: %w", err)
		}
		s, err := t.list(conn)
		after, genErr := conn.GetGen()
		switch {
		case genErr != nil:
			return nil, fmt.Errorf("asking for the generation of rules: %w", genErr)
		case before.ID != after.ID:
			continue
		case err != nil:
			return nil, fmt.Errorf("listing table %s: %w", t.table.Name, err)
		}
		s.generation = before.ID
		return s, nil
	}
	return nil, cloud.Errorf(cloud.Conflict, "the host's rules change all the time")
}

func (t *table) list(conn *nftables.Conn) (*state, error) {
	s := &state{addresses: map[netip.Addr]mark{}, sets: map[uint32]targetSet{}, listeners: map[endpoint]listener{}}
	elements, err := conn.GetSetElements(t.addresses)
	if errors.Is(err, unix.ENOENT) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.laidOut = true
	for _, e := range elements {
		s.addresses[addressOf(e.Key)] = parseMark(e.Comment)
	}
	if elements, err = conn.GetSetElements(t.targets); err != nil {
		return nil, err
	}
	for _, e := range elements {
		s.sets[binary.NativeEndian.Uint32(e.Key)] = targetSet{mark: parseMark(e.Comment)}
	}
	if elements, err = conn.GetSetElements(t.slots); err != nil {
		return nil, err
	}
	s.fill(elements)
	if elements, err = conn.GetSetElements(t.listeners); err != nil {
		return nil, err
	}
	for _, e := range elements {
		at, l := parseListener(e)
		s.listeners[at] = l
	}
	return s, nil
}

// transaction collects changes.
type transaction struct {
	layout
	conn *nftables.Conn
}

// write implements kernel.
func (t *table) write(_ context.Context, what string, since *state, build func(*transaction) error) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	tx := &transaction{layout: t.layout, conn: conn}
	generation := uint32(0)
	if since != nil {
		generation = since.generation
		if !since.laidOut {
			tx.layOut()
		}
	}
	if err := build(tx); err != nil {
		return err
	}
	if err := conn.FlushWithGenID(generation); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// add puts elements into a set, remove takes them out. What is there already must not be added, nor what is missing
// removed.
func (tx *transaction) add(set *nftables.Set, elements ...nftables.SetElement) error {
	return tx.conn.SetAddElements(set, elements)
}

func (tx *transaction) remove(set *nftables.Set, elements ...nftables.SetElement) error {
	return tx.conn.SetDeleteElements(set, elements)
}
