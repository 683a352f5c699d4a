package cloud

import "testing"

// TestPublished: what the API server does not take as the address of a Service is an error.
func TestPublished(t *testing.T) {
	for name, tc := range map[string]struct {
		in   Ingress
		want string // empty: an error
	}{
		"IPv4":         {Ingress{IP: "198.51.100.1"}, "198.51.100.1 VIP"},
		"IPv6":         {Ingress{IP: "2001:db8::1", IPMode: "Proxy"}, "2001:db8::1 Proxy"},
		"Capitals":     {Ingress{Hostname: "My-Balancer.Example.COM."}, "my-balancer.example.com"},
		"Underscore":   {Ingress{Hostname: "my_lb.example.com"}, ""},
		"AnAddress":    {Ingress{Hostname: "192.0.2.1"}, ""},
		"Sloppy":       {Ingress{Hostname: "192.0.2.01"}, ""},
		"Both":         {Ingress{IP: "198.51.100.1", Hostname: "Lb.example.com"}, "198.51.100.1lb.example.com VIP"},
		"BadBoth":      {Ingress{IP: "198.51.100.1", Hostname: "192.0.2.1"}, ""},
		"NoIP":         {Ingress{IP: "198.51.100"}, ""},
		"LeadingZero":  {Ingress{IP: "198.51.100.01"}, ""},
		"Mapped":       {Ingress{IP: "::ffff:198.51.100.1"}, ""},
		"Zone":         {Ingress{IP: "fe80::1%eth0"}, ""},
		"Mode":         {Ingress{IP: "198.51.100.1", IPMode: "vip"}, ""},
		"NothingAtAll": {Ingress{}, ""},
		"OnlyADot":     {Ingress{Hostname: "."}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.in.Published()
			text := got.IP + got.Hostname
			if got.IPMode != nil {
				text += " " + string(*got.IPMode)
			}
			if (err != nil) != (tc.want == "") || err == nil && text != tc.want {
				t.Errorf("%q, %v: want %q", text, err, tc.want)
			}
		})
	}
}
