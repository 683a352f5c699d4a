package nftables

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// join makes one rule of expressions and parts of rules.
func join(parts ...any) rule {
	var r rule
	for _, part := range parts {
		switch part := part.(type) {
		case rule:
			r = append(r, part...)
		case expr.Any:
			r = append(r, part)
		default:
			panic(fmt.Sprintf("a rule cannot hold a %T", part))
		}
	}
	return r
}

func verdict(kind expr.VerdictKind, chain string) *expr.Verdict {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func drop() *expr.Verdict             { return verdict(expr.VerdictDrop, "") }
func jump(chain string) *expr.Verdict { return verdict(expr.VerdictJump, chain) }
func goTo(chain string) *expr.Verdict { return verdict(expr.VerdictGoto, chain) }

// verdictOf is the verdict that an element of map fates holds.
func verdictOf(data string) *expr.Verdict {
	if data == dropVerdict {
		return drop()
	}
	return goTo(data)
}

// lookup matches when register 1 is in the set; lookupData replaces it by what the map holds for it; lookupVerdict
// does what the map says.
func lookup(set string) *expr.Lookup { return &expr.Lookup{SourceRegister: 1, SetName: set} }

func lookupData(set string) *expr.Lookup {
	return &expr.Lookup{SourceRegister: 1, SetName: set, DestRegister: 1, IsDestRegSet: true}
}

func lookupVerdict(set string) *expr.Lookup {
	return &expr.Lookup{SourceRegister: 1, SetName: set, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}
}

// random loads a number below n.
func random(register uint32, n int) *expr.Numgen {
	return &expr.Numgen{Register: register, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM}
}

func (f *family) load(register, offset uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(f.addrLen)}
}

func (f *family) src(register uint32) *expr.Payload   { return f.load(register, f.srcOffset) }
func (f *family) dst() *expr.Payload                  { return f.load(1, f.dstOffset) }
func (f *family) dstIn(register uint32) *expr.Payload { return f.load(register, f.dstOffset) }

// originalDst loads the address that the client used.
func (f *family) originalDst() *expr.Ct {
	return &expr.Ct{Key: expr.CtKey(f.ctOriginalDst), Register: 1, Direction: expr.CtDirOriginal}
}

// writeDst puts register 1 in the place of the destination address and keeps all checksums right.
func (f *family) writeDst() *expr.Payload {
	return &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1,
		Base: expr.PayloadBaseNetworkHeader, Offset: f.dstOffset, Len: uint32(f.addrLen),
		CsumType: expr.CsumTypeInet, CsumOffset: f.checksumOffset, CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
}

func loadProtocol(register uint32) *expr.Meta {
	return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}
}

// loadPort loads the destination port, which TCP, UDP and SCTP have in the same place.
func loadPort(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// frontend loads destination address, protocol and port.
func (f *family) frontend() rule {
	return rule{f.dst(), loadProtocol(f.regProto), loadPort(f.regPort)}
}

// originalFrontend is frontend for packets whose destination address already is the scratch word.
func (f *family) originalFrontend() rule {
	return rule{f.originalDst(), loadProtocol(f.regProto), loadPort(f.regPort)}
}

// nodePortKey loads protocol and port.
func nodePortKey() rule {
	return rule{loadProtocol(1), loadPort(9)}
}

// toScratch replaces the scratch word by what the map holds for register 1; without such an element the rule ends.
func (p *program) toScratch(set setID) rule {
	return rule{lookupData(p.name(set)), p.writeDst()}
}

// mask keeps of the word in a register the bits of mask.
func (f *family) mask(register, mask uint32) *expr.Bitwise {
	m := make([]byte, f.addrLen)
	binary.BigEndian.PutUint32(m, mask)
	return &expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: uint32(f.addrLen), Mask: m, Xor: make([]byte, f.addrLen),
	}
}

// scratch loads some bits of the scratch word.
func (f *family) scratch(mask uint32) rule {
	return rule{f.dst(), f.mask(1, mask)}
}

// scratchHas matches when a flag is set.
func (f *family) scratchHas(flag uint32) rule {
	return join(f.scratch(flag), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, f.addrLen)})
}

// fibIsLocal matches when the source (or else the destination) is an address of this node.
func fibIsLocal(source bool) rule {
	local := make([]byte, 4)
	binary.NativeEndian.PutUint32(local, unix.RTN_LOCAL)
	return rule{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: local},
	}
}

// dnat sends the connection to the endpoint in register 1 and the one that follows an address.
func (f *family) dnat() *expr.NAT {
	return &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.table),
		RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: f.regSecond, RegProtoMax: f.regSecond,
		Specified: true,
	}
}

func inverse(b []byte) []byte {
	inv := make([]byte, len(b))
	for i := range b {
		inv[i] = ^b[i]
	}
	return inv
}
