package conntrack

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	resetTable = "fairlead-resets"
	// resetMemory is for how long a connection is reset whenever its client sends. A client that sends nothing at all
	// for as long meets the Service's rules like a new one.
	resetMemory = 15 * time.Minute
	maxResets   = 1 << 16 // per family
)

// resets keeps the table of connections to reset. It is there as long as it may have elements.
type resets struct {
	namespace int
	// conn is opened early and kept, after errors too: the library waits for answers by a call that panics for file
	// descriptors from 1024 on.
	conn *nftables.Conn
	last time.Time // of an addition; zero: there is no table
}

// Cleanup removes the table of connections to reset, if there is one. 0 is the namespace of the calling thread.
func Cleanup(namespace int) error {
	r := &resets{namespace: namespace}
	defer r.close()
	return r.remove()
}

func (r *resets) connect() (*nftables.Conn, error) {
	if r.conn != nil {
		return r.conn, nil
	}
	opts := []nftables.ConnOption{nftables.AsLasting()}
	if r.namespace != 0 {
		opts = append(opts, nftables.WithNetNSFd(r.namespace))
	}
	conn, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	r.conn = conn
	return conn, nil
}

func (r *resets) close() {
	if r.conn != nil {
		_ = r.conn.CloseLasting()
		r.conn = nil
	}
}

func (r *resets) remove() error {
	conn, err := r.connect()
	if err != nil {
		return err
	}
	// What is added first can be deleted in any case.
	conn.DelTable(conn.AddTable(table()))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("removing table %s: %w", resetTable, err)
	}
	r.last = time.Time{}
	return nil
}

// removeIdle removes the table when all its elements have timed out.
func (r *resets) removeIdle(now time.Time) error {
	if r.last.IsZero() || now.Sub(r.last) < resetMemory {
		return nil
	}
	return r.remove()
}

// add notes connections. The table is written anew each time, whatever became of it.
func (r *resets) add(open []entry) error {
	conn, err := r.connect()
	if err != nil {
		return err
	}
	t := conn.AddTable(table())
	for i, f := range resetFamilies {
		set := f.set(t)
		var elements []nftables.SetElement
		for j := range open {
			if o := &open[j].original; o.src.Addr().Is4() == (i == 0) {
				elements = append(elements, nftables.SetElement{Key: f.key(o), Timeout: resetMemory})
			}
		}
		if err := conn.AddSet(set, elements); err != nil {
			return fmt.Errorf("encoding connections to reset: %w", err)
		}
	}
	for _, c := range chains(t) {
		conn.AddChain(c.Chain)
		conn.FlushChain(c.Chain)
		for _, exprs := range c.rules {
			conn.AddRule(&nftables.Rule{Table: t, Chain: c.Chain, Exprs: exprs})
		}
	}
	r.last = time.Now()
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("noting connections to reset: %w", err)
	}
	return nil
}

func table() *nftables.Table {
	return &nftables.Table{Name: resetTable, Family: nftables.TableFamilyINet}
}

// resetFamily is what differs between IPv4 and IPv6.
type resetFamily struct {
	name    string
	nfproto byte
	addr    nftables.SetDatatype
	// offsets in the network header
	src, dst uint32
	// registers of address, port, address, port, as nft would choose them
	registers [4]uint32
}

var resetFamilies = [2]*resetFamily{
	{name: "connections-4", nfproto: unix.NFPROTO_IPV4, addr: nftables.TypeIPAddr, src: 12, dst: 16, registers: [4]uint32{1, 9, 10, 11}},
	{name: "connections-6", nfproto: unix.NFPROTO_IPV6, addr: nftables.TypeIP6Addr, src: 8, dst: 24, registers: [4]uint32{1, 2, 13, 17}},
}

func (f *resetFamily) set(t *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: t, Name: f.name, HasTimeout: true, Size: maxResets,
		KeyType: nftables.MustConcatSetType(f.addr, nftables.TypeInetService, f.addr, nftables.TypeInetService),
	}
}

func (f *resetFamily) key(o *tuple) []byte {
	var key []byte
	for _, end := range []netip.AddrPort{o.src, o.dst} {
		key = append(key, end.Addr().AsSlice()...)
		key = append(key, byte(end.Port()>>8), byte(end.Port()), 0, 0)
	}
	return key
}

// lookup matches when a packet is one of a connection: from its client, or (towards) to it.
func (f *resetFamily) lookup(towards bool) []expr.Any {
	size := f.addr.Bytes
	addrs, ports := [2]uint32{f.src, f.dst}, [2]uint32{0, 2}
	if towards {
		addrs, ports = [2]uint32{f.dst, f.src}, [2]uint32{2, 0}
	}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.nfproto}},
	}
	for i := range 2 {
		rule = append(rule,
			&expr.Payload{DestRegister: f.registers[2*i], Base: expr.PayloadBaseNetworkHeader, Offset: addrs[i], Len: size},
			&expr.Payload{DestRegister: f.registers[2*i+1], Base: expr.PayloadBaseTransportHeader, Offset: ports[i], Len: 2})
	}
	return append(rule, &expr.Lookup{SourceRegister: 1, SetName: f.name})
}

type resetChain struct {
	*nftables.Chain
	rules [][]expr.Any
}

// chains are those that reset, where packets come in and where the host's own leave, and one that keeps conntrack from
// making flows of what is sent to poke clients.
func chains(t *nftables.Table) []resetChain {
	var reset, untracked [][]expr.Any
	reset = append(reset, unknownConnection())
	for _, f := range resetFamilies {
		reset = append(reset, concat(tcp(), noSYN(), f.lookup(false), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}))
		untracked = append(untracked, concat(tcp(), f.lookup(true), []expr.Any{&expr.Notrack{}}))
	}
	chain := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, rules [][]expr.Any) resetChain {
		return resetChain{rules: rules, Chain: &nftables.Chain{
			Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority,
		}}
	}
	return []resetChain{
		// After conntrack and before translation.
		chain("prerouting", nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle, reset),
		chain("output", nftables.ChainHookOutput, *nftables.ChainPriorityMangle, reset),
		chain("untracked", nftables.ChainHookOutput, *nftables.ChainPriorityRaw, untracked),
	}
}

func concat(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// unknownConnection ends the chain for packets of flows that conntrack knows.
func unknownConnection() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW | expr.CtStateBitINVALID), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// noSYN leaves out a new connection from the same port.
func noSYN() []expr.Any {
	const flagsOffset, flagSYN = 13, 2
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagSYN}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	}
}
