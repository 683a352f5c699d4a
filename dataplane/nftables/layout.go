package nftables

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// The scratch word. While a packet passes through the program, its destination address carries this word (in
// IPv6 the first 32 bits, the rest zero):
//
//	31          14   13        12       11     10    9      0
//	+-------------+---------+---------+------+------+--------+
//	|    group    | guarded | outside | host | pods | fate   |
//	+-------------+---------+---------+------+------+--------+
//
// The flags outside, host and pods ask for masquerade of that class of client. The fate is an index into map
// fates. In the maps of session affinity the low 14 bits are the number of a member of the group instead.
const (
	groupShift = 14
	maxGroup   = 1<<(32-groupShift) - 1
	maxMember  = 1<<groupShift - 1
	groupMask  = uint32(maxGroup) << groupShift

	flagGuarded = uint32(1) << 13
	flagOutside = uint32(1) << 12
	flagHost    = uint32(1) << 11
	flagPods    = uint32(1) << 10

	fateMask = flagPods - 1
	maxFate  = int(fateMask)

	fateRefuse    = 1
	fateDrop      = 2
	firstFreeFate = 3
)

// setID numbers the sets and maps of one table, in the order in which they are created.
type setID int

const (
	setFates setID = iota
	setEndpoints
	setSlots
	setMembers
	setBackends
	setHairpin
	setSourceRanges
	setFrontends
	setNodePorts
	setExternal
	setExternalNodePorts
	setClusterIPs
	setServiceRanges
	setLocalRanges
	setNodePortAddresses
	setAffinity // filled by the kernel alone
	setCount
)

// kind says how the elements of a set are written.
type kind int

const (
	plain        kind = iota // key, or key and data
	verdicts                 // data is the name of a chain to go to, or dropVerdict
	ranges                   // start and exclusive end; without an end the range goes on to the last address
	concatRanges             // key and inclusive end of the key, one after the other
	kernelsOwn               // learned by rules
)

const (
	dropVerdict   = "drop"  // no chain of ours has this name
	maxAffinities = 1 << 20 // clients remembered, per table
	affinityName  = "affinity"
)

// setSpec says what a set is.
type setSpec struct {
	name string
	kind kind
	key  []nftables.SetDatatype
	data []nftables.SetDatatype
}

// family is what differs between the tables of IPv4 and IPv6.
type family struct {
	number   uint8 // as in model.GroupKey
	table    nftables.TableFamily
	addrLen  int
	addrType nftables.SetDatatype

	srcOffset, dstOffset uint32 // in the network header
	checksumOffset       uint32 // what a write to the destination address is given as place of the header's checksum
	ctOriginalDst        uint32

	// Registers of address . protocol . port . address, as nft would choose them: anything else confuses it when
	// it lists the rules.
	regProto, regPort, regSrc uint32
	// regSecond follows one address.
	regSecond uint32
	// regData holds data beside a key of two addresses.
	regData uint32

	loopback   netip.Prefix
	refuseCode uint8 // ICMP code of port unreachable
}

var families = [2]*family{
	{
		number: 4, table: nftables.TableFamilyIPv4, addrLen: 4, addrType: nftables.TypeIPAddr,
		srcOffset: 12, dstOffset: 16, checksumOffset: 10, ctOriginalDst: 20,
		regProto: 9, regPort: 10, regSrc: 11, regSecond: 9, regData: 2,
		loopback: netip.MustParsePrefix("127.0.0.0/8"), refuseCode: 3,
	},
	{
		number: 6, table: nftables.TableFamilyIPv6, addrLen: 16, addrType: nftables.TypeIP6Addr,
		srcOffset: 8, dstOffset: 24, ctOriginalDst: 22,
		// IPv6 has no checksum in its header, but the netlink library sends the flag that asks for the transport
		// checksum to be kept right only beside a header checksum. Its place is put inside the address itself, which
		// the kernel writes right afterwards.
		checksumOffset: 24,
		regProto:       2, regPort: 13, regSrc: 14, regSecond: 2, regData: 3,
		loopback: netip.MustParsePrefix("::1/128"), refuseCode: 4,
	},
}

// sets returns the sets and maps of the family's table.
func (f *family) sets() [setCount]setSpec {
	addr := f.addrType
	one := func(t ...nftables.SetDatatype) []nftables.SetDatatype { return t }
	endpoint := one(addr, nftables.TypeInetService)
	frontend := one(addr, nftables.TypeInetProto, nftables.TypeInetService)
	nodePort := one(nftables.TypeInetProto, nftables.TypeInetService)
	// The index is typed mark: integer, which it is, has no fixed size, and nft aborts on it.
	indexed := one(addr, nftables.TypeMark)
	return [setCount]setSpec{
		setFates:             {name: "fates", kind: verdicts, key: one(addr), data: one(nftables.TypeVerdict)},
		setEndpoints:         {name: "endpoints", key: indexed, data: endpoint},
		setSlots:             {name: "slots", key: indexed, data: one(addr)},
		setMembers:           {name: "members", key: one(addr)},
		setBackends:          {name: "backends", key: one(addr), data: endpoint},
		setHairpin:           {name: "hairpin", key: one(addr, addr)},
		setSourceRanges:      {name: "source-ranges", kind: concatRanges, key: append(frontend, addr)},
		setFrontends:         {name: "frontends", key: frontend, data: one(addr)},
		setNodePorts:         {name: "node-ports", key: nodePort, data: one(addr)},
		setExternal:          {name: "external", key: frontend, data: one(addr)},
		setExternalNodePorts: {name: "external-node-ports", key: nodePort, data: one(addr)},
		setClusterIPs:        {name: "cluster-ips", key: one(addr)},
		setServiceRanges:     {name: "service-ranges", kind: ranges, key: one(addr)},
		setLocalRanges:       {name: "local-ranges", kind: ranges, key: one(addr)},
		setNodePortAddresses: {name: "node-port-addresses", kind: ranges, key: one(addr)},
		setAffinity:          {name: affinityName, kind: kernelsOwn, key: one(addr, addr), data: one(addr)},
	}
}

// set makes the library's description of a set.
func (s setSpec) set(t *nftables.Table) *nftables.Set {
	set := &nftables.Set{Table: t, Name: s.name, KeyType: nftables.MustConcatSetType(s.key...)}
	if len(s.data) > 0 {
		set.IsMap, set.DataType = true, nftables.MustConcatSetType(s.data...)
	}
	switch s.kind {
	case ranges:
		set.Interval = true
	case concatRanges:
		set.Interval, set.Concatenation = true, true
	case kernelsOwn:
		set.Dynamic, set.HasTimeout, set.Size = true, true, maxAffinities
	}
	return set
}

// word encodes a scratch word as an address.
func (f *family) word(w uint32) string {
	b := make([]byte, f.addrLen)
	binary.BigEndian.PutUint32(b, w)
	return string(b)
}

// addr encodes an address; the invalid one is nothing.
func (f *family) addr(a netip.Addr) string {
	return string(a.AsSlice())
}

// indexKey encodes a group (or any other word) and an index, which numgen makes in the machine's byte order.
func (f *family) indexKey(w uint32, index int) string {
	return f.word(w) + string(binaryutil.NativeEndian.PutUint32(uint32(index)))
}

// endpoint encodes what a connection is sent to.
func (f *family) endpoint(e netip.AddrPort) string {
	return f.addr(e.Addr()) + port(e.Port())
}

// frontendKey encodes what a packet is addressed to; node ports go without the address.
func (f *family) frontendKey(k model.FrontendKey) string {
	proto := string([]byte{uint8(k.Protocol), 0, 0, 0})
	if k.Addr.IsUnspecified() {
		return proto + port(k.Port)
	}
	return f.addr(k.Addr) + proto + port(k.Port)
}

func port(p uint16) string {
	return string([]byte{byte(p >> 8), byte(p), 0, 0})
}

// parseWord is the inverse of word.
func parseWord(s string) uint32 {
	return binary.BigEndian.Uint32([]byte(s[:4]))
}

// parseIndexKey is the inverse of indexKey.
func (f *family) parseIndexKey(key string) (w uint32, index int) {
	return parseWord(key), int(binaryutil.NativeEndian.Uint32([]byte(key[f.addrLen:])))
}

// parseEndpoint is the inverse of endpoint.
func (f *family) parseEndpoint(data string) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice([]byte(data[:f.addrLen]))
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16([]byte(data[f.addrLen:]))), ok
}

// elements makes the library's form of an element. A range is two: the kernel wants its end right after its start, and
// takes neither alone.
func (s setSpec) elements(key, data string) []nftables.SetElement {
	switch s.kind {
	case verdicts:
		return []nftables.SetElement{{Key: []byte(key), VerdictData: verdictOf(data)}}
	case ranges:
		start, end := key[:s.key[0].Bytes], key[s.key[0].Bytes:]
		if end == "" {
			return []nftables.SetElement{{Key: []byte(start), IntervalOpen: true}}
		}
		return []nftables.SetElement{{Key: []byte(start)}, {Key: []byte(end), IntervalEnd: true}}
	case concatRanges:
		half := len(key) / 2
		return []nftables.SetElement{{Key: []byte(key[:half]), KeyEnd: []byte(key[half:])}}
	}
	e := nftables.SetElement{Key: []byte(key)}
	if data != "" {
		e.Val = []byte(data)
	}
	return []nftables.SetElement{e}
}

// parse is the inverse of elements for one element; not for ranges, whose ends are elements of their own.
func (s setSpec) parse(e element) (key, data string) {
	switch s.kind {
	case verdicts:
		return string(e.key), parseVerdict(e.data)
	case concatRanges:
		return string(e.key) + string(e.keyEnd), ""
	}
	return string(e.key), string(e.data)
}

// rangeEnd is an end of a range, the first address or the one after the last.
type rangeEnd struct {
	addr string
	end  bool
}

// pairRanges pairs starts with ends; an end without a start, which the nft binary adds, says nothing.
func pairRanges(list []rangeEnd) []string {
	slices.SortFunc(list, func(a, b rangeEnd) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1
		}
		return 1
	})
	var keys []string
	open := false
	for _, e := range list {
		switch {
		case !e.end:
			keys = append(keys, e.addr)
		case open:
			keys[len(keys)-1] += e.addr
		}
		open = !e.end
	}
	return keys
}

// parseVerdict reads the netlink attributes of a verdict: a drop, or the chain to go to; empty: another one, which no element
// of ours has.
func parseVerdict(b []byte) string {
	switch expr.VerdictKind(int32(numberOf(b, unix.NFTA_VERDICT_CODE))) {
	case expr.VerdictDrop:
		return dropVerdict
	case expr.VerdictGoto:
		return text(attribute(b, unix.NFTA_VERDICT_CHAIN))
	}
	return ""
}
