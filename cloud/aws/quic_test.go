package aws

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

const (
	podA = "7f3e0c1a-0001-4000-8000-000000000001"
	podB = "7f3e0c1a-0002-4000-8000-000000000001"
	podC = "7f3e0c1a-0003-4000-8000-000000000001"
)

// quic is a Service of Pods by their addresses whose port 443 is UDP, and QUIC where that is enabled; with tcp it is TCP as well.
func quic(enabled, tcp bool, pods ...string) *cloud.Spec {
	s := spec("uid-1", 0)
	s.PodTargets = true
	s.Annotations = map[string]string{AnnotationPrefix + "disable-nlb-sg": "true"}
	if enabled {
		s.Annotations[AnnotationPrefix+"quic-enabled-ports"] = "h3"
	}
	s.Ports = []cloud.Port{{Name: "h3", Protocol: "UDP", Port: 443, HealthCheck: cloud.HealthCheck{Protocol: "TCP"}}}
	if tcp {
		s.Ports = append([]cloud.Port{{Name: "h2", Protocol: "TCP", Port: 443, HealthCheck: cloud.HealthCheck{Protocol: "TCP"}}}, s.Ports...)
	}
	for i := 0; i < len(pods); i += 2 {
		s.Endpoints = append(s.Endpoints, cloud.Endpoint{Address: pods[i], Pod: "p", PodUID: pods[i+1], Ports: map[string]int32{"udp-443": 8443, "tcp-443": 8443}})
	}
	return &s
}

// TestQUIC: the listener is QUIC, and each Pod has its server id, also where a Pod has the address of another one that is gone.
func TestQUIC(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	for i, step := range []struct {
		spec     *cloud.Spec
		protocol string
		targets  []string
	}{
		{quic(false, false, "10.0.0.1", podA), "UDP", []string{"10.0.0.1:8443"}},
		{quic(true, false, "10.0.0.1", podA, "10.0.0.2", podB), "QUIC", []string{"10.0.0.1:8443/0x7f3e0c1a00014000", "10.0.0.2:8443/0x7f3e0c1a00024000"}},
		{quic(true, false, "10.0.0.1", podC, "10.0.0.2", podB), "QUIC", []string{"10.0.0.1:8443/0x7f3e0c1a00034000", "10.0.0.2:8443/0x7f3e0c1a00024000"}},
		{quic(true, false, "10.0.0.1", podB, "10.0.0.2", podC), "QUIC", []string{"10.0.0.1:8443/0x7f3e0c1a00024000", "10.0.0.2:8443/0x7f3e0c1a00034000"}},
		{quic(true, false, "10.0.0.4", podB), "QUIC", []string{"10.0.0.4:8443/0x7f3e0c1a00024000"}},
		{quic(true, true, "10.0.0.1", podB, "10.0.0.3", ""), "TCP_QUIC", []string{"10.0.0.1:8443/0x7f3e0c1a00024000"}},
		{quic(false, true, "10.0.0.1", podB, "10.0.0.3", ""), "TCP_UDP", []string{"10.0.0.1:8443", "10.0.0.3:8443"}},
	} {
		observed := settled(t, p, step.spec.Owner, step.spec).Observed
		for _, r := range observed {
			if r.Kind == KindListener && r.Attributes[protocol] != step.protocol {
				t.Errorf("step %d: the listener is %s", i, r.Attributes[protocol])
			}
			if r.Kind != KindTargetGroup {
				continue
			}
			var got []string
			for _, target := range r.Targets {
				got = append(got, target.ID)
			}
			if diff := cmp.Diff(step.targets, got); diff != "" {
				t.Errorf("step %d: targets are (-want +got):\n%s", i, diff)
			}
			healths, err := p.TargetHealth(t.Context(), step.spec.Owner, []cloud.Resource{r})
			if err != nil || len(healths) != len(got) || !slices.Contains(got, healths[0].Target) {
				t.Errorf("step %d: their health is %+v (%v)", i, healths, err)
			}
		}
		if text := writesOf(t, server, p, step.spec); text != "" {
			t.Errorf("step %d: a pass without a change makes %s", i, text)
		}
	}
	settled(t, p, quic(true, false).Owner, nil)
	if left := server.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestQUICRefused: what AWS does not have together with QUIC is named before any call.
func TestQUICRefused(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	for says, edit := range map[string]func(*cloud.Spec){
		"AWS has it without security groups only": func(s *cloud.Spec) { delete(s.Annotations, AnnotationPrefix+"disable-nlb-sg") },
		"no other of UDP": func(s *cloud.Spec) {
			s.Ports = append(s.Ports, cloud.Port{Name: "dns", Protocol: "UDP", Port: 53, HealthCheck: cloud.HealthCheck{Protocol: "TCP"}})
		},
		"with IPv4 only": func(s *cloud.Spec) { s.Families = []cloud.Family{cloud.IPv4, cloud.IPv6} },
		"QUIC has none":  func(s *cloud.Spec) { s.AffinitySeconds = 60 },
		"addresses of clients are always": func(s *cloud.Spec) {
			s.Annotations[AnnotationPrefix+"target-group-attributes"] = attributeClientIP + "=false"
		},
	} {
		s := quic(true, false, "10.0.0.1", podA)
		edit(s)
		if _, err := p.Desired(*s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, the error is %v", says, err)
		}
	}
	if _, err := p.Desired(*quic(true, true, "10.0.0.1", podA)); err != nil {
		t.Errorf("with TCP on the same port: %v", err)
	}
}

// TestQUICCrash: whichever call a manager was killed at, the next one comes to the same end.
func TestQUICCrash(t *testing.T) {
	all := func(server *awstest.Server) any { return server.Snapshot() }
	crashAnywhere(t, awstest.Options{}, nil, quic(true, true, "10.0.0.1", podA, "10.0.0.2", podB), all)
	crashAnywhere(t, awstest.Options{}, quic(false, false, "10.0.0.1", podA), quic(true, false, "10.0.0.1", podA), all)
	crashAnywhere(t, awstest.Options{}, quic(true, false, "10.0.0.1", podA, "10.0.0.2", podB), quic(true, false, "10.0.0.1", podB, "10.0.0.2", podA), all)
}
