package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// filter says which flows of one protocol a dump is to have.
type filter struct {
	family   uint8 // 4 or 6
	protocol model.Protocol
	// toAddr and toPort are where the client sends; the zero values mean any.
	toAddr netip.Addr
	toPort uint16
	// from is who answers; the zero value means anybody.
	from netip.AddrPort
	// translated leaves out flows whose destination was not translated.
	translated bool
}

// matches repeats the filter on an entry: a kernel may know nothing of filters, or of some.
func (f *filter) matches(e *entry) bool {
	to := e.original.dst
	return !e.zone && e.original.protocol == f.protocol && familyOf(to.Addr().Is4()) == f.family &&
		(!f.toAddr.IsValid() || f.toAddr == to.Addr()) && (f.toPort == 0 || f.toPort == to.Port()) &&
		(!f.from.IsValid() || f.from == e.reply.src) &&
		(!f.translated || e.status&statusDNAT != 0)
}

// request encodes the dump. A plain one leaves all filtering but that of the family to us.
//
// Addresses of IPv6 are always left to us: the kernel's comparison is upside down and hides exactly those entries that
// are asked for (ctnetlink_filter_match_tuple, from Linux 5.8 on and still in 6.18). It does not compare ports of SCTP.
func (f *filter) request(plain bool) []byte {
	r := newRequest(msgGet, unix.NLM_F_DUMP, f.family)
	if plain {
		return r.end()
	}
	original, reply := uint32(byProtocol), uint32(0)
	r.nest(attrOriginal, func() {
		if f.toAddr.Is4() {
			original |= byDst
			r.nest(attrTupleIP, func() { r.addr(attrDst4, f.toAddr) })
		}
		r.nest(attrTupleProto, func() {
			r.add(attrProtoNumber, []byte{uint8(f.protocol)})
			if f.toPort != 0 {
				original |= byDstPort
				r.port(attrDstPort, f.toPort)
			}
		})
	})
	if f.from.IsValid() {
		reply = byProtocol | bySrcPort
		r.nest(attrReply, func() {
			if f.from.Addr().Is4() {
				reply |= bySrc
				r.nest(attrTupleIP, func() { r.addr(attrSrc4, f.from.Addr()) })
			}
			r.nest(attrTupleProto, func() {
				r.add(attrProtoNumber, []byte{uint8(f.protocol)})
				r.port(attrSrcPort, f.from.Port())
			})
		})
	}
	r.nest(attrFilter, func() {
		r.add(attrFilterOriginal, binary.NativeEndian.AppendUint32(nil, original))
		r.add(attrFilterReply, binary.NativeEndian.AppendUint32(nil, reply))
	})
	if f.translated {
		r.add(attrStatus, binary.BigEndian.AppendUint32(nil, statusDNAT))
		r.add(attrStatusMask, binary.BigEndian.AppendUint32(nil, statusDNAT))
	}
	return r.end()
}

// deletion encodes the request to forget an entry and no other: not one that took its place meanwhile.
func deletion(e *entry) []byte {
	r := newRequest(msgDelete, unix.NLM_F_ACK, familyOf(e.original.dst.Addr().Is4()))
	r.nest(attrOriginal, func() {
		r.nest(attrTupleIP, func() {
			r.addr(attrSrc4, e.original.src.Addr())
			r.addr(attrDst4, e.original.dst.Addr())
		})
		r.nest(attrTupleProto, func() {
			r.add(attrProtoNumber, []byte{uint8(e.original.protocol)})
			r.port(attrSrcPort, e.original.src.Port())
			r.port(attrDstPort, e.original.dst.Port())
		})
	})
	r.add(attrID, binary.BigEndian.AppendUint32(nil, e.id))
	return r.end()
}

// request builds one netlink message of the conntrack subsystem.
type request struct{ b []byte }

func newRequest(kind, flags uint16, family uint8) *request {
	r := &request{b: make([]byte, 0, 192)}
	r.b = append(r.b, 0, 0, 0, 0) // length
	r.b = binary.NativeEndian.AppendUint16(r.b, unix.NFNL_SUBSYS_CTNETLINK<<8|kind)
	r.b = binary.NativeEndian.AppendUint16(r.b, unix.NLM_F_REQUEST|flags)
	r.b = append(r.b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence number, port
	addressFamily := map[uint8]uint8{4: unix.AF_INET, 6: unix.AF_INET6}[family]
	r.b = append(r.b, addressFamily, unix.NFNETLINK_V0, 0, 0)
	return r
}

func (r *request) end() []byte {
	binary.NativeEndian.PutUint32(r.b, uint32(len(r.b)))
	return r.b
}

func (r *request) add(kind uint16, value []byte) {
	r.b = binary.NativeEndian.AppendUint16(r.b, uint16(4+len(value)))
	r.b = binary.NativeEndian.AppendUint16(r.b, kind)
	r.b = append(r.b, value...)
	r.b = append(r.b, make([]byte, align(len(value))-len(value))...)
}

func (r *request) nest(kind uint16, content func()) {
	start := len(r.b)
	r.add(kind|unix.NLA_F_NESTED, nil)
	content()
	binary.NativeEndian.PutUint16(r.b[start:], uint16(len(r.b)-start))
}

// addr adds an address; kind is that of IPv4, to which the one of IPv6 is two more.
func (r *request) addr(kind uint16, a netip.Addr) {
	if a.Is6() {
		kind += attrSrc6 - attrSrc4
	}
	r.add(kind, a.AsSlice())
}

func (r *request) port(kind uint16, p uint16) {
	r.add(kind, []byte{byte(p >> 8), byte(p)})
}
