package aws

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// TestParameters: a class says the same, and annotations come before it.
func TestParameters(t *testing.T) {
	crossZone := true
	parameters, err := json.Marshal(v1alpha1.AWSParameters{Scheme: v1alpha1.SchemeExternal, Subnets: []string{"subnet-0a01"}, CrossZone: &crossZone, ProxyProtocol: true,
		TLS:         &v1alpha1.AWSTLS{CertificateARN: testCertificate, Ports: []int32{80}, ALPNPolicy: "HTTP1Only", Backend: true},
		HealthCheck: &v1alpha1.AWSHealthCheck{Protocol: "HTTP", Path: "/up", IntervalSeconds: 20}, Tags: map[string]string{"team": "shop"},
		TargetGroupAttributes: map[string]string{"deregistration_delay.timeout_seconds": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	s := spec("uid-1", 1)
	s.Parameters = parameters
	s.Annotations = map[string]string{AnnotationPrefix + "healthcheck-path": "/well", AnnotationPrefix + "internal": "true", AnnotationPrefix + "subnets": "subnet-0b01"}
	byName := map[string]map[string]string{}
	for _, r := range settled(t, p, s.Owner, &s).Observed {
		byName[r.Name()] = r.Attributes
	}
	got := map[string]string{}
	for _, at := range [][2]string{{"LoadBalancer/main", scheme}, {"LoadBalancer/main", subnets}, {"LoadBalancer/main", "attribute.load_balancing.cross_zone.enabled"},
		{"TargetGroup/80", protocol}, {"TargetGroup/80", checkProtocol}, {"TargetGroup/80", checkPath}, {"TargetGroup/80", checkInterval},
		{"TargetGroup/80", "attribute.proxy_protocol_v2.enabled"}, {"TargetGroup/80", "attribute.deregistration_delay.timeout_seconds"},
		{"Listener/80", protocol}, {"Listener/80", alpn}, {"Listener/80", tags}} {
		got[at[0]+" "+at[1]] = byName[at[0]][at[1]]
	}
	want := map[string]string{"LoadBalancer/main scheme": "internal", "LoadBalancer/main subnets": "subnet-0b01", "LoadBalancer/main attribute.load_balancing.cross_zone.enabled": "true",
		"TargetGroup/80 protocol": "TLS", "TargetGroup/80 check.protocol": "HTTP", "TargetGroup/80 check.path": "/well", "TargetGroup/80 check.interval": "20",
		"TargetGroup/80 attribute.proxy_protocol_v2.enabled": "true", "TargetGroup/80 attribute.deregistration_delay.timeout_seconds": "5",
		"Listener/80 protocol": "TLS", "Listener/80 alpn": "HTTP1Only", "Listener/80 tags": "team=shop"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters and annotations make (-want +got):\n%s", diff)
	}
	s.Parameters = json.RawMessage(`{"region": "us-east-1"}`)
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "us-east-1") {
		t.Errorf("another region: %v", err)
	}
	s.Parameters = json.RawMessage(`{"shape": "round"}`)
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "shape") {
		t.Errorf("an unknown parameter: %v", err)
	}
}

// TestParametersAreAnnotations: whatever annotations say a class can say, too, but for what concerns one Service alone, and it means
// the same.
func TestParametersAreAnnotations(t *testing.T) {
	const certificates = testCertificate + ",arn:aws:acm:eu-north-1:123456789012:certificate/2"
	tls := func(more string) string {
		return `{"tls": {"certificateARN": "` + testCertificate + `", "additionalCertificateARNs": ["arn:aws:acm:eu-north-1:123456789012:certificate/2"]` + more + `}}`
	}
	same := []struct {
		annotations map[string]string
		parameters  string
	}{
		{map[string]string{"scheme": "internet-facing"}, `{"scheme": "External"}`},
		{map[string]string{"internal": "false"}, `{"scheme": "External"}`},
		{map[string]string{"ip-address-type": "dualstack"}, `{"ipAddressType": "DualStack"}`},
		{map[string]string{"ip-address-type": "ipv4"}, `{"ipAddressType": "IPv4"}`},
		{map[string]string{"subnets": "subnet-0b01"}, `{"subnets": ["subnet-0b01"]}`},
		{map[string]string{"attributes": "zonal_shift.config.enabled=true"}, `{"attributes": {"zonal_shift.config.enabled": "true"}}`},
		{map[string]string{"target-group-attributes": "stickiness.enabled=true"}, `{"targetGroupAttributes": {"stickiness.enabled": "true"}}`},
		{map[string]string{"additional-resource-tags": "a=1"}, `{"tags": {"a": "1"}}`},
		{map[string]string{"cross-zone-load-balancing-enabled": "true"}, `{"crossZone": true}`},
		{map[string]string{"access-log-enabled": "true", "access-log-s3-bucket-name": "logs", "access-log-s3-bucket-prefix": "a"},
			`{"attributes": {"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "logs", "access_logs.s3.prefix": "a"}}`},
		{map[string]string{"proxy-protocol": "*"}, `{"proxyProtocol": true}`},
		{map[string]string{"proxy-protocol-per-target-group": "80"}, `{"proxyProtocolPorts": [80]}`},
		{map[string]string{"ssl-cert": certificates}, tls("")},
		{map[string]string{"ssl-cert": certificates, "ssl-ports": "80"}, tls(`, "ports": [80]`)},
		{map[string]string{"ssl-cert": certificates, "ssl-negotiation-policy": "x"}, tls(`, "policy": "x"`)},
		{map[string]string{"ssl-cert": certificates, "backend-protocol": "ssl"}, tls(`, "backend": true`)},
		{map[string]string{"ssl-cert": certificates, "alpn-policy": "HTTP1Only"}, tls(`, "alpnPolicy": "HTTP1Only"`)},
		{map[string]string{"healthcheck-protocol": "https", "healthcheck-port": "81", "healthcheck-path": "/up", "healthcheck-success-codes": "200", "healthcheck-healthy-threshold": "4",
			"healthcheck-unhealthy-threshold": "5", "healthcheck-timeout": "7", "healthcheck-interval": "9"},
			`{"healthCheck": {"protocol": "HTTPS", "port": 81, "path": "/up", "successCodes": "200", "healthyThreshold": 4, "unhealthyThreshold": 5, "timeoutSeconds": 7, "intervalSeconds": 9}}`},
		{map[string]string{"security-groups": "sg-01"}, `{"securityGroups": ["sg-01"]}`},
		{map[string]string{"subnets": "public a,subnet-0b02", "security-groups": "web"}, `{"subnets": ["public a", "subnet-0b02"], "securityGroups": ["web"]}`},
		{map[string]string{"security-group-prefix-lists": "pl-01"}, `{"prefixLists": ["pl-01"]}`},
		{map[string]string{"disable-nlb-sg": "true"}, `{"disableSecurityGroups": true}`},
		{map[string]string{"manage-backend-security-group-rules": "true"}, `{"manageNodeSecurityGroups": true}`},
		{map[string]string{"enable-icmp-for-path-mtu-discovery": "on"}, `{"pathMTUDiscovery": true}`},
		{map[string]string{"enable-tcp-udp-listener": "false"}, `{"tcpUDPListeners": false}`},
		{map[string]string{"target-node-labels": "kind=edge"}, `{"nodeLabels": {"kind": "edge"}}`},
		{map[string]string{"minimum-load-balancer-capacity": "CapacityUnits=3000"}, `{"capacityUnits": 3000}`},
		{map[string]string{"quic-enabled-ports": "53"}, `{"quicPorts": [53]}`},
		{map[string]string{"listener-attributes.TCP-80": "tcp.idle_timeout.seconds=60"}, `{"idleTimeoutSeconds": 60}`},
	}
	alone := []string{"type", "nlb-target-type", "name", "eip-allocations", "private-ipv4-addresses", "ipv6-addresses", "multi-cluster-target-group"}
	p := testProvider(awstest.New(awstest.Options{}))
	told := map[string]bool{}
	for _, c := range same {
		plain := spec("uid-1", 2)
		plain.Nodes[0].Labels = map[string]string{"kind": "edge"}
		byAnnotation, byClass := plain, plain
		byAnnotation.Annotations = map[string]string{}
		for name, value := range c.annotations {
			byAnnotation.Annotations[AnnotationPrefix+name], told[name] = value, true
		}
		byClass.Parameters = json.RawMessage(c.parameters)
		nothing, err := p.Desired(plain)
		if err != nil {
			t.Fatal(err)
		}
		want, wrong := p.Desired(byAnnotation)
		got, classWrong := p.Desired(byClass)
		if diff := cmp.Diff(want, got); diff != "" || (wrong == nil) != (classWrong == nil) {
			t.Errorf("%s is not what %v is: %v, %v (-annotations +class):\n%s", c.parameters, c.annotations, wrong, classWrong, diff)
		}
		if _, off := c.annotations["enable-tcp-udp-listener"]; !off && c.parameters != `{"ipAddressType": "IPv4"}` && cmp.Equal(nothing, got) {
			t.Errorf("%s makes no difference", c.parameters)
		}
	}
	for _, a := range annotations {
		if (parameters[a.name] == "") != slices.Contains(alone, a.name) || parameters[a.name] != "" && !told[a.name] {
			t.Errorf("%s has the parameter %q, which was tried: %t", a.name, parameters[a.name], told[a.name])
		}
	}
}

// TestWrongInClass: what is wrong with a class, or not for the Service, is said of the class.
func TestWrongInClass(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}))
	for parameters, want := range map[string]string{
		`{"disableSecurityGroups": true, "prefixLists": ["pl-01"]}`:         "parameter disableSecurityGroups of the class: ranges",
		`{"disableSecurityGroups": true, "manageNodeSecurityGroups": true}`: "parameter manageNodeSecurityGroups of the class: the balancer has no security group",
		`{"quicPorts": [53]}`: "parameter quicPorts of the class: AWS has it without",
		`{"capacityUnits": 1, "tls": {"certificateARN": "` + testCertificate + `"}}`: "parameter capacityUnits of the class: AWS reserves none",
		`{"tls": {"certificateARN": "a", "additionalCertificateARNs": ["a"]}}`:       "parameter tls of the class: \"a\" is given twice",
		`{"nodeLabels": {"a b": "c"}}`:                                               "parameter nodeLabels of the class: \"a b=c\" is no label",
	} {
		s := spec("uid-1", 1)
		s.Parameters = json.RawMessage(parameters)
		if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", parameters, err, want)
		}
	}
}
