package nftables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// watch hears of changes to a network namespace's nftables.
type watch struct {
	table string
	conn  *netlink.Conn
	// seen is the generation of the ruleset that was read last: what was changed up to it is known.
	seen atomic.Uint32
	// changes holds one report; while it waits, more of them say nothing more.
	changes chan string
}

// watchBuffer is room for some 100,000 notifications, where root asks for it.
const watchBuffer = 16 << 20

// Watch reports changes that others make to our tables, in words that name the program, until the context ends. After
// each report a full Sync is due. Reports that wait are not more than one. Watch is called once, before the first Sync;
// the error says why changes cannot be heard of.
func (b *Backend) Watch(ctx context.Context) (<-chan string, error) {
	c, err := subscribe(b.options, b.conn.port(), watchBuffer)
	if err != nil {
		return nil, fmt.Errorf("subscribing to changes of nftables: %w", err)
	}
	b.watch = &watch{table: b.options.Table, conn: c.netlink, changes: make(chan string, 1)}
	context.AfterFunc(ctx, func() { _ = c.netlink.Close() })
	go b.watch.run(ctx, c)
	return b.watch.changes, nil
}

// subscribe opens a connection that receives notifications, with room for so many bytes, but for those of one sender.
func subscribe(o Options, sender uint32, room int) (*connection, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: o.NetNS})
	if err != nil {
		return nil, err
	}
	c := &connection{netlink: conn, buf: make([]byte, receiveBuffer)}
	c.raw, err = conn.SyscallConn()
	if err == nil {
		err = errors.Join(conn.SetReadBuffer(room), conn.SetBPF(except(sender)), conn.JoinGroup(unix.NFNLGRP_NFTABLES))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// except is a socket filter that the notifications of one sender do not pass: our own cost nothing but their making. All
// messages of a datagram have one sender.
func except(port uint32) []bpf.RawInstruction {
	const sender = 12 // its place in the header
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: sender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port)), SkipTrue: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic(err) // it is the same program each time
	}
	return filter
}

// unheard writes while notifications are off: to make them takes the kernel longer than what they tell of. Whether others
// change something meanwhile shows in the generations of the ruleset, of which each transaction makes one.
func (b *Backend) unheard(write func() error) error {
	if b.watch == nil || b.watch.conn.LeaveGroup(unix.NFNLGRP_NFTABLES) != nil {
		return write()
	}
	b.census = &census{conn: b.conn}
	defer func() { b.census = nil }()
	err := b.census.count(0)
	b.census.others = false // until now
	if err == nil {
		err = write()
	}
	if err := b.watch.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		b.watch.report(fmt.Sprintf("changes are no longer heard of: %v", err))
	}
	if err := errors.Join(err, b.census.count(0)); err != nil {
		return err
	}
	if b.census.others {
		b.watch.report("somebody changed nftables, perhaps our tables, while many rules were written")
	}
	return nil
}

// census counts the transactions of a network namespace.
type census struct {
	conn *connection
	last uint32
	// others is true when somebody else made one.
	others bool
}

// count looks how many there were since it was called last, of which so many are ours.
func (c *census) count(ours uint32) error {
	generation, err := c.conn.GetGen()
	if err != nil {
		return fmt.Errorf("asking for the generation of the ruleset: %w", err)
	}
	c.others = c.others || generation.ID-c.last > ours
	c.last = generation.ID
	return nil
}

// run reads notifications. A transaction is the messages of its changes, then one with its generation and its author.
func (w *watch) run(ctx context.Context, c *connection) {
	defer close(w.changes)
	var ours touched
	for {
		received, err := c.receive()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS):
			ours = touched{}
			w.report("somebody made more changes to nftables than could be heard of")
			continue
		case err != nil:
			w.report(fmt.Sprintf("changes are no longer heard of: %v", err))
			return
		}
		for m := range received {
			if m.kind != aboutNftables|unix.NFT_MSG_NEWGEN {
				ours.note(m, w.table)
				continue
			}
			if generation := numberOf(m.body, unix.NFTA_GEN_ID); ours.any && int32(generation-w.seen.Load()) > 0 {
				w.report(fmt.Sprintf("%s (process %d) %s", text(attribute(m.body, unix.NFTA_GEN_PROC_NAME)),
					numberOf(m.body, unix.NFTA_GEN_PROC_PID), ours.what))
			}
			ours = touched{}
		}
	}
}

func (w *watch) report(what string) {
	select {
	case w.changes <- what:
	default:
	}
}

// touched is the most general of the changes that one transaction made to our tables.
type touched struct {
	any  bool
	kind uint16
	what string
}

// note takes in one change. What is remembered of clients in map affinity may be changed by anybody.
func (t *touched) note(m message, table string) {
	const name = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on
	family := familyName(m.family)
	if family == "" || t.any && m.kind >= t.kind || string(attribute(m.body, name)) != table+"\x00" {
		return
	}
	action, thing := "changed", "an object"
	switch m.kind &^ aboutNftables {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
		action = "deleted"
	}
	part := func(typ uint16) string { return text(attribute(m.body, typ)) }
	switch m.kind &^ aboutNftables {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE:
		t.any, t.kind, t.what = true, m.kind, fmt.Sprintf("%s table %s %s", action, family, table)
		return
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		thing = "chain " + part(unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		thing = "a rule of chain " + part(unix.NFTA_RULE_CHAIN)
	case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
		thing = "set " + part(unix.NFTA_SET_NAME)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		set := part(unix.NFTA_SET_ELEM_LIST_SET)
		if set == affinityName {
			return
		}
		thing = "elements of set " + set
	}
	t.any, t.kind, t.what = true, m.kind, fmt.Sprintf("%s %s in table %s %s", action, thing, family, table)
}
