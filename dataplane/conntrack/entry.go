package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Attributes and values of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h that package unix lacks.
const (
	msgGet, msgDelete, msgStats = 1, 2, 5

	attrTypeMask = 1<<14 - 1

	attrOriginal   = 1
	attrReply      = 2
	attrStatus     = 3
	attrProtoInfo  = 4
	attrID         = 12
	attrZone       = 18
	attrFilter     = 25
	attrStatusMask = 26

	attrTupleIP, attrTupleProto, attrTupleZone = 1, 2, 3
	attrSrc4, attrDst4, attrSrc6, attrDst6     = 1, 2, 3, 4
	attrProtoNumber, attrSrcPort, attrDstPort  = 1, 2, 3
	attrProtoInfoTCP                           = 1
	attrTCPState                               = 1
	attrFilterOriginal, attrFilterReply        = 1, 2

	statusSeenReply = 1 << 1
	statusDNAT      = 1 << 5

	tcpTimeWait, tcpClose = 7, 8
)

// Flags that say by which parts of a tuple the kernel filters a dump (Linux 5.8).
const (
	bySrc      = 1 << 0
	byDst      = 1 << 1
	byProtocol = 1 << 3
	bySrcPort  = 1 << 4
	byDstPort  = 1 << 5
)

// tuple is one direction of a flow.
type tuple struct {
	protocol model.Protocol
	src, dst netip.AddrPort
	// zone is true for flows of a conntrack zone, where the same addresses mean others. Ours have none.
	zone bool
}

// entry is what the kernel remembers of a flow.
type entry struct {
	original, reply tuple
	status          uint32
	tcpState        uint8
	zone            bool
	id              uint32
}

// flow is the entry in terms of Services.
func (e *entry) flow() model.Flow {
	return model.Flow{
		Protocol: e.original.protocol, To: e.original.dst, Endpoint: e.reply.src,
		Translated: e.status&statusDNAT != 0, Answered: e.status&statusSeenReply != 0,
	}
}

// open is true for a TCP connection that both sides have known and that is not over.
func (e *entry) open() bool {
	return e.original.protocol == model.TCP && e.status&statusSeenReply != 0 &&
		e.tcpState != tcpTimeWait && e.tcpState != tcpClose
}

// attributes walks over netlink attributes.
func attributes(data []byte, each func(kind uint16, value []byte)) {
	for len(data) >= 4 {
		size := int(binary.NativeEndian.Uint16(data))
		if size < 4 || size > len(data) {
			return
		}
		each(binary.NativeEndian.Uint16(data[2:])&attrTypeMask, data[4:size])
		data = data[min(align(size), len(data)):]
	}
}

// parseEntry reads a message of a dump.
func parseEntry(data []byte) entry {
	const header = 4 // struct nfgenmsg
	var e entry
	if len(data) < header {
		return e
	}
	attributes(data[header:], func(kind uint16, value []byte) {
		switch kind {
		case attrOriginal:
			e.original = parseTuple(value)
		case attrReply:
			e.reply = parseTuple(value)
		case attrStatus:
			e.status = bigEndian32(value)
		case attrProtoInfo:
			attributes(value, func(kind uint16, value []byte) {
				if kind == attrProtoInfoTCP {
					e.tcpState = parseTCPState(value)
				}
			})
		case attrID:
			e.id = bigEndian32(value)
		case attrZone:
			e.zone = true
		}
	})
	e.zone = e.zone || e.original.zone || e.reply.zone
	return e
}

func parseTCPState(data []byte) (state uint8) {
	attributes(data, func(kind uint16, value []byte) {
		if kind == attrTCPState && len(value) == 1 {
			state = value[0]
		}
	})
	return state
}

func parseTuple(data []byte) tuple {
	var t tuple
	var src, dst netip.Addr
	var srcPort, dstPort uint16
	attributes(data, func(kind uint16, value []byte) {
		switch kind {
		case attrTupleIP:
			attributes(value, func(kind uint16, value []byte) {
				addr, _ := netip.AddrFromSlice(value)
				switch kind {
				case attrSrc4, attrSrc6:
					src = addr
				case attrDst4, attrDst6:
					dst = addr
				}
			})
		case attrTupleProto:
			attributes(value, func(kind uint16, value []byte) {
				switch {
				case kind == attrProtoNumber && len(value) == 1:
					t.protocol = model.Protocol(value[0])
				case kind == attrSrcPort && len(value) == 2:
					srcPort = binary.BigEndian.Uint16(value)
				case kind == attrDstPort && len(value) == 2:
					dstPort = binary.BigEndian.Uint16(value)
				}
			})
		case attrTupleZone:
			t.zone = true
		}
	})
	t.src, t.dst = netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort)
	return t
}

func bigEndian32(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}
