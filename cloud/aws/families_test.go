package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

var bothFamilies = []cloud.Family{cloud.IPv4, cloud.IPv6}

// TestFamiliesOfTargets: UDP on a balancer with both families has targets of IPv6, which is all that AWS takes there, whichever is the
// Service's first; everything else has those of the first.
func TestFamiliesOfTargets(t *testing.T) {
	cases := map[string]struct {
		families []cloud.Family
		double   bool
		tcp, udp string // families of the targets; an error's part for udp
	}{
		"IPv4":               {bothFamilies[:1], false, "ipv4", "ipv4"},
		"IPv4 first":         {bothFamilies, false, "ipv4", "ipv6"},
		"IPv6 first":         {[]cloud.Family{cloud.IPv6, cloud.IPv4}, false, "ipv6", "ipv6"},
		"IPv6":               {bothFamilies[1:], false, "ipv6", "ipv6"},
		"IPv4 for everybody": {bothFamilies[:1], true, "ipv4", "spec.ipFamilies: UDP on a balancer that is dualstack needs targets of IPv6 (port 53)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, mixed := range []bool{false, true} { // UDP alone, or together with TCP
				server := awstest.New(awstest.Options{})
				p := testProvider(server, unlimited)
				s := spec("uid-1", 0)
				s.PodTargets, s.Families = true, c.families
				if c.double {
					s.Annotations = map[string]string{AnnotationPrefix + "ip-address-type": addressTypeDouble}
				}
				if mixed {
					s.Ports = append(s.Ports, cloud.Port{Name: "dns-tcp", Protocol: "TCP", Port: 53, HealthCheck: s.Ports[1].HealthCheck})
				}
				for i := range s.Ports {
					s.Ports[i].NodePort = 0
				}
				for _, address := range []string{"10.0.0.9", "2600:1f16::9"} {
					s.Endpoints = append(s.Endpoints, cloud.Endpoint{Address: address, Ports: map[string]int32{"tcp-80": 8080, "udp-53": 5353, "tcp-53": 5353}})
				}
				if _, err := p.Desired(s); strings.HasPrefix(c.udp, "spec") {
					if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), c.udp) {
						t.Errorf("refused with %v", err)
					}
					continue
				}
				got := map[string]string{}
				for _, r := range settled(t, p, s.Owner, &s).Observed {
					if r.Kind == KindTargetGroup {
						got[r.Key] = r.Attributes[addressType] + " " + r.Targets[0].ID
					}
				}
				at := map[string]string{"ipv4": "ipv4 10.0.0.9:%d", "ipv6": "ipv6 [2600:1f16::9]:%d"}
				if diff := cmp.Diff(map[string]string{"80": fmt.Sprintf(at[c.tcp], 8080), "53": fmt.Sprintf(at[c.udp], 5353)}, got); diff != "" {
					t.Errorf("target groups (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestFamiliesOfUDP: a Service with UDP that gets, or loses, a family needs another balancer, which is made first, and asks for it. Without
// UDP meanwhile it keeps the one that it has.
func TestFamiliesOfUDP(t *testing.T) {
	for _, mixed := range []bool{false, true} { // UDP alone, or together with TCP
		t.Run(fmt.Sprint("mixed ", mixed), func(t *testing.T) {
			s := spec("uid-1", 2)
			if mixed {
				s.Ports = append(s.Ports, cloud.Port{Name: "dns-tcp", Protocol: "TCP", Port: 53, NodePort: 30053, HealthCheck: s.Ports[1].HealthCheck})
			}
			familiesOfUDP(t, s)
		})
	}
}

func familiesOfUDP(t *testing.T, s cloud.Spec) {
	t.Helper()
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	before := idsOf(settled(t, p, s.Owner, &s))
	for _, families := range [][]cloud.Family{bothFamilies, bothFamilies[:1]} {
		s.Families = families
		out, err := onePass(t, p, s, cloud.Options{})
		if err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockReplacement || !strings.HasPrefix(out.Left.Blocked[0].Message, "LoadBalancer/main (ipAddressType) ") {
			t.Fatalf("without being allowed: %v, %+v", err, out.Left.Blocked)
		}
		if diff := cmp.Diff(before, idsOf(out)); diff != "" {
			t.Errorf("without being allowed it changes (-before +after):\n%s", diff)
		}
		out, err = onePass(t, p, s, cloud.Options{Replacement: v1alpha1.ReplacementRecreate})
		if err != nil || !out.Left.Empty() {
			t.Fatalf("allowed: %v, %+v", err, out.Left)
		}
		after := idsOf(out)
		for name, id := range after {
			if same := name == "SecurityGroup/main" || name == "TargetGroup/80"; same != (before[name] == id) {
				t.Errorf("%s is the same: %t", name, !same)
			}
		}
		before = after
	}
	without := s
	without.Ports = s.Ports[:1]
	for _, families := range [][]cloud.Family{bothFamilies, bothFamilies[:1]} {
		s.Families, without.Families = families, families
		settled(t, p, s.Owner, &without)
		after := idsOf(settled(t, p, s.Owner, &s))
		for _, name := range []string{"LoadBalancer/main", "Listener/80", "TargetGroup/80"} {
			if before[name] != after[name] {
				t.Errorf("without UDP meanwhile %s is another one", name)
			}
		}
	}
	settled(t, p, s.Owner, nil)
	if left := server.Snapshot(); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

func idsOf(out cloud.Outcome) map[string]string {
	all := map[string]string{}
	for _, r := range out.Observed {
		all[r.Name()] = r.ID
	}
	return all
}

// TestFamiliesWithoutUDP: a port of UDP that goes as a family comes, or goes, is in nobody's way, wherever the manager is killed.
func TestFamiliesWithoutUDP(t *testing.T) {
	one, two := spec("uid-1", 2), spec("uid-1", 2)
	one.Ports = one.Ports[:1]
	for _, families := range [][]cloud.Family{bothFamilies, bothFamilies[:1]} {
		one.Families, two.Families = families, bothFamilies[:3-len(families)]
		crashAnywhere(t, awstest.Options{}, &two, &one, nil)
	}
}

// TestFamiliesOfTCPThatStays: where the port of UDP that goes is of TCP, too, its listener goes with it, and the next pass makes that of TCP.
func TestFamiliesOfTCPThatStays(t *testing.T) {
	both, alone := spec("uid-1", 2), spec("uid-1", 2)
	both.Ports = append(both.Ports, cloud.Port{Name: "dns-tcp", Protocol: "TCP", Port: 53, NodePort: 30053, HealthCheck: both.Ports[1].HealthCheck})
	alone.Ports = []cloud.Port{both.Ports[0], both.Ports[2]}
	for _, families := range [][]cloud.Family{bothFamilies, bothFamilies[:1]} {
		alone.Families, both.Families = families, bothFamilies[:3-len(families)]
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		before := idsOf(settled(t, p, both.Owner, &both))
		if _, err := onePass(t, p, alone, cloud.Options{}); err != nil && p.Classify(err).Class != cloud.NotFound {
			t.Errorf("the pass ended with %v", err)
		}
		after := idsOf(settled(t, p, alone.Owner, &alone))
		if after["Listener/53"] == "" || after["LoadBalancer/main"] != before["LoadBalancer/main"] || after["Listener/80"] != before["Listener/80"] {
			t.Errorf("there were %v, and are %v", before, after)
		}
	}
}

// TestFamiliesOfLent: a lent balancer changes over as soon as a listener of UDP that was made for the Service goes; with one that came with it,
// which stays, it does not, and the Service says why.
func TestFamiliesOfLent(t *testing.T) {
	for _, came := range []bool{false, true} {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		with, without := spec("uid-1", 1), spec("uid-1", 1)
		without.Ports = with.Ports[:1]
		planted := without
		if came {
			planted = with
		}
		id, err := plantBalancer(server, plantFor(planted), 1, awstest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		adopt := cloud.Options{Adopt: id, Granted: true}
		if out, err := onePass(t, p, with, adopt); err != nil || !out.Left.Empty() {
			t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
		}
		without.Families = bothFamilies
		out, err := onePass(t, p, without, adopt)
		text := strings.Join(server.Snapshot(), "\n")
		if came {
			if !cloud.IsClass(err, cloud.Conflict) || !strings.Contains(err.Error(), "the listener of port 53 is not this Service's") || !strings.Contains(text, "listener 53 ") {
				t.Errorf("the pass ended with %v, and there is\n%s", err, text)
			}
		} else if err != nil || !out.Left.Empty() || strings.Contains(text, "listener 53 ") || !strings.Contains(text, ": internal dualstack ") {
			t.Errorf("the pass ended with %v, leaves %+v, and there is\n%s", err, out.Left, text)
		}
	}
}

// TestFamiliesOfForeignListeners: a listener on the balancer that is not the Service's is not deleted to change the address type.
func TestFamiliesOfForeignListeners(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 2)
	observed := settled(t, p, s.Owner, &s).Observed
	i := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Name() == "Listener/53" })
	if err := disown(server, KindListener, observed[i].ID, map[string]string{"somebody": "else"}); err != nil {
		t.Fatal(err)
	}
	s.Families, s.Ports = bothFamilies, s.Ports[:1]
	if _, err := onePass(t, p, s, cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); !cloud.IsClass(err, cloud.Conflict) || !strings.Contains(err.Error(), "the listener of port 53 is not this Service's") {
		t.Errorf("the pass ended with %v", err)
	}
	if now := server.Snapshot(); !slices.ContainsFunc(now, func(line string) bool { return strings.HasPrefix(line, "listener 53 ") }) {
		t.Errorf("the listener is gone: %v", now)
	}
}
