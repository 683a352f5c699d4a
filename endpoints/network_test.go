package endpoints

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podOnNetworks(status string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p",
		Annotations: map[string]string{NetworkStatusAnnotation: status}}}
}

func TestAttachments(t *testing.T) {
	cases := map[string]struct {
		reason  string
		status  string
		want    []Attachment
		refused string
	}{
		"Multus": {
			reason: "what Multus 4 writes; what is not read does not count",
			status: `[{"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.2"], "mac": "0a:58:0a:f4:01:02", "default": true, "dns": {}},
			          {"name": "storage/fast", "interface": "net1", "ips": ["10.20.0.7", "fd00:20::7"], "mac": "aa:bb:cc:00:11:22",
			           "dns": {"nameservers": ["10.20.0.1"]}, "device-info": {"type": "pci", "version": "1.1.0"}}]`,
			want: []Attachment{{"shop/cbr0", []string{"10.244.1.2"}}, {"storage/fast", []string{"10.20.0.7", "fd00:20::7"}}},
		},
		"WithoutAddresses": {
			reason: "a layer-2 network is one all the same",
			status: `[{"name":"shop/l2","interface":"net1","mac":"aa:bb:cc:00:11:22"}]`,
			want:   []Attachment{{"shop/l2", nil}},
		},
		"Twice": {
			reason: "a Pod may be on a network with two interfaces",
			status: `[{"name":"shop/a","ips":["10.0.0.1"]},{"name":"shop/a","ips":["10.0.0.2"]}]`,
			want:   []Attachment{{"shop/a", []string{"10.0.0.1"}}, {"shop/a", []string{"10.0.0.2"}}},
		},
		"Empty":     {reason: "no annotation, no networks", status: ""},
		"NoList":    {reason: "an object is no list", status: `{"name":"a"}`, refused: "JSON"},
		"NoJSON":    {reason: "cut off", status: `[{"name":"a"`, refused: "JSON"},
		"Trailing":  {reason: "nothing is believed of what is wrong anywhere", status: `[{"name":"a","ips":["10.0.0.1"]}] x`, refused: "JSON"},
		"WrongType": {reason: "addresses are strings", status: `[{"name":"a","ips":[1]}]`, refused: "JSON"},
		"TooLong":   {reason: "others pay for reading it", status: `[` + strings.Repeat(" ", MaxNetworkStatus) + `]`, refused: "longer"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Attachments(podOnNetworks(tc.status))
			if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
				t.Fatalf("error %v, want one with %q: %s", err, tc.refused, tc.reason)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestAddressFilter(t *testing.T) {
	// As careless as it can be configured, so that only what is never served is left out.
	wide := AddressFilter{Allowed: prefixes("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"), Denied: prefixes("10.96.0.0/12", "fd00:96::/112")}
	narrow := AddressFilter{Allowed: prefixes("10.20.0.0/16", "fd00:20::/64")}
	cases := map[string]struct {
		reason   string
		filter   AddressFilter
		ips      []string
		want     []string
		excluded int
	}{
		"DualStack":      {"one of each family", narrow, []string{"10.20.0.7", "fd00:20::7"}, []string{"10.20.0.7", "fd00:20::7"}, 0},
		"SixFirst":       {"the order stays", narrow, []string{"fd00:20::7", "10.20.0.7"}, []string{"fd00:20::7", "10.20.0.7"}, 0},
		"Several":        {"the first of each family, as everywhere; the rest is no offence", narrow, []string{"10.20.0.7", "10.20.0.8"}, []string{"10.20.0.7"}, 0},
		"Outside":        {"another network", narrow, []string{"10.21.0.7", "fd00:21::7"}, nil, 2},
		"OutsideFirst":   {"the first that may be served", narrow, []string{"10.21.0.7", "10.20.0.7"}, []string{"10.20.0.7"}, 1},
		"NothingAllowed": {"the zero value lets nothing through", AddressFilter{}, []string{"10.20.0.7"}, nil, 1},
		"None":           {"nothing of nothing", narrow, nil, nil, 0},
		"Canonical":      {"written as everyone writes it", narrow, []string{"FD00:0020:0::0007"}, []string{"fd00:20::7"}, 0},

		"Loopback":       {"a node's own services", wide, []string{"127.0.0.1", "127.8.8.8", "::1"}, nil, 3},
		"LinkLocal":      {"metadata of clouds", wide, []string{"169.254.169.254", "fe80::1"}, nil, 2},
		"Unspecified":    {"the node itself, to many", wide, []string{"0.0.0.0", "0.1.2.3", "::"}, nil, 3},
		"Multicast":      {"nobody's", wide, []string{"224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"}, nil, 4},
		"Broadcast":      {"everybody's", wide, []string{"255.255.255.255", "240.0.0.1"}, nil, 2},
		"MappedMetadata": {"IPv4 in IPv6's clothes", wide, []string{"::ffff:169.254.169.254", "::ffff:10.20.0.7", "::127.0.0.1"}, nil, 3},
		"Translated":     {"a NAT64 gateway would deliver it to IPv4", wide, []string{"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::"}, nil, 3},
		"ClusterIPs":     {"a Service's address is no endpoint", wide, []string{"10.96.0.1", "fd00:96::1"}, nil, 2},
		"Zone":           {"an interface of the node", wide, []string{"fd00:20::7%eth0"}, nil, 1},
		"LeadingZero":    {"octal to some", wide, []string{"010.20.0.7"}, nil, 1},
		"Prefix":         {"no address", wide, []string{"10.20.0.7/16"}, nil, 1},
		"Name":           {"no address", wide, []string{"kubernetes.default.svc", "", " 10.20.0.7"}, nil, 3},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, excluded := tc.filter.Select(tc.ips)
			if diff := cmp.Diff(tc.want, got); diff != "" || excluded != tc.excluded {
				t.Errorf("%s: %d excluded, want %d (-want +got):\n%s", tc.reason, excluded, tc.excluded, diff)
			}
		})
	}
}

// FuzzNetworkStatus: whatever a Pod claims, what is served is within what is allowed, at most one address of a family,
// and in the form that the API server takes.
func FuzzNetworkStatus(f *testing.F) {
	f.Add(`[{"name":"shop/a","ips":["10.20.0.7","fd00:20::7"]}]`, "10.0.0.0/8")
	f.Add(`[{"name":"a","ips":["::ffff:10.20.0.7","127.0.0.1","224.0.0.1"]}]`, "::/1")
	f.Add(`[{"name":"a","IPS":["169.254.1.1"],"ips":null}]`, "128.0.0.0/1")
	f.Add(`[null,{}]`, "fe80::/9")
	f.Fuzz(func(t *testing.T, status, allowed string) {
		attachments, err := Attachments(podOnNetworks(status))
		if err != nil && attachments != nil {
			t.Fatal("something is believed of an annotation that is wrong")
		}
		prefix, err := netip.ParsePrefix(allowed)
		if err != nil {
			return
		}
		for _, a := range attachments {
			if !strings.Contains(a.Network, "/") {
				t.Errorf("network %q has no namespace", a.Network)
			}
			served, excluded := AddressFilter{Allowed: []netip.Prefix{prefix}}.Select(a.IPs)
			if len(served) > 2 || len(served)+excluded > len(a.IPs) {
				t.Errorf("%q and %d excluded of %q", served, excluded, a.IPs)
			}
			for _, text := range served {
				ip := netip.MustParseAddr(text)
				if ip.String() != text || !prefix.Contains(ip) || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified() ||
					ip.IsLinkLocalUnicast() || ip.Is4In6() || ip.Zone() != "" {
					t.Errorf("%s is served where %s is allowed", text, prefix)
				}
			}
			if len(served) == 2 && netip.MustParseAddr(served[0]).Is4() == netip.MustParseAddr(served[1]).Is4() {
				t.Errorf("%q are of one family", served)
			}
		}
	})
}

// TestAttachmentsAreAsWritten: a list of any length below the limit is read whole.
func TestAttachmentsAreAsWritten(t *testing.T) {
	type entry struct {
		Name string   `json:"name"`
		IPs  []string `json:"ips"`
	}
	var all []entry
	for len(all) < 200 {
		all = append(all, entry{"shop/net", []string{"10.20.0.7"}})
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Attachments(podOnNetworks(string(text))); err != nil || len(got) != len(all) {
		t.Errorf("%d of %d entries, %v", len(got), len(all), err)
	}
}
