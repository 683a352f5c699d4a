package gcp

import (
	"testing"

	"github.com/fairlead/fairlead/cloud"
)

// TestAddressBody: what the service refuses for a kind of address is not sent for it.
func TestAddressBody(t *testing.T) {
	for _, tc := range []struct {
		scheme, family, ip string
		// prefix, endpoint and purpose as they are to be sent.
		prefix            int64
		endpoint, purpose string
	}{
		{schemeExternal, "IPv4", "", 0, "", ""},
		{schemeExternal, "IPv6", "", 0, "NETLB", ""},
		{schemeInternal, "IPv4", "10.0.0.7", 0, "", "SHARED_LOADBALANCER_VIP"},
		{schemeInternal, "IPv6", "", 0, "", ""},
		{schemeInternal, "IPv6", "fd20::7:0:0", 96, "", ""},
	} {
		r := &cloud.Resource{Kind: KindAddress, Attributes: map[string]string{attrScheme: tc.scheme, attrFamily: tc.family, attrIP: tc.ip}}
		b := testConfig(t).addressBody(r, &mark{}, "a")
		if b.PrefixLength != tc.prefix || b.Ipv6EndpointType != tc.endpoint || b.Purpose != tc.purpose || (b.IpVersion == "IPV6") != (tc.family == "IPv6") || len(b.Labels) > 0 {
			t.Errorf("of %+v sent is %+v", tc, b)
		}
	}
}
