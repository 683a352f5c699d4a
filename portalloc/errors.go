package portalloc

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// TakenError says that a port is in use.
type TakenError struct {
	Port int
	// By is the Service that has it; zero: it is not known.
	By Key
}

// Error names the port and who has it.
func (e *TakenError) Error() string {
	if e.By == (Key{}) {
		return fmt.Sprintf("port %d is taken: choose another", e.Port)
	}
	return fmt.Sprintf("port %d is taken by Service %s: choose another, or delete that Service", e.Port, e.By)
}

// KeptError says that a port is kept for a Service that was deleted.
type KeptError struct {
	Port  int
	For   Key
	Until time.Time
	Pool  string
}

// Error names the port, for whom it is kept and until when.
func (e *KeptError) Error() string {
	return fmt.Sprintf("port %d is kept for Service %s until %s by NodePortPool %q: choose another, or wait", e.Port, e.For,
		e.Until.UTC().Format(time.RFC3339), e.Pool)
}

// OutOfRangeError says that a port is not among those that may be chosen.
type OutOfRangeError struct {
	Port   int
	Ranges Ranges
	// Pools that the ranges belong to; none: they are an allocator's own, or what pools leave.
	Pools []string
}

// Error names the port and the ranges.
func (e *OutOfRangeError) Error() string {
	if len(e.Ranges) == 0 {
		return fmt.Sprintf("port %d cannot be had: every port of the range belongs to NodePortPools of other namespaces", e.Port)
	}
	return fmt.Sprintf("port %d is not in %s%s: choose one of these, or leave the choice out", e.Port, e.Ranges, of(e.Pools))
}

// ExhaustedError says that every port that may be handed out is in use or kept.
type ExhaustedError struct {
	Ranges Ranges
	// Pools that were asked, in order; none: an allocator by itself, or what pools leave.
	Pools []string
	// Kept is how many of the ports nobody has: they are kept for deleted Services, or promised to others.
	Kept int
	// Named says that the pools hand out no port by themselves.
	Named bool
}

// Error names the ranges and the pools, and says what to change.
func (e *ExhaustedError) Error() string {
	switch {
	case len(e.Ranges) == 0 && len(e.Pools) == 0:
		return "there are no ports to hand out: NodePortPools of other namespaces have the whole range; select the namespace in one of them, or make one narrower"
	case len(e.Ranges) == 0:
		return fmt.Sprintf("%s no ports of the range: write others into spec.ranges", subject(e.Pools, "has", "have"))
	case e.Named:
		return fmt.Sprintf("%s no port out without being asked: name a nodePort in %s", subject(e.Pools, "hands", "hand"), e.Ranges)
	}
	text := fmt.Sprintf("every port of %s%s is taken", e.Ranges, of(e.Pools))
	if e.Kept > 0 {
		text += fmt.Sprintf(" or kept (%d)", e.Kept)
	}
	if len(e.Pools) == 0 {
		return text + ": delete Services that need no node port, or widen the range"
	}
	return text + ": delete Services that need no node port, or widen the pool's spec.ranges"
}

func of(pools []string) string {
	if len(pools) == 0 {
		return ""
	}
	return " of " + quoted(pools)
}

func subject(pools []string, one, many string) string {
	if len(pools) == 1 {
		return quoted(pools) + " " + one
	}
	return quoted(pools) + " " + many
}

func quoted(pools []string) string {
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = fmt.Sprintf("%q", p)
	}
	if len(pools) == 1 {
		return "NodePortPool " + names[0]
	}
	return "NodePortPools " + strings.Join(names, ", ")
}

// AddressTakenError says that an address is in use.
type AddressTakenError struct{ Address netip.Addr }

// Error names the address.
func (e *AddressTakenError) Error() string {
	return fmt.Sprintf("address %s is taken: choose another", e.Address)
}

// AddressOutOfRangeError says that an address cannot be a Service's.
type AddressOutOfRangeError struct {
	Address     netip.Addr
	First, Last netip.Addr
}

// Error names the address and those that can be.
func (e *AddressOutOfRangeError) Error() string {
	return fmt.Sprintf("address %s is not in %s-%s: choose one of these, or leave the choice out", e.Address, e.First, e.Last)
}

// AddressesExhaustedError says that every address of a prefix is in use.
type AddressesExhaustedError struct{ Prefix netip.Prefix }

// Error names the prefix.
func (e *AddressesExhaustedError) Error() string {
	return fmt.Sprintf("every address of %s is taken: delete Services that need none, or add a range", e.Prefix)
}
