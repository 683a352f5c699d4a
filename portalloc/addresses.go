package portalloc

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
)

// Addresses knows which addresses of a prefix are in use, for API servers that have no allocator of cluster IPs. The
// first address of a prefix is nobody's (it names the network), nor is the last of an IPv4 prefix (the broadcast). Not
// for several goroutines.
type Addresses struct {
	prefix netip.Prefix
	first  netip.Addr
	bands  bands
}

// StaticAddresses is how many addresses at the beginning of a prefix of that size are the static band. Upstream's
// formula (KEP-3070): a 16th, at least 16 and at most 256, none of 16 or fewer.
func StaticAddresses(size uint64) uint64 {
	const least, most, share = 16, 256, 16
	if size <= least {
		return 0
	}
	return min(max(least, size/share), most)
}

// NewAddresses makes an allocator with every address free. A prefix needs room for one address; an IPv6 prefix of more
// than 2^64 addresses (shorter than /64) is refused, as the API server refuses it. The bits of the host are ignored.
func NewAddresses(prefix netip.Prefix) (*Addresses, error) {
	if !prefix.IsValid() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%s is not a prefix of IPv4 or IPv6 addresses: write it as 10.96.0.0/16 or fd00::/112", prefix)
	}
	prefix = prefix.Masked()
	host := prefix.Addr().BitLen() - prefix.Bits()
	lost := uint64(1) // the first address, and of IPv4 the last
	if prefix.Addr().Is4() {
		lost = 2
	}
	if host > 64 {
		return nil, fmt.Errorf("%s is too large: choose a prefix of /64 or longer", prefix)
	}
	whole := uint64(math.MaxUint64) // one less than there are: all of the hosts
	if host < 64 {
		whole = 1 << host
	}
	if whole <= lost {
		return nil, fmt.Errorf("%s has no address to hand out: choose a larger prefix", prefix)
	}
	size := whole - lost
	if host == 64 {
		size = whole
	}
	return &Addresses{prefix: prefix, first: prefix.Addr().Next(), bands: newBands(size, min(StaticAddresses(whole), size))}, nil
}

// Prefix returns the prefix, without host bits.
func (a *Addresses) Prefix() netip.Prefix { return a.prefix }

// Used returns the number of addresses in use.
func (a *Addresses) Used() uint64 { return a.bands.taken() }

// Free returns the number of addresses that are not in use.
func (a *Addresses) Free() uint64 { return a.bands.size() - a.bands.taken() }

// Has reports whether an address is in use; false for one that can be nobody's.
func (a *Addresses) Has(address netip.Addr) bool {
	i, ok := a.offset(address)
	return ok && a.bands.has(i)
}

// Static reports whether an address is in the static band.
func (a *Addresses) Static(address netip.Addr) bool {
	i, ok := a.offset(address)
	return ok && i < a.bands.static.size()
}

// Reserve takes an address. Its error is an *AddressTakenError or an *AddressOutOfRangeError.
func (a *Addresses) Reserve(address netip.Addr) error {
	i, ok := a.offset(address)
	if !ok {
		return &AddressOutOfRangeError{Address: address, First: a.first, Last: a.address(a.bands.size() - 1)}
	}
	if !a.bands.take(i) {
		return &AddressTakenError{Address: address}
	}
	return nil
}

// Release gives an address back and reports whether it was in use.
func (a *Addresses) Release(address netip.Addr) bool {
	i, ok := a.offset(address)
	return ok && a.bands.free(i)
}

// Allocate takes a free address of the dynamic band, or of the static band if the dynamic one is full. Each of up to two
// million has the same chance; of more, those behind a taken one can have a little more. intn(n) returns a number from 0
// to n-1; the same answers lead to the same addresses. Its error is an *AddressesExhaustedError.
func (a *Addresses) Allocate(intn func(n uint64) uint64) (netip.Addr, error) {
	i, ok := a.bands.allocate(intn)
	if !ok {
		return netip.Addr{}, &AddressesExhaustedError{Prefix: a.prefix}
	}
	return a.address(i), nil
}

// List returns the addresses in use, sorted.
func (a *Addresses) List() []netip.Addr {
	offsets := a.bands.list()
	all := make([]netip.Addr, len(offsets))
	for i, offset := range offsets {
		all[i] = a.address(offset)
	}
	return all
}

// offset returns the place of an address behind the first one.
func (a *Addresses) offset(address netip.Addr) (uint64, bool) {
	address = address.Unmap()
	if address.Zone() != "" || !a.prefix.Contains(address) {
		return 0, false
	}
	// For the prefix's own address, one below the first, that is the largest number there is.
	i := low(address) - low(a.first)
	return i, i < a.bands.size()
}

func (a *Addresses) address(offset uint64) netip.Addr {
	if a.first.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(low(a.first)+offset))
		return netip.AddrFrom4(b)
	}
	b := a.first.As16()
	binary.BigEndian.PutUint64(b[8:], low(a.first)+offset)
	return netip.AddrFrom16(b)
}

// low is the lower half of an address as a number.
func low(address netip.Addr) uint64 {
	if address.Is4() {
		b := address.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := address.As16()
	return binary.BigEndian.Uint64(b[8:])
}
