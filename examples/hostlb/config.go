package hostlb

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"net/netip"
	"regexp"
	"slices"
)

// configuration is the provider's file (cloud.configFile of the manager), in JSON:
//
//	{"pools": [{"name": "default", "prefix": "198.51.100.0/24"}]}
type configuration struct {
	// Pools of addresses that are routed to this host. The first is that of Services which do not choose.
	Pools []pool `json:"pools"`
}

type pool struct {
	Name   string       `json:"name"`
	Prefix netip.Prefix `json:"prefix"`
}

// poolName keeps names short enough for a mark (see mark.String).
var poolName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// parsePools reads the file. Its error names every mistake: the manager shows it and does not start.
func parsePools(file []byte) ([]pool, error) {
	if len(file) == 0 {
		return nil, errors.New(`no pools: give a file such as {"pools": [{"name": "default", "prefix": "198.51.100.0/24"}]}`)
	}
	var c configuration
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("reading the pools: %w", err)
	}
	var errs []error
	if len(c.Pools) == 0 {
		errs = append(errs, errors.New("pools: at least one is needed"))
	}
	for i, p := range c.Pools {
		switch {
		case !poolName.MatchString(p.Name):
			errs = append(errs, fmt.Errorf("pools[%d].name: %q is not a name of at most 40 lower-case letters, digits and dashes", i, p.Name))
		case slices.ContainsFunc(c.Pools[:i], func(other pool) bool { return other.Name == p.Name }):
			errs = append(errs, fmt.Errorf("pools[%d].name: %q is there twice", i, p.Name))
		}
		switch {
		case !p.Prefix.IsValid() || !p.Prefix.Addr().Is4() || p.Prefix.Bits() < 16 || p.Prefix != p.Prefix.Masked():
			errs = append(errs, fmt.Errorf("pools[%d].prefix: %q is not an IPv4 range of at most 65,536 addresses, such as 198.51.100.0/24", i, p.Prefix))
		case slices.ContainsFunc(c.Pools[:i], func(other pool) bool { return other.Prefix.Overlaps(p.Prefix) }):
			errs = append(errs, fmt.Errorf("pools[%d].prefix: %s overlaps another pool", i, p.Prefix))
		}
	}
	return c.Pools, errors.Join(errs...)
}

// addresses of the pool, all of them, beginning at one that the name decides: a Service whose balancer is made again
// after a reboot of the host gets the address that it had, unless another has it by now.
func (p pool) addresses(name string) iter.Seq[netip.Addr] {
	base := binary.BigEndian.Uint32(p.Prefix.Addr().AsSlice())
	size := uint32(1) << (32 - p.Prefix.Bits())
	return func(yield func(netip.Addr) bool) {
		first := hashOf(name)
		for i := range size {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], base+(first+i)%size)
			if !yield(netip.AddrFrom4(b)) {
				return
			}
		}
	}
}

func hashOf(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}
