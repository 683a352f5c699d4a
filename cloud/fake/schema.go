package fake

import (
	"net/netip"
	"strconv"
	"strings"
)

// schema is what the cloud knows of a kind.
type schema struct {
	// fields with the check of their values; what is not listed is refused. All are required.
	fields map[string]func(string) bool
	// immutable fields.
	immutable []string
	// refs says how many objects of which kinds it uses: the least and the most.
	refs map[string][2]int
	// moveable kinds of refs: those that Update may change.
	moveable []string
	targets  bool
}

var schemas = map[string]schema{
	KindAddress: {
		fields:    map[string]func(string) bool{"family": isFamily, "pool": isAny, "requested": isAddressOrEmpty},
		immutable: []string{"family", "pool", "requested"},
	},
	KindHealthCheck: {
		fields: map[string]func(string) bool{"protocol": isOneOf("TCP", "HTTP"), "port": isPortOrZero, "path": isAny,
			"intervalSeconds": isNumber, "threshold": isNumber},
		immutable: []string{"protocol"},
	},
	KindTargetSet: {
		fields: map[string]func(string) bool{"protocol": isOneOf("TCP", "UDP"), "port": isPortOrZero,
			"family": isFamily},
		immutable: []string{"protocol", "family"},
		refs:      map[string][2]int{KindHealthCheck: {1, 1}},
		moveable:  []string{KindHealthCheck},
		targets:   true,
	},
	KindBalancer: {
		refs:     map[string][2]int{KindAddress: {1, 2}},
		moveable: []string{KindAddress},
	},
	KindListener: {
		fields: map[string]func(string) bool{"protocol": isOneOf("TCP", "UDP"), "port": isPort, "family": isFamily,
			"sourceRanges": isPrefixes, "affinitySeconds": isNumber},
		immutable: []string{"protocol", "port", "family"},
		refs:      map[string][2]int{KindBalancer: {1, 1}, KindTargetSet: {1, 1}},
		moveable:  []string{KindTargetSet},
	},
}

func isAny(string) bool { return true }

func isOneOf(values ...string) func(string) bool {
	return func(s string) bool {
		for _, v := range values {
			if s == v {
				return true
			}
		}
		return false
	}
}

func isFamily(s string) bool { return s == "IPv4" || s == "IPv6" }

func isNumber(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}

func isPortOrZero(s string) bool { return s == "0" || isPort(s) }

func isAddressOrEmpty(s string) bool {
	if s == "" {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isPrefixes(s string) bool {
	if s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, ",") {
		if _, err := netip.ParsePrefix(part); err != nil {
			return false
		}
	}
	return true
}
