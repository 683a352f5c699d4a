package aws

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// sharedGroups are the one that the AWS Load Balancer Controller puts on every balancer of a cluster beside the balancer's own: the
// only one that nodes let in.
var sharedGroups = []awstest.SecurityGroup{{ID: "sg-00ff", Name: "k8s-traffic-blue-1", Tags: map[string]string{
	tagLBCCluster: testCluster, "elbv2.k8s.aws/resource": "backend-sg"}}}

// groupNames are the names of the security groups of the balancer that was planted, sorted.
func groupNames(t *testing.T, server *awstest.Server) []string {
	t.Helper()
	found, err := elb.NewFromConfig(sdk(server)).DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{Names: []string{"by-hand-1-load-main"}})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := ec2.NewFromConfig(sdk(server)).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: found.LoadBalancers[0].SecurityGroups})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range groups.SecurityGroups {
		names = append(names, *g.GroupName)
	}
	slices.Sort(names)
	return names
}

func idOfGroup(t *testing.T, server *awstest.Server, name string) string {
	t.Helper()
	found, err := testProvider(server, unlimited).securityGroups(t.Context(), filter("group-name", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d groups are called %s (%v)", len(found), name, err)
	}
	return *found[0].GroupId
}

// TestSharedGroupIsKept: a balancer of the AWS Load Balancer Controller keeps the shared group, which nodes let in, through every change,
// also where its own group cannot be taken; its own becomes ours, with the Service's rules, and goes with the Service.
func TestSharedGroupIsKept(t *testing.T) {
	for name, taken := range map[string]bool{"own group": false, "own group in use elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			options := awstest.Options{SecurityGroups: sharedGroups}
			server := awstest.New(options)
			p := testProvider(server, unlimited)
			s := spec("uid-1", 1)
			id, err := plantBalancer(server, cloudtest.Plant{Spec: s, MadeFor: true}, 1, options)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"by-hand-1-secu-main", "k8s-traffic-blue-1"}
			if diff := cmp.Diff(want, groupNames(t, server)); diff != "" {
				t.Fatalf("planted (-want +got):\n%s", diff)
			}
			if taken {
				if _, err := elb.NewFromConfig(sdk(server)).CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{Name: aws.String("beside"),
					Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternal, Subnets: []string{"subnet-0b01"},
					SecurityGroups: []string{idOfGroup(t, server, want[0])}}); err != nil {
					t.Fatal(err)
				}
			}
			server.SetHook(func(c awstest.Call) error {
				if strings.HasSuffix(c.Action, ":SetSecurityGroups") && c.After && !slices.Contains(groupNames(t, server), "k8s-traffic-blue-1") {
					t.Error("the shared group was taken off")
				}
				return nil
			})
			for step, options := range []cloud.Options{{Adopt: id}, {}, {}} {
				if out, err := onePass(t, p, s, options); err != nil || step > 0 && !out.Left.Empty() || step > 1 && len(out.Done) > 0 {
					t.Fatalf("pass %d: %v, did %+v, left %+v", step, err, out.Done, out.Left)
				}
			}
			if have := groupNames(t, server); !slices.Contains(have, "k8s-traffic-blue-1") || !taken && !slices.Equal(have, want) || taken && len(have) != 3 {
				t.Errorf("the balancer is in %q", have)
			}
			s.Ports = s.Ports[:1]
			settled(t, p, s.Owner, &s)
			for _, r := range observe(t, p, s.Owner) {
				if r.Kind == KindSecurityGroup && r.Attributes[rules] != "tcp 80-80 0.0.0.0/0" {
					t.Errorf("clients are let in by %s", r.Attributes[rules])
				}
			}
			server.SetHook(nil)
			settled(t, p, s.Owner, nil)
			left := slices.DeleteFunc(server.Snapshot(), func(line string) bool { return taken && !strings.Contains(line, "k8s-traffic") })
			if len(left) != 1 && !taken || !strings.Contains(strings.Join(left, ""), "k8s-traffic-blue-1") {
				t.Errorf("it leaves %q", left)
			}
		})
	}
}

// TestGroupsGivenInstead: who names the groups of a balancer that was taken over gets these and no others.
func TestGroupsGivenInstead(t *testing.T) {
	options := awstest.Options{SecurityGroups: append([]awstest.SecurityGroup{{ID: "sg-00ee", Name: "theirs"}}, sharedGroups...)}
	options.SecurityGroups[0], options.SecurityGroups[1] = options.SecurityGroups[1], options.SecurityGroups[0]
	server := awstest.New(options)
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	id, err := plantBalancer(server, cloudtest.Plant{Spec: s, MadeFor: true}, 1, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := onePass(t, p, s, cloud.Options{Adopt: id}); err != nil {
		t.Fatal(err)
	}
	s.Annotations = map[string]string{AnnotationPrefix + "security-groups": "sg-00ee"}
	settled(t, p, s.Owner, &s)
	if diff := cmp.Diff([]string{"theirs"}, groupNames(t, server)); diff != "" {
		t.Errorf("the balancer is in (-want +got):\n%s", diff)
	}
}

// TestLentKeepsItsGroups: a balancer that is lent, and is in groups that others are in, too, stays in these, and is given back with them and
// with the one that was made for the Service, without our tags.
func TestLentKeepsItsGroups(t *testing.T) {
	options := awstest.Options{SecurityGroups: sharedGroups}
	server := awstest.New(options)
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	id, err := plantBalancer(server, cloudtest.Plant{Spec: s, MadeFor: true}, 1, options)
	if err != nil {
		t.Fatal(err)
	}
	p.clusterName = "" // whose it is is not known: its owner lends it
	want := groupNames(t, server)
	for range 3 {
		if _, err := onePass(t, p, s, cloud.Options{Adopt: id, Granted: true}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if have := groupNames(t, server); len(have) != 3 || !slices.Equal(have[:1], want[:1]) || !slices.Equal(have[2:], want[1:]) {
			t.Errorf("the balancer is in %q, before in %q", have, want)
		}
		settled(t, p, s.Owner, nil)
	}
	for _, line := range server.Snapshot() {
		if strings.Contains(line, tagPrefix) {
			t.Errorf("it leaves %s", line)
		}
	}
}
