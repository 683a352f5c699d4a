package aws

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

const testCertificate = "arn:aws:acm:eu-north-1:123456789012:certificate/1"

// TestAnnotations: each annotation makes the difference that it is about, and the emulator takes it.
func TestAnnotations(t *testing.T) {
	const two = "subnet-0b01,subnet-0b02"
	cases := map[string]struct {
		annotations map[string]string
		// kind/key whose attribute is to have a value.
		resource, attribute, want string
	}{
		"type nlb":        {map[string]string{"type": "nlb"}, "LoadBalancer/main", scheme, schemeInternet},
		"scheme":          {map[string]string{"scheme": "internet-facing"}, "LoadBalancer/main", scheme, schemeInternet},
		"type and scheme": {map[string]string{"type": "nlb", "scheme": "internal"}, "LoadBalancer/main", scheme, schemeInternal},
		"internal":        {map[string]string{"type": "nlb", "internal": "true"}, "LoadBalancer/main", scheme, schemeInternal},
		"default scheme":  {nil, "LoadBalancer/main", scheme, schemeInternal},
		"name":            {map[string]string{"name": "mine"}, "LoadBalancer/main", givenName, "mine"},
		"dualstack":       {map[string]string{"ip-address-type": "dualstack"}, "LoadBalancer/main", addressType, addressTypeDouble},
		"subnets":         {map[string]string{"subnets": "subnet-0b02, subnet-0b01"}, "LoadBalancer/main", subnets, two},
		"elastic addresses": {map[string]string{"scheme": "internet-facing", "subnets": two, "eip-allocations": "eipalloc-01,eipalloc-02"},
			"LoadBalancer/main", addresses, "subnet-0b01=eipalloc-01||,subnet-0b02=eipalloc-02||"},
		"private addresses": {map[string]string{"subnets": two, "private-ipv4-addresses": "172.30.16.9,172.30.17.9"},
			"LoadBalancer/main", addresses, "subnet-0b01=|172.30.16.9|,subnet-0b02=|172.30.17.9|"},
		"IPv6 addresses": {map[string]string{"subnets": two, "ip-address-type": "dualstack", "ipv6-addresses": "2600:1f16:1:10::9,2600:1f16:1:11::9"},
			"LoadBalancer/main", addresses, "subnet-0b01=||2600:1f16:1:10::9,subnet-0b02=||2600:1f16:1:11::9"},
		"IPv6 addresses in another form": {map[string]string{"subnets": two, "ip-address-type": "dualstack", "ipv6-addresses": "2600:1F16:1:10:0::9,2600:1f16:1:11:0:0:0:9"},
			"LoadBalancer/main", addresses, "subnet-0b01=||2600:1f16:1:10::9,subnet-0b02=||2600:1f16:1:11::9"},
		"attributes":              {map[string]string{"attributes": "load_balancing.cross_zone.enabled=true"}, "LoadBalancer/main", "attribute.load_balancing.cross_zone.enabled", "true"},
		"cross zone":              {map[string]string{"cross-zone-load-balancing-enabled": "true"}, "LoadBalancer/main", "attribute.load_balancing.cross_zone.enabled", "true"},
		"deletion protection":     {map[string]string{"attributes": "deletion_protection.enabled=true"}, "LoadBalancer/main", "attribute.deletion_protection.enabled", "true"},
		"access logs":             {map[string]string{"access-log-enabled": "true", "access-log-s3-bucket-name": "logs"}, "LoadBalancer/main", "attribute.access_logs.s3.bucket", "logs"},
		"access logs' prefix":     {map[string]string{"access-log-enabled": "true", "access-log-s3-bucket-name": "logs", "access-log-s3-bucket-prefix": "shop"}, "LoadBalancer/main", "attribute.access_logs.s3.prefix", "shop"},
		"target group attributes": {map[string]string{"target-group-attributes": "deregistration_delay.timeout_seconds=5"}, "TargetGroup/53", "attribute.deregistration_delay.timeout_seconds", "5"},
		"of one port": {map[string]string{"target-group-attributes": "deregistration_delay.timeout_seconds=5", "target-group-attributes.80": "deregistration_delay.timeout_seconds=9"},
			"TargetGroup/80", "attribute.deregistration_delay.timeout_seconds", "9"},
		"listener attributes":    {map[string]string{"listener-attributes.TCP-80": "tcp.idle_timeout.seconds=60"}, "Listener/80", "attribute.tcp.idle_timeout.seconds", "60"},
		"tags":                   {map[string]string{"additional-resource-tags": "b=2,a=1"}, "TargetGroup/80", tags, "a=1,b=2"},
		"proxy protocol":         {map[string]string{"proxy-protocol": "*"}, "TargetGroup/53", "attribute.proxy_protocol_v2.enabled", "true"},
		"of the port":            {map[string]string{"proxy-protocol-per-target-group": "80"}, "TargetGroup/80", "attribute.proxy_protocol_v2.enabled", "true"},
		"of another port":        {map[string]string{"proxy-protocol-per-target-group": "80"}, "TargetGroup/53", "attribute.proxy_protocol_v2.enabled", "false"},
		"TLS":                    {map[string]string{"ssl-cert": testCertificate}, "Listener/80", protocol, "TLS"},
		"no TLS with UDP":        {map[string]string{"ssl-cert": testCertificate}, "Listener/53", protocol, "UDP"},
		"TLS by the port's name": {map[string]string{"ssl-cert": testCertificate, "ssl-ports": "web"}, "Listener/80", protocol, "TLS"},
		"TLS to targets":         {map[string]string{"ssl-cert": testCertificate, "backend-protocol": "ssl"}, "TargetGroup/80", protocol, "TLS"},
		"others":                 {map[string]string{"ssl-cert": certificatesFrom("1", "3", "2")}, "Listener/80", certificates, certificatesFrom("2", "3")},
		"capacity":               {map[string]string{"minimum-load-balancer-capacity": "CapacityUnits=3000"}, "CapacityReservation/main", capacity, "3000"},
		"TLS policy":             {map[string]string{"ssl-cert": testCertificate, "ssl-negotiation-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}, "Listener/80", tlsPolicy, "ELBSecurityPolicy-TLS13-1-2-2021-06"},
		"ALPN":                   {map[string]string{"ssl-cert": testCertificate, "alpn-policy": "HTTP2Preferred"}, "Listener/80", alpn, "HTTP2Preferred"},
		"check's protocol":       {map[string]string{"healthcheck-protocol": "HTTP"}, "TargetGroup/80", checkProtocol, "HTTP"},
		"check's port":           {map[string]string{"healthcheck-port": "8080"}, "TargetGroup/80", checkPort, "8080"},
		"check of traffic":       {map[string]string{"healthcheck-port": "traffic-port"}, "TargetGroup/53", checkPort, trafficPort},
		"check's path":           {map[string]string{"healthcheck-protocol": "http", "healthcheck-path": "/up"}, "TargetGroup/80", checkPath, "/up"},
		"check's codes":          {map[string]string{"healthcheck-protocol": "http", "healthcheck-success-codes": "200"}, "TargetGroup/80", checkCodes, "200"},
		"healthy":                {map[string]string{"healthcheck-healthy-threshold": "5"}, "TargetGroup/80", checkHealthy, "5"},
		"unhealthy":              {map[string]string{"healthcheck-unhealthy-threshold": "6"}, "TargetGroup/80", checkUnhealthy, "6"},
		"timeout":                {map[string]string{"healthcheck-timeout": "4"}, "TargetGroup/80", checkTimeout, "4"},
		"interval":               {map[string]string{"healthcheck-interval": "30"}, "TargetGroup/80", checkInterval, "30"},
		"timeout of an interval": {map[string]string{"healthcheck-interval": "5"}, "TargetGroup/80", checkTimeout, "5"},
		"prefix lists":           {map[string]string{"security-group-prefix-lists": "pl-0a1b"}, "SecurityGroup/main", rules, "tcp 80-80 pl-0a1b,udp 53-53 pl-0a1b"},
		"path MTU":               {map[string]string{"enable-icmp-for-path-mtu-discovery": "on"}, "SecurityGroup/main", rules, "icmp 3-4 0.0.0.0/0,tcp 80-80 0.0.0.0/0,udp 53-53 0.0.0.0/0"},
		"of one cluster":         {map[string]string{"multi-cluster-target-group": "false"}, "LoadBalancer/main", scheme, schemeInternal},
		"no security group":      {map[string]string{"disable-nlb-sg": "true"}, "LoadBalancer/main", grouped, "false"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := testProvider(awstest.New(awstest.Options{}), unlimited)
			s := spec("uid-1", 1)
			s.Annotations = map[string]string{}
			for key, value := range c.annotations {
				s.Annotations[AnnotationPrefix+key] = value
			}
			fit(&s)
			observed := settled(t, p, s.Owner, &s).Observed
			i := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Name() == c.resource })
			if i < 0 || observed[i].Attributes[c.attribute] != c.want {
				t.Errorf("%s is observed with %s %q, want %q", c.resource, c.attribute, observed[max(i, 0)].Attributes[c.attribute], c.want)
			}
			if !strings.Contains(c.attribute, attributeProtection) { // TestProtection has that one
				settled(t, p, s.Owner, nil)
			}
		})
	}
}

// longTags are more than AWS can name in one tag.
func longTags() string {
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("a-rather-long-name-%02d=x", i))
	}
	return strings.Join(all, ",")
}

// manySubnets are more than AWS can note in one tag.
func manySubnets() string {
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("subnet-%017d", i))
	}
	return strings.Join(all, ",")
}

// TestWrong: what is wrong is named, all of it at once, in one line, and targets are known all the same.
func TestWrong(t *testing.T) {
	cases := map[string]struct {
		annotations map[string]string
		want        []string
	}{
		"unknown":             {map[string]string{"connection-draining-enabled": "true"}, []string{"connection-draining-enabled: unknown"}},
		"several at once":     {map[string]string{"scheme": "outside", "healthcheck-interval": "1", "subnets": "subnet-z"}, []string{"scheme", "healthcheck-interval", "subnets"}},
		"ids":                 {map[string]string{"subnets": "subnet-public", "security-groups": "sg-web"}, []string{`subnets: "subnet-public" is not the id of a subnet, and a name`, `"sg-web" is not the id of a security group, and a name`}},
		"a long name":         {map[string]string{"subnets": strings.Repeat("ü", 257)}, []string{"is not the name of a subnet"}},
		"many ids and a name": {map[string]string{"subnets": "public," + manySubnets()}, []string{"by so many ids beside names"}},
		"attribute":           {map[string]string{"attributes": "cross.zone=true"}, []string{`attribute "cross.zone" is not known`}},
		"target type":         {map[string]string{"nlb-target-type": "ip"}, []string{v1alpha1.AnnotationTargets}},
		"nlb-ip":              {map[string]string{"type": "nlb-ip"}, []string{v1alpha1.AnnotationTargets}},
		"elastic, internal":   {map[string]string{"eip-allocations": "eipalloc-01", "subnets": "subnet-0b01"}, []string{"the scheme must be internet-facing"}},
		"elastic, no subnets": {map[string]string{"scheme": "internet-facing", "eip-allocations": "eipalloc-01"}, []string{"one for each of the subnets"}},
		"private, external":   {map[string]string{"scheme": "internet-facing", "private-ipv4-addresses": "172.30.16.9", "subnets": "subnet-0b01"}, []string{"the scheme must be internal"}},
		"groups and lists":    {map[string]string{"security-groups": "sg-01", "security-group-prefix-lists": "pl-01"}, []string{"security-groups"}},
		"no group and lists":  {map[string]string{"disable-nlb-sg": "true", "security-group-prefix-lists": "pl-01"}, []string{"disable-nlb-sg"}},
		"ports without TLS":   {map[string]string{"ssl-ports": "80"}, []string{"TLS needs a certificate"}},
		"no such TLS port":    {map[string]string{"ssl-cert": testCertificate, "ssl-ports": "web,443"}, []string{`ssl-ports: "443" is no port of the Service with protocol TCP: it can be *, 80, web`}},
		"TLS with UDP":        {map[string]string{"ssl-cert": testCertificate, "ssl-ports": "dns"}, []string{`ssl-ports: "dns" is no port`}},
		"no such PROXY port":  {map[string]string{"proxy-protocol-per-target-group": "81"}, []string{`per-target-group: "81" is no port of the Service with protocol TCP or UDP: it can be *, 80, web, 53, dns`}},
		"a certificate twice": {map[string]string{"ssl-cert": testCertificate + "," + testCertificate}, []string{"ssl-cert: \"" + testCertificate + "\" is given twice"}},
		"capacity":            {map[string]string{"minimum-load-balancer-capacity": "3000"}, []string{"minimum-load-balancer-capacity"}},
		"no capacity":         {map[string]string{"minimum-load-balancer-capacity": "CapacityUnits=0"}, []string{"CapacityUnits=N"}},
		"timeout":             {map[string]string{"healthcheck-timeout": "20"}, []string{"the timeout (20) is longer than the interval (10)"}},
		"client addresses":    {map[string]string{"target-group-attributes": "preserve_client_ip.enabled=false"}, []string{"port 53"}},
		"tags' names":         {map[string]string{"additional-resource-tags": longTags()}, []string{"longer than 256 characters together"}},
		"our name":            {map[string]string{"name": "fl-mine"}, []string{"name"}},
		"private, not IPv4":   {map[string]string{"subnets": "subnet-0b01", "private-ipv4-addresses": "172.30.16.9|2600::1"}, []string{"is not an address of IPv4"}},
		"IPv6 with a zone":    {map[string]string{"subnets": "subnet-0b01", "ip-address-type": "dualstack", "ipv6-addresses": "fe80::1%eth0"}, []string{"is not an address of IPv6"}},
		"tag":                 {map[string]string{"additional-resource-tags": "fairlead.dev/owner=me"}, []string{"cannot be a tag"}},
		"name":                {map[string]string{"name": "internal-mine"}, []string{"name"}},
		"of several clusters": {map[string]string{"multi-cluster-target-group": "true"}, []string{"multi-cluster-target-group"}},
		"QUIC on no port":     {map[string]string{"quic-enabled-ports": "443"}, []string{`quic-enabled-ports: "443" is no port of the Service with protocol UDP`}},
		"QUIC to nodes":       {map[string]string{"quic-enabled-ports": "dns"}, []string{"quic-enabled-ports: connections are told apart by ids of Pods", "disable-nlb-sg to true"}},
		"QUIC and IPv6":       {map[string]string{"quic-enabled-ports": "dns", "ip-address-type": "dualstack"}, []string{"with IPv4 only"}},
		"nodes, no group":     {map[string]string{"manage-backend-security-group-rules": "true", "disable-nlb-sg": "true"}, []string{"manage-backend-security-group-rules: the balancer has no security group"}},
		"listener of UDP":     {map[string]string{"listener-attributes.UDP-53": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.UDP-53: the listener of port 53 is UDP"}},
		"listener of TLS":     {map[string]string{"ssl-cert": testCertificate, "listener-attributes.TCP-80": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.TCP-80: the listener of port 80 is TLS"}},
		"listener of QUIC":    {map[string]string{"quic-enabled-ports": "dns", "listener-attributes.UDP-53": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.UDP-53: the listener of port 53 is QUIC"}},
		"listener of both":    {map[string]string{"listener-attributes.TCP_UDP-80": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.TCP_UDP-80: the listener of port 80 is TCP: name that instead, or remove it"}},
		"listener, by TLS":    {map[string]string{"ssl-cert": testCertificate, "listener-attributes.TLS-80": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.TLS-80: the listener of port 80 is TLS, and AWS has"}},
		"another port":        {map[string]string{"listener-attributes.TCP-81": "tcp.idle_timeout.seconds=60"}, []string{"listener-attributes.TCP-81: unknown"}},
	}
	p := testProvider(awstest.New(awstest.Options{}))
	for name, c := range cases {
		s := spec("uid-1", 1)
		s.Annotations = map[string]string{}
		for key, value := range c.annotations {
			s.Annotations[AnnotationPrefix+key] = value
		}
		desired, err := p.Desired(s)
		if !cloud.IsClass(err, cloud.UserError) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not name %q", name, err, want)
			}
		}
		if !slices.ContainsFunc(desired, func(r cloud.Resource) bool { return len(r.Targets) > 0 }) {
			t.Errorf("%s: a balancer with this mistake would not follow the nodes", name)
		}
	}
}

// TestPortsOfAnnotations: what a port asks for it gets, also beside another of the same number, or is refused; ports of a class need
// not be the Service's.
func TestPortsOfAnnotations(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}))
	cases := map[string]struct {
		annotations map[string]string
		parameters  v1alpha1.AWSParameters
		wrong       string // in the error
		want        map[string]string
	}{
		"some":     {map[string]string{"ssl-cert": testCertificate, "ssl-ports": "443"}, v1alpha1.AWSParameters{}, "", map[string]string{"53": "TCP_UDP", "80": "TCP", "443": "TLS"}},
		"mixed":    {map[string]string{"ssl-cert": testCertificate, "ssl-ports": "53"}, v1alpha1.AWSParameters{}, "port 53 is TCP and UDP, which cannot be TLS", nil},
		"all":      {map[string]string{"ssl-cert": testCertificate}, v1alpha1.AWSParameters{}, "port 53 is TCP and UDP, which cannot be TLS", nil},
		"class":    {nil, v1alpha1.AWSParameters{TLS: &v1alpha1.AWSTLS{CertificateARN: testCertificate, Ports: []int32{443, 8443}}}, "", map[string]string{"53": "TCP_UDP", "80": "TCP", "443": "TLS"}},
		"PROXY":    {map[string]string{"proxy-protocol-per-target-group": "dns"}, v1alpha1.AWSParameters{}, "", map[string]string{"53": "TCP_UDP proxy", "80": "TCP", "443": "TCP"}},
		"PROXY, 2": {map[string]string{"proxy-protocol-per-target-group": "dns-tcp"}, v1alpha1.AWSParameters{}, "", map[string]string{"53": "TCP_UDP proxy", "80": "TCP", "443": "TCP"}},
	}
	for name, c := range cases {
		s := spec("uid-1", 1)
		s.Ports = append(s.Ports, cloud.Port{Name: "dns-tcp", Protocol: "TCP", Port: 53, NodePort: 30053}, cloud.Port{Name: "tls", Protocol: "TCP", Port: 443, NodePort: 30443})
		s.Annotations = map[string]string{}
		for key, value := range c.annotations {
			s.Annotations[AnnotationPrefix+key] = value
		}
		var err error
		if s.Parameters, err = json.Marshal(c.parameters); err != nil {
			t.Fatal(err)
		}
		desired, err := p.Desired(s)
		if c.wrong != "" {
			if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: the error is %v", name, err)
			}
			continue
		}
		got := map[string]string{}
		for _, r := range desired {
			if r.Kind == KindListener {
				got[r.Key] = r.Attributes[protocol] + got[r.Key]
			} else if r.Attributes["attribute.proxy_protocol_v2.enabled"] == "true" {
				got[r.Key] += " proxy"
			}
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, listeners (-want +got):\n%s", name, err, diff)
		}
	}
}

// TestLocalChecks: under Local nodes are asked for the Service's own Pods, and more is asked of them than of others, as people have it.
func TestLocalChecks(t *testing.T) {
	s := spec("uid-1", 1)
	s.LocalOnly = true
	for i := range s.Ports {
		s.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	}
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	for _, r := range settled(t, p, s.Owner, &s).Observed {
		if r.Kind != KindTargetGroup {
			continue
		}
		got := []string{}
		for _, name := range []string{checkProtocol, checkPort, checkPath, checkInterval, checkTimeout, checkHealthy, checkUnhealthy} {
			got = append(got, r.Attributes[name])
		}
		if diff := cmp.Diff([]string{"HTTP", "32000", "/healthz", "10", "6", "2", "2"}, got); diff != "" {
			t.Errorf("%s is checked otherwise (-want +got):\n%s", r.Name(), diff)
		}
	}
}

// TestWrongForService: what a Service's annotations say is held to what else it asks for.
func TestWrongForService(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}))
	for name, c := range map[string]struct {
		edit func(*cloud.Spec)
		// annotation's name and value, and what is to be said of it.
		annotation, value, want string
	}{
		"IPv6":         {func(s *cloud.Spec) { s.Families = []cloud.Family{cloud.IPv6} }, "ip-address-type", "ipv4", "the Service asks for IPv6: set it to dualstack"},
		"both":         {func(s *cloud.Spec) { s.Families = []cloud.Family{cloud.IPv4, cloud.IPv6} }, "ip-address-type", "ipv4", "the Service asks for IPv6: set it to dualstack"},
		"Pods":         {func(s *cloud.Spec) { s.PodTargets, s.Nodes = true, nil }, "nlb-target-type", "instance", "the Service sends to Pods"},
		"Pods' nodes":  {func(s *cloud.Spec) { s.PodTargets, s.Nodes = true, nil }, "target-node-labels", "a=b", "the Service sends to Pods"},
		"ranges":       {func(s *cloud.Spec) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, "security-groups", "sg-01", "leave out ranges of clients"},
		"range, group": {func(s *cloud.Spec) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, "disable-nlb-sg", "true", "need security groups"},
	} {
		s := spec("uid-1", 1)
		c.edit(&s)
		if _, err := p.Desired(s); err != nil {
			t.Fatalf("%s: without the annotation: %v", name, err)
		}
		s.Annotations = map[string]string{AnnotationPrefix + c.annotation: c.value}
		if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), c.annotation+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestAttributesOfTwoProtocols: a listener of TCP_UDP has attributes where they are asked for, those of UDP are refused, and nobody looks for
// any where none were asked for.
func TestAttributesOfTwoProtocols(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 2)
	for i := range s.Ports {
		s.Ports[i].Port, s.Ports[i].NodePort = 53, 30053
	}
	key := AnnotationPrefix + "listener-attributes.TCP-53"
	both := strings.Replace(key, "TCP", "TCP_UDP", 1)
	for _, step := range [][3]string{{"", "", "350"}, {"600", "", "600"}, {"700", "", "700"}, {"", "", "350"}, {"", "800", "800"}, {"600", "900", "900"}, {"", "", "350"}} {
		s.Annotations = map[string]string{}
		for i, key := range []string{key, both} {
			if step[i] != "" {
				s.Annotations[key] = attributeIdle + "=" + step[i]
			}
		}
		idle, want := step[0]+step[1], "attribute "+attributeIdle+"="+step[2]
		settled(t, p, s.Owner, &s)
		if !strings.Contains(strings.Join(server.Snapshot(), "\n"), want) {
			t.Errorf("with %q there is no %s", idle, want)
		}
		looks := 0
		server.SetHook(func(call awstest.Call) error {
			if strings.HasSuffix(call.Action, "DescribeListenerAttributes") {
				looks++
			}
			return nil
		})
		if c := settled(t, p, s.Owner, &s); !c.Left.Empty() || (looks > 0) != (idle != "") {
			t.Errorf("with %q the next pass looks %d times, and leaves %+v", idle, looks, c.Left)
		}
		server.SetHook(nil)
	}
	s.Annotations = map[string]string{strings.Replace(key, "TCP", "UDP", 1): attributeIdle + "=600"}
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "the listener of port 53 is TCP_UDP") {
		t.Errorf("those of UDP: %v", err)
	}
}

// TestTwoProtocolsOnOnePort: one listener serves both, if they have one node port.
func TestTwoProtocolsOnOnePort(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	s := spec("uid-1", 2)
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	s.Ports = []cloud.Port{
		{Protocol: "TCP", Port: 53, NodePort: 30053, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30053}},
		{Protocol: "UDP", Port: 53, NodePort: 30053, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30053}},
	}
	before := spec("uid-1", 2)
	before.Ports = s.Ports[:1]
	address := cloud.Ingresses(settled(t, p, s.Owner, &before).Observed)
	out := settled(t, p, s.Owner, &s)
	if diff := cmp.Diff(address, cloud.Ingresses(out.Observed)); diff != "" {
		t.Errorf("the address changed (-before +after):\n%s", diff)
	}
	for _, r := range out.Observed {
		if r.Kind == KindListener && r.Attributes[protocol] != "TCP_UDP" || r.Kind == KindSecurityGroup && r.Attributes[rules] != "tcp 53-53 192.0.2.0/24,udp 53-53 192.0.2.0/24" {
			t.Errorf("%s is %v", r.Name(), r.Attributes)
		}
	}
	s.Ports[1].NodePort = 30054
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "one nodePort for both") {
		t.Errorf("two node ports: %v", err)
	}
	pods := s
	pods.PodTargets, pods.Nodes, pods.Ports = true, nil, []cloud.Port{{Protocol: "TCP", Port: 53}, {Protocol: "UDP", Port: 53}}
	for numbers, refused := range map[[2]int32]bool{{5353, 5353}: false, {5353, 5354}: true, {5353, 0}: false} {
		pods.Endpoints = []cloud.Endpoint{{Address: "10.0.0.1", Ports: map[string]int32{"tcp-53": numbers[0], "udp-53": numbers[1]}}}
		_, err := p.Desired(pods)
		if told := err != nil && strings.Contains(err.Error(), "one targetPort for both"); told != refused || (err != nil) != refused {
			t.Errorf("Pods at %v: %v", numbers, err)
		}
	}
}

// TestWithoutSix: a balancer with addresses of IPv6 that were chosen for it loses them with the family.
func TestWithoutSix(t *testing.T) {
	server := awstest.New(withNames)
	p := testProvider(server, unlimited)
	double := asking(1, "ip-address-type", "dualstack", "subnets", "subnet-01", "ipv6-addresses", "2600:1f16:1:1::9")
	address := cloud.Ingresses(settled(t, p, double.Owner, double).Observed)
	four := asking(1, "subnets", "subnet-01")
	four.Ports = four.Ports[:1]
	out := settled(t, p, four.Owner, four)
	if got := hasPlaces(t, server); got != "subnet-01 managed" || balancerOf(t, out.Observed).Attributes[addressType] != addressTypeFour {
		t.Errorf("it has %q, and is %s", got, balancerOf(t, out.Observed).Attributes[addressType])
	}
	if diff := cmp.Diff(address, cloud.Ingresses(out.Observed)); diff != "" {
		t.Errorf("the address changed (-before +after):\n%s", diff)
	}
}

// TestAccessLogs: access logs go on and off again; the bucket stays noted, since AWS takes none that is empty.
func TestAccessLogs(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	for i, step := range []struct {
		spec                    *cloud.Spec
		enabled, bucket, prefix string
	}{
		{asking(1), "false", "", ""},
		{asking(1, "access-log-enabled", "true", "access-log-s3-bucket-name", "logs", "access-log-s3-bucket-prefix", "shop"), "true", "logs", "shop"},
		{asking(1), "false", "logs", ""},
		{asking(1, "attributes", "access_logs.s3.enabled=true,access_logs.s3.bucket=others"), "true", "others", ""},
		{asking(1, "access-log-enabled", "false"), "false", "others", ""},
	} {
		a := balancerOf(t, settled(t, p, step.spec.Owner, step.spec).Observed).Attributes
		for name, want := range map[string]string{attributeLogs: step.enabled, attributeBucket: step.bucket, "access_logs.s3.prefix": step.prefix} {
			if got := a[attributePrefix+name]; got != want {
				t.Errorf("step %d: %s is %q, want %q", i, name, got, want)
			}
		}
		if calls := writesOf(t, server, p, step.spec); calls != "" {
			t.Errorf("step %d: a pass without a change makes %s", i, calls)
		}
	}
	if _, err := p.Desired(*asking(1, "access-log-enabled", "true")); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "need a bucket") {
		t.Errorf("without a bucket: %v", err)
	}
}
