package azure

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

func typeName(v any) string { return fmt.Sprintf("%T", v) }

func specWith(annotations ...string) cloud.Spec {
	spec := cloud.Spec{Owner: cloud.Owner{ClusterID: "cluster-a", ServiceUID: "7f3e0c1a-0000-4000-8000-000000000001", Namespace: "shop", Name: "cart"},
		Families: []cloud.Family{cloud.IPv4}, Annotations: map[string]string{},
		Ports: []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}}}}
	for i := 0; i < len(annotations); i += 2 {
		spec.Annotations[annotations[i]] = annotations[i+1]
	}
	return spec
}

func testConfig(t *testing.T) Config {
	t.Helper()
	config, err := readConfig([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestAnnotationsAreDocumented: the table names what is read, and nothing else.
func TestAnnotationsAreDocumented(t *testing.T) {
	_, err := readSettings(testConfig(t), specWith(prefix+"nobody-knows-this", "a"))
	if err == nil {
		t.Fatal("an unknown annotation is not refused")
	}
	_, list, _ := strings.Cut(err.Error(), "it can be ")
	read := strings.Split(list, ", ")
	for i := range read {
		read[i] = strings.Replace(read[i], portPrefix+"80_", portPrefix+"N_", 1)
	}
	slices.Sort(read)
	var documented []string
	for _, a := range Annotations {
		documented = append(documented, a.Key)
	}
	slices.Sort(documented)
	if diff := cmp.Diff(documented, read); diff != "" {
		t.Errorf("the annotations of the table and those that are read differ (-table +read):\n%s", diff)
	}
}

// TestMistakesAreToldTogether: each wrong annotation is named, and what does not go together.
func TestMistakesAreToldTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations []string
		want        []string
	}{
		"Values": {[]string{prefix + "load-balancer-internal", "yes", prefix + "load-balancer-tcp-idle-timeout", "3", portPrefix + "80_health-probe_interval", "1", portPrefix + "81_no_lb_rule", "true"},
			[]string{"load-balancer-internal", "tcp-idle-timeout", "80_health-probe_interval", "81_no_lb_rule: unknown"}},
		"Internal":  {[]string{prefix + "load-balancer-internal", "true", prefix + "pip-name", "a", prefix + "dns-label-name", "b"}, []string{"pip-name", "dns-label-name"}},
		"Public":    {[]string{prefix + "load-balancer-enable-high-availability-ports", "true", prefix + "pls-create", "true"}, []string{"high-availability-ports", "pls-create"}},
		"Addresses": {[]string{prefix + "pip-name", "a", prefix + "pip-prefix-id", "b", prefix + "load-balancer-ipv4", "fd00::1"}, []string{"pip-prefix-id", "fd00::1", "remove"}},
		"Probes":    {[]string{prefix + "load-balancer-health-probe-interval", "60", prefix + "load-balancer-health-probe-num-of-probe", "3"}, []string{"120 seconds"}},
		"Path":      {[]string{prefix + "load-balancer-health-probe-request-path", "healthz"}, []string{`"healthz"`}},
		"Group":     {[]string{prefix + "load-balancer-resource-group", "other"}, []string{"resource-group"}},
		"Private":   {[]string{prefix + "load-balancer-resource-group", "other", prefix + "load-balancer-internal", "true", prefix + "load-balancer-ipv4", "10.0.0.9"}, []string{"resource-group"}},
		"NoPort":    {[]string{portPrefix + "80_no_lb_rule", "true"}, []string{"no port is left"}},
		"Tags":      {[]string{prefix + "pip-tags", tagCluster + "=mine"}, []string{"pip-tags"}},
		"Names": {[]string{prefix + "pip-name", "a address=10.0.0.1", prefix + "load-balancer-resource-group", "../other", prefix + "pip-tags", "a/b=c"},
			[]string{"pip-name", "resource-group", `"a/b"`}},
		"Prefix":   {[]string{prefix + "pip-prefix-id", "/a/../b"}, []string{"pip-prefix-id", "publicIPPrefixes"}},
		"Subnet":   {[]string{prefix + "load-balancer-internal", "true", prefix + "load-balancer-internal-subnet", "a/b"}, []string{"internal-subnet"}},
		"Label":    {[]string{prefix + "dns-label-name", "Cart"}, []string{"dns-label-name"}},
		"Service":  {[]string{prefix + "allowed-service-tags", "internet,10.0.0.0/8"}, []string{`"internet"`, `"10.0.0.0/8"`}},
		"Space":    {[]string{prefix + "load-balancer-health-probe-request-path", "/a\u00a0b"}, []string{"path"}},
		"LinkName": {[]string{prefix + "load-balancer-internal", "true", prefix + "pls-create", "true", prefix + "pls-name", "a/b", prefix + "pls-ip-configuration-subnet", "a b"}, []string{"pls-name", "configuration-subnet"}},
		"LinkAddresses": {[]string{prefix + "load-balancer-internal", "true", prefix + "pls-create", "true", prefix + "pls-ip-configuration-ip-address", "10.0.0.1 fd00::1"},
			[]string{`"fd00::1"`, "2 addresses"}},
		"Link": {[]string{prefix + "pls-name", "a"}, []string{"pls-create"}},
	} {
		_, err := readSettings(testConfig(t), specWith(tc.annotations...))
		for _, text := range tc.want {
			if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error %v, want one with %q", name, err, text)
			}
		}
	}
}

// TestSettingsCount: what a Service says changes what is made for it. Each of the texts stands among the attributes.
func TestSettingsCount(t *testing.T) {
	internal := []string{prefix + "load-balancer-internal", "true"}
	for name, tc := range map[string]struct {
		annotations []string
		want        []string
	}{
		"Defaults":   {nil, []string{"source=public", "tcp-80=backend=80 floating=true reset=true idle=4 affinity=Default", "tcp-80.probe=tcp,30080,5,2,", "sources=Internet"}},
		"Internal":   {internal, []string{"source=internal subnet=nodes"}},
		"Subnet":     {append(internal, prefix+"load-balancer-internal-subnet", "apps"), []string{"source=internal subnet=apps"}},
		"Address":    {append(internal, prefix+"load-balancer-ipv4", "10.0.0.9"), []string{"source=internal subnet=nodes address=10.0.0.9"}},
		"Named":      {[]string{prefix + "pip-name", "mine", prefix + "load-balancer-resource-group", "other"}, []string{"source=public name=other/mine"}},
		"OtherGroup": {[]string{prefix + "load-balancer-ipv4", "192.0.2.1", prefix + "load-balancer-resource-group", "Other"}, []string{"source=public address=192.0.2.1 group=other"}},
		"Prefix": {[]string{prefix + "pip-prefix-id", "/subscriptions/a/resourceGroups/B/providers/Microsoft.Network/publicIPPrefixes/c"},
			[]string{"prefix=/subscriptions/a/resourcegroups/b/providers/microsoft.network/publicipprefixes/c"}},
		"Tags":         {[]string{prefix + "pip-tags", "b=2,a=1", prefix + "dns-label-name", "cart"}, []string{"tags=a=1,b=2", "dns=cart"}},
		"Timeout":      {[]string{prefix + "load-balancer-tcp-idle-timeout", "30", prefix + "load-balancer-disable-tcp-reset", "true"}, []string{"reset=false idle=30"}},
		"AllPorts":     {append(internal, prefix+"load-balancer-enable-high-availability-ports", "true"), []string{"ports=all-0", "all-0=backend=0"}},
		"NodePorts":    {[]string{prefix + "disable-load-balancer-floating-ip", "true"}, []string{"backend=30080 floating=false", "destination=nodes", "tcp=30080"}},
		"Probe":        {[]string{prefix + "load-balancer-health-probe-protocol", "http", prefix + "load-balancer-health-probe-interval", "7", prefix + "load-balancer-health-probe-num-of-probe", "3"}, []string{"probe=http,30080,7,3,/"}},
		"PortsProbe":   {[]string{portPrefix + "80_health-probe_protocol", "https", portPrefix + "80_health-probe_port", "9", portPrefix + "80_health-probe_request-path", "/up"}, []string{"probe=https,9,5,2,/up"}},
		"NoProbe":      {[]string{portPrefix + "80_no_probe_rule", "true"}, []string{"probe=none"}},
		"Sources":      {[]string{prefix + "allowed-ip-ranges", "192.0.2.0/24", prefix + "allowed-service-tags", "AzureCloud"}, []string{"sources=192.0.2.0/24,AzureCloud"}},
		"DeniedInside": {append(internal, prefix+"allowed-ip-ranges", "192.0.2.0/24"), []string{"deny=80", "sources=192.0.2.0/24"}},
		"Probed":       {append(internal, prefix+"allowed-ip-ranges", "192.0.2.0/24", prefix+"disable-load-balancer-floating-ip", "true"), []string{"deny=30080", "sources=192.0.2.0/24,AzureLoadBalancer"}},
		"OtherForm":    {append(internal, prefix+"load-balancer-ipv4", "10.0.0.9", prefix+"load-balancer-ipv6", "FD00:0::9", prefix+"load-balancer-internal-subnet", "Nodes"), []string{"source=internal subnet=nodes address=10.0.0.9"}},
		"Link":         {append(internal, prefix+"pls-create", "true", prefix+"pls-ip-configuration-ip-address-count", "2", prefix+"pls-visibility", "b a"), []string{"count=2", "visibility=a,b", "subnet=nodes"}},
	} {
		desired, err := New(testConfig(t), nil).Desired(specWith(tc.annotations...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var all []string
		for _, r := range desired {
			for key, text := range r.Attributes {
				all = append(all, key+"="+text)
			}
		}
		for _, text := range tc.want {
			if !slices.ContainsFunc(all, func(attribute string) bool { return strings.Contains(attribute, text) }) {
				t.Errorf("%s: nothing has %q of %q", name, text, all)
			}
		}
	}
}

// TestInternalIPv6: an internal address of IPv6 is not put on nodes, so that node ports are used, and let in; that of IPv4 is.
func TestInternalIPv6(t *testing.T) {
	spec := specWith(prefix+"load-balancer-internal", "true", prefix+"allowed-ip-ranges", "192.0.2.0/24,2001:db8::/64")
	spec.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
	desired, err := New(testConfig(t), nil).Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range desired {
		if got[r.Kind+"/"+r.Key] = r.Attributes["tcp-80"]; r.Kind == KindSecurityRule {
			got[r.Kind+"/"+r.Key] = r.Attributes["destination"] + " " + r.Attributes["tcp"]
		}
	}
	const rest = " reset=true idle=4 affinity=Default"
	want := map[string]string{"Rules/ipv4": "backend=80 floating=true" + rest, "SecurityRule/ipv4": "frontend 80",
		"Rules/ipv6": "backend=30080 floating=false" + rest, "SecurityRule/ipv6": "nodes 30080"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other rules (-want +got):\n%s", diff)
	}
}

// TestClassAndService: the class's parameters count where the Service says nothing.
func TestClassAndService(t *testing.T) {
	spec := specWith()
	spec.Parameters = []byte(`{"scheme":"Internal","subnet":"apps","idleTimeoutMinutes":9}`)
	s, err := readSettings(testConfig(t), spec)
	if err != nil || !s.internal || s.subnet != "apps" || s.idleMinutes != 9 {
		t.Errorf("of the class there is %+v (%v)", s, err)
	}
	spec.Annotations[prefix+"load-balancer-internal"] = "false"
	spec.Annotations[prefix+"load-balancer-tcp-idle-timeout"] = "5"
	if s, err = readSettings(testConfig(t), spec); err != nil || s.internal || s.idleMinutes != 5 {
		t.Errorf("of the class and the Service there is %+v (%v)", s, err)
	}
	spec.Parameters = []byte(`{"resourceGroup":"addresses"}`) // for those that name an address
	if _, err = readSettings(testConfig(t), specWith()); err != nil {
		t.Errorf("without an address of its own it says %v", err)
	}
	named := specWith(prefix+"pip-name", "mine")
	named.Parameters = spec.Parameters
	if s, err = readSettings(testConfig(t), named); err != nil || s.resourceGroup != "addresses" {
		t.Errorf("of the class's resource group there is %+v (%v)", s, err)
	}
	const v4, v6 = "/subscriptions/a/resourceGroups/b/providers/Microsoft.Network/publicIPPrefixes/v4", "/subscriptions/a/resourceGroups/b/providers/Microsoft.Network/publicIPPrefixes/v6"
	class := []byte(`{"tcpReset":false,"floatingIP":false,"publicIPPrefix":"` + v4 + `","publicIPPrefixIPv6":"` + v6 + `","tags":{"team":"shop"},
		"healthProbe":{"protocol":"HTTP","path":"/up","intervalSeconds":7,"threshold":3}}`)
	for name, tc := range map[string]struct {
		annotations []string
		want        settings
	}{
		"Class": {nil, settings{prefixes: map[cloud.Family]string{cloud.IPv4: v4, cloud.IPv6: v6}, tags: map[string]string{"team": "shop"},
			probe: probeSettings{protocol: "http", path: "/up", interval: 7, count: 3}}},
		"Service": {[]string{prefix + "load-balancer-disable-tcp-reset", "false", prefix + "disable-load-balancer-floating-ip", "false", prefix + "pip-prefix-id", v6,
			prefix + "pip-tags", "a=b", prefix + "load-balancer-health-probe-protocol", "https", prefix + "load-balancer-health-probe-request-path", "/on",
			prefix + "load-balancer-health-probe-interval", "9", prefix + "load-balancer-health-probe-num-of-probe", "4"},
			settings{tcpReset: true, floatingIP: true, prefixes: map[cloud.Family]string{cloud.IPv4: v6, cloud.IPv6: v6}, tags: map[string]string{"a": "b"},
				probe: probeSettings{protocol: "https", path: "/on", interval: 9, count: 4}}},
		"Internal": {[]string{prefix + "load-balancer-internal", "true"}, settings{prefixes: map[cloud.Family]string{}, tags: map[string]string{"team": "shop"},
			probe: probeSettings{protocol: "http", path: "/up", interval: 7, count: 3}}},
		"Named": {[]string{prefix + "pip-name", "mine", prefix + "load-balancer-ipv6", "2001:db8::1"}, settings{prefixes: map[cloud.Family]string{}, tags: map[string]string{"team": "shop"},
			probe: probeSettings{protocol: "http", path: "/up", interval: 7, count: 3}}},
	} {
		spec := specWith(tc.annotations...)
		spec.Parameters = class
		s, err := readSettings(testConfig(t), spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := settings{tcpReset: s.tcpReset, floatingIP: s.floatingIP, prefixes: s.prefixes, tags: s.tags, probe: s.ports["tcp-80"]}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(settings{}, probeSettings{}, linkSettings{})); diff != "" {
			t.Errorf("%s: other settings (-want +got):\n%s", name, diff)
		}
	}
	spec.Parameters = []byte(`{"color":"blue"}`)
	if _, err = readSettings(testConfig(t), spec); !cloud.IsClass(err, cloud.UserError) {
		t.Errorf("a parameter that nobody knows is read: %v", err)
	}
}

// TestTextsAreRead: what attributes say is read back as it was written.
func TestTextsAreRead(t *testing.T) {
	for _, s := range []source{{}, {internal: true, subnet: "a"}, {internal: true, subnet: "a", address: "10.0.0.1"}, {named: "group/name"}, {address: "192.0.2.1"}, {address: "192.0.2.1", group: "group"}} {
		if got := parseSource(s.String()); got != s {
			t.Errorf("%+v is read as %+v", s, got)
		}
	}
	for _, p := range []probe{{"tcp", 80, "", 5, 2}, {"http", 10256, "/healthz?a=b,c", 15, 3}} {
		if got, err := parseProbe(p.String()); err != nil || got != p {
			t.Errorf("%+v is read as %+v (%v)", p, got, err)
		}
		r := rule{key: "tcp-80", protocol: "TCP", port: 80, backend: 30080, reset: true, idle: 4, affinity: "SourceIP", probe: p.String()}
		if got, err := parseRule(r.key, r.String()); err != nil || got != r {
			t.Errorf("%+v is read as %+v (%v)", r, got, err)
		}
	}
	for _, text := range []string{"", "tcp,80", "tcp,a,5,2,"} {
		if _, err := parseProbe(text); err == nil {
			t.Errorf("%q is read as a probe", text)
		}
	}
	if _, err := parseRule("tcp-x", ""); err == nil {
		t.Error("a port that is none is read")
	}
}

// TestProbesOfNodes: what a class says of applications' probes does not count where the node, or its proxy, answers; what a Service
// says does, and the class's times do.
func TestProbesOfNodes(t *testing.T) {
	local, none := cloud.HealthCheck{Protocol: "HTTP", Port: 31000, Path: cloud.HealthzPath}, []string(nil)
	for name, tc := range map[string]struct {
		check       cloud.HealthCheck
		annotations []string
		want        string
	}{
		"Application": {cloud.HealthCheck{Protocol: "TCP", Port: 30080}, none, "https,30080,7,2,/up"},
		"Local":       {local, none, "http,31000,7,2,/healthz"},
		"Proxy":       {cloud.HealthCheck{Protocol: "HTTP", Port: cloud.HealthzPort, Path: cloud.HealthzPath}, none, "http,10256,7,2,/healthz"},
		"Protocol":    {local, []string{prefix + "load-balancer-health-probe-protocol", "tcp"}, "tcp,31000,7,2,"},
		"Path":        {local, []string{portPrefix + "80_health-probe_request-path", "/own"}, "http,31000,7,2,/own"},
	} {
		spec := specWith(tc.annotations...)
		spec.Parameters = []byte(`{"healthProbe":{"protocol":"HTTPS","path":"/up","intervalSeconds":7}}`)
		spec.Ports[0].HealthCheck = tc.check
		desired, err := New(testConfig(t), nil).Desired(spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, r := range desired {
			if r.Kind == KindRules && r.Attributes[probeOf("tcp-80")] != tc.want {
				t.Errorf("%s: its probe is %q, want %q", name, r.Attributes[probeOf("tcp-80")], tc.want)
			}
		}
	}
}

// TestMistakesOfClasses: who is told of a parameter of a class is told that it is one.
func TestMistakesOfClasses(t *testing.T) {
	for text, want := range map[string]string{
		`{"tags":{"a":"b,c"}}`:         `parameter tags of the class: the tag "a"`,
		`{"tags":{"a,b":"c"}}`:         `parameter tags of the class: the tag "a,b"`,
		`{"tags":{"a=b":"c"}}`:         `parameter tags of the class: the tag "a=b"`,
		`{"subnet":"a/b"}`:             "parameter subnet of the class: ",
		`{"publicIPPrefix":"nowhere"}`: "parameter publicIPPrefix of the class: ",
		`{"resourceGroup":"a/b"}`:      "parameter resourceGroup of the class: ",
	} {
		spec := specWith()
		spec.Parameters = []byte(text)
		if _, err := readSettings(testConfig(t), spec); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s it says %v, want %q", text, err, want)
		}
	}
	spec := specWith()
	spec.Parameters = []byte(`{"tags":{"a":"b=c"}}`)
	if _, err := readSettings(testConfig(t), spec); err != nil {
		t.Errorf("a value with = is refused: %v", err)
	}
}
