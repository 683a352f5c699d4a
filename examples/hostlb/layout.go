package hostlb

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// slots that each target set has. A packet takes one by chance, and each holds a target: with less targets than slots they
// take turns. The number is fixed, so that the rule that chooses is the same for all sets.
const slots = 128

// noTarget is in the slots of a set without targets.
var noTarget = netip.IPv4Unspecified()

// layout is what the table is made of. A Service is elements of its sets; the rules are the same however many there are:
//
//	set addresses { type ipv4_addr }                                                       comment: mark
//	set targets   { type mark }                                a set by its number         comment: mark
//	map slots     { type mark . mark : ipv4_addr }             set and slot: node
//	map listeners { type ipv4_addr . inet_proto . inet_service : inet_service . mark }     comment: mark
//	                                                           node port and set
//	chain prerouting {
//	    type nat hook prerouting priority dstnat
//	    daddr . protocol . dport in listeners: set and node port; a slot of the set: node; dnat to node : node port
//	    daddr in addresses: drop
//	}
type layout struct {
	table                                *nftables.Table
	addresses, targets, slots, listeners *nftables.Set
}

func newLayout(name string) layout {
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: name}
	return layout{
		table:     t,
		addresses: &nftables.Set{Table: t, Name: "addresses", KeyType: nftables.TypeIPAddr},
		targets:   &nftables.Set{Table: t, Name: "targets", KeyType: nftables.TypeMark},
		slots: &nftables.Set{Table: t, Name: "slots", IsMap: true, DataType: nftables.TypeIPAddr,
			// The slot is a mark, too, only for its size: nft aborts where an integer without one is to be sorted.
			KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeMark)},
		listeners: &nftables.Set{Table: t, Name: "listeners", IsMap: true,
			KeyType:  nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
			DataType: nftables.MustConcatSetType(nftables.TypeInetService, nftables.TypeMark)},
	}
}

// layOut makes the table.
func (tx *transaction) layOut() {
	tx.conn.AddTable(tx.table)
	for _, set := range []*nftables.Set{tx.addresses, tx.targets, tx.slots, tx.listeners} {
		_ = tx.conn.AddSet(set, nil) // what is wrong with it Flush tells
	}
	chain := tx.conn.AddChain(&nftables.Chain{Table: tx.table, Name: "prerouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for _, rule := range [][]expr.Any{tx.translate(), tx.drop()} {
		tx.conn.AddRule(&nftables.Rule{Table: tx.table, Chain: chain, Exprs: rule})
	}
}

// Registers of four bytes. A lookup of several fields takes them from, and puts them into, registers in a row.
const r0, r1, r2 = 8, 9, 10 // NFT_REG32_00 and so on

// Where an IPv4 header has the destination, and TCP and UDP the port.
const destination, destinationPort = 16, 2

// translate sends what is for a listener to a node. Where there is no listener the rule ends at its first lookup.
func (l layout) translate() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: r0, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: 4},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r1},
		&expr.Payload{DestRegister: r2, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: 2},
		// Now the node port is in r0 and the number of the set in r1.
		&expr.Lookup{SetName: l.listeners.Name, SourceRegister: r0, DestRegister: r0, IsDestRegSet: true},
		&expr.Numgen{Register: r2, Modulus: slots, Type: unix.NFT_NG_RANDOM},
		// And the node in r1.
		&expr.Lookup{SetName: l.slots.Name, SourceRegister: r1, DestRegister: r1, IsDestRegSet: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: r1, Data: noTarget.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: r1, RegAddrMax: r1,
			RegProtoMin: r0, RegProtoMax: r0, Specified: true},
	}
}

// drop keeps what no listener took from going round between this host and its own gateway.
func (l layout) drop() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: r0, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: 4},
		&expr.Lookup{SetName: l.addresses.Name, SourceRegister: r0},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

var protocols = map[string]byte{"TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP}

func addressElement(a netip.Addr, m mark) nftables.SetElement {
	return nftables.SetElement{Key: a.AsSlice(), Comment: m.String()}
}

func targetSetElement(number uint32, m mark) nftables.SetElement {
	return nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(number), Comment: m.String()}
}

func listenerElement(at endpoint, l listener) nftables.SetElement {
	key := append(at.address.AsSlice(), protocols[at.protocol], 0, 0, 0)
	key = append(binary.BigEndian.AppendUint16(key, at.port), 0, 0)
	value := append(binary.BigEndian.AppendUint16(nil, l.nodePort), 0, 0)
	return nftables.SetElement{Key: key, Val: binary.NativeEndian.AppendUint32(value, l.set), Comment: l.String()}
}

func parseListener(e nftables.SetElement) (endpoint, listener) {
	at := endpoint{address: addressOf(e.Key[:4]), port: binary.BigEndian.Uint16(e.Key[8:])}
	for name, number := range protocols {
		if number == e.Key[4] {
			at.protocol = name
		}
	}
	return at, listener{mark: parseMark(e.Comment), nodePort: binary.BigEndian.Uint16(e.Val), set: binary.NativeEndian.Uint32(e.Val[4:])}
}

// slotElements are all slots of a set: each target has at least one, and they have equally many, or one more.
func slotElements(number uint32, targets []netip.Addr) []nftables.SetElement {
	if len(targets) == 0 {
		targets = []netip.Addr{noTarget}
	}
	elements := make([]nftables.SetElement, slots)
	for i := range elements {
		elements[i] = nftables.SetElement{
			Key: append(binaryutil.NativeEndian.PutUint32(number), binaryutil.NativeEndian.PutUint32(uint32(i))...),
			Val: targets[i%len(targets)].AsSlice(),
		}
	}
	return elements
}

// fill gives the sets the targets that are in their slots.
func (s *state) fill(elements []nftables.SetElement) {
	for _, e := range elements {
		number, target := binary.NativeEndian.Uint32(e.Key), addressOf(e.Val)
		if set := s.sets[number]; target != noTarget && !slices.Contains(set.targets, target) {
			set.targets = append(set.targets, target)
			s.sets[number] = set
		}
	}
	for _, set := range s.sets {
		slices.SortFunc(set.targets, func(a, b netip.Addr) int { return cmp.Compare(a.String(), b.String()) })
	}
}

func addressOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
