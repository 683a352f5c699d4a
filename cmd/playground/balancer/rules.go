package balancer

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is that of our table, the only one that is touched.
const tableName = "fairlead-cloud"

// The hooks, by priority: sources are checked before the destination is translated, so that rules see the balancer's
// address in every packet of a connection.
const (
	priorityAllow = nftables.ChainPriority(-110)
	priorityDNAT  = nftables.ChainPriority(-100)
	prioritySNAT  = nftables.ChainPriority(100)
)

// ruleWriter writes our table. The zero value is ready.
type ruleWriter struct{}

// clear removes our table, if it is there.
func (ruleWriter) clear() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	// Adding it first makes the deletion succeed in either case.
	conn.DelTable(conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}))
	return conn.Flush()
}

// write replaces the table in one transaction. Connections that are translated already keep their translation.
func (ruleWriter) write(forwards []forward) error {
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	conn.DelTable(conn.AddTable(table))
	conn.AddTable(table)
	b := &builder{conn: conn, table: table}
	allow := b.base("allow", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityAllow)
	services := b.base("services", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, priorityDNAT)
	back := b.base("back", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, prioritySNAT)
	for i, f := range forwards {
		if f.restricted {
			b.jump(allow, f, b.allow(fmt.Sprintf("allow-%d", i), f))
		}
		if len(f.targets) > 0 {
			b.jump(services, f, b.pick(fmt.Sprintf("pick-%d", i), f))
		}
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback == 0 {
			b.hairpin(back, uint32(link.Index))
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("writing the rules of %d listeners: %w", len(forwards), err)
	}
	return nil
}

type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (b *builder) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: &priority})
}

func (b *builder) rule(chain *nftables.Chain, exprs ...[]expr.Any) {
	rule := &nftables.Rule{Table: b.table, Chain: chain}
	for _, e := range exprs {
		rule.Exprs = append(rule.Exprs, e...)
	}
	b.conn.AddRule(rule)
}

// jump sends what is for the listener to another chain.
func (b *builder) jump(from *nftables.Chain, f forward, to *nftables.Chain) {
	protocol := byte(unix.IPPROTO_TCP)
	if f.protocol == "UDP" {
		protocol = unix.IPPROTO_UDP
	}
	h := header(f.address.Addr())
	b.rule(from,
		metaIs(expr.MetaKeyNFPROTO, []byte{h.family}),
		[]expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: h.destination, Len: h.length},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: f.address.Addr().AsSlice()},
		},
		metaIs(expr.MetaKeyL4PROTO, []byte{protocol}),
		[]expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(f.address.Port())},
			&expr.Verdict{Kind: expr.VerdictGoto, Chain: to.Name},
		})
}

// allow makes a chain that drops what comes from elsewhere than the listener's sources.
func (b *builder) allow(name string, f forward) *nftables.Chain {
	chain := b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})
	h := header(f.address.Addr())
	for _, prefix := range f.sources {
		b.rule(chain, []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: h.source, Len: h.length},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: h.length,
				Mask: net.CIDRMask(prefix.Bits(), int(h.length)*8), Xor: make([]byte, h.length)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix.Masked().Addr().AsSlice()},
			&expr.Verdict{Kind: expr.VerdictReturn},
		})
	}
	b.rule(chain, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	return chain
}

// pick makes a chain that translates to one of the targets: any, all equally likely, or, for a sticky listener, always
// the same for one client as long as the targets stay. The i-th of n rules takes one out of the n-i that are left.
func (b *builder) pick(name string, f forward) *nftables.Chain {
	chain := b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})
	h := header(f.address.Addr())
	for i, target := range f.targets {
		var choose []expr.Any
		switch left := uint32(len(f.targets) - i); {
		case left == 1:
		case f.sticky:
			// One hash for all rules: the rest of its division differs from rule to rule otherwise.
			choose = []expr.Any{
				&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseNetworkHeader, Offset: h.source, Len: h.length},
				&expr.Hash{SourceRegister: 2, DestRegister: 1, Length: h.length, Modulus: uint32(len(f.targets)), Type: expr.HashTypeJenkins},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(i))},
			}
		default:
			choose = []expr.Any{
				&expr.Numgen{Register: 1, Modulus: left, Type: unix.NFT_NG_RANDOM},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
			}
		}
		b.rule(chain, choose, []expr.Any{
			&expr.Immediate{Register: 1, Data: target.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(target.Port())},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(h.family), RegAddrMin: 1, RegProtoMin: 2},
		})
	}
	return chain
}

// hairpin masquerades what the router sends back over the link that it came from: a client beside the targets would
// otherwise be answered by the target itself, from an address that it never connected to. Clients from elsewhere keep
// their address.
func (b *builder) hairpin(chain *nftables.Chain, link uint32) {
	const dstNAT = 1 << 5 // IPS_DST_NAT
	b.rule(chain,
		metaIs(expr.MetaKeyIIF, binaryutil.NativeEndian.PutUint32(link)),
		metaIs(expr.MetaKeyOIF, binaryutil.NativeEndian.PutUint32(link)),
		[]expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dstNAT), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Masq{},
		})
}

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

// layout is where a network header has its addresses.
type layout struct {
	family              byte
	source, destination uint32
	length              uint32
}

func header(a netip.Addr) layout {
	if a.Is4() {
		return layout{family: unix.NFPROTO_IPV4, source: 12, destination: 16, length: 4}
	}
	return layout{family: unix.NFPROTO_IPV6, source: 8, destination: 24, length: 16}
}
