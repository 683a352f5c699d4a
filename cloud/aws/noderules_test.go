package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// withMachines is an account with the instances of spec's nodes: the first two in the cluster's group, the second in another
// cluster's, too, the third in one of its own, and the fourth in two of which none is the cluster's.
var withMachines = awstest.Options{
	SecurityGroups: []awstest.SecurityGroup{{ID: "sg-0a", Name: "nodes", Tags: map[string]string{clusterTag + testCluster: "owned"}},
		{ID: "sg-0b", Name: "red", Tags: map[string]string{clusterTag + "red": "owned"}}, {ID: "sg-0c", Name: "special"}, {ID: "sg-0d", Name: "clients"}},
	Machines: []awstest.Machine{machine(1, "sg-0a"), machine(2, "sg-0b", "sg-0a"), machine(3, "sg-0c"), machine(4, "sg-0b", "sg-0c")},
}

func machine(n int, groups ...string) awstest.Machine {
	return awstest.Machine{ID: fmt.Sprintf("i-%017d", n), SecurityGroups: groups}
}

// managing is a Service with n nodes that are to let its balancer in.
func managing(n int, others ...string) *cloud.Spec {
	s := spec("uid-1", n)
	s.Annotations = map[string]string{AnnotationPrefix + "manage-backend-security-group-rules": "true"}
	for i := 0; i < len(others); i += 2 {
		s.Annotations[AnnotationPrefix+others[i]] = others[i+1]
	}
	return &s
}

func clientOfCompute(server *awstest.Server) *ec2.Client { return ec2.NewFromConfig(sdk(server)) }

// letIn are the rules of the groups that were there before, by the group's name; what is let in is "managed", unless it was there.
func letIn(t *testing.T, server *awstest.Server) map[string]string {
	t.Helper()
	found, err := clientOfCompute(server).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, g := range found.SecurityGroups {
		if len(*g.GroupId) != len("sg-0a") {
			continue
		}
		var list []string
		for _, r := range cloud.SplitList(ruleList(g.IpPermissions)) {
			parts := strings.Fields(r)
			if strings.HasPrefix(parts[2], "sg-") && len(parts[2]) != len("sg-0a") {
				parts[2] = managed
			}
			list = append(list, strings.Join(parts, " "))
		}
		if len(list) > 0 {
			all[*g.GroupName] = strings.Join(list, ",")
		}
	}
	return all
}

// stranger lets the balancer's group, and others, in to a port of the nodes by hand.
func stranger(t *testing.T, server *awstest.Server, source string) {
	t.Helper()
	_, err := clientOfCompute(server).AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String("sg-0a"),
		IpPermissions: []ec2types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22),
			UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: aws.String(source), Description: aws.String("mine")}}}}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNodeRules: nodes let the balancer in to what it needs, by the one of their groups that is for that, and nothing else of
// anybody's is changed.
func TestNodeRules(t *testing.T) {
	server := awstest.New(withMachines)
	p := testProvider(server, unlimited)
	stranger(t, server, "sg-0d")
	const both, clients = "tcp 30080-30080 managed,udp 30053-30053 managed", "tcp 22-22 sg-0d"
	fewer := managing(2)
	fewer.Ports = fewer.Ports[:1]
	checked := managing(1, "healthcheck-port", "8080")
	without := managing(1)
	without.Annotations = nil
	for i, step := range []struct {
		spec *cloud.Spec
		want map[string]string
	}{
		{managing(2), map[string]string{"nodes": clients + "," + both}},
		{managing(3), map[string]string{"nodes": clients + "," + both, "special": both}},
		{managing(2), map[string]string{"nodes": clients + "," + both}},
		{fewer, map[string]string{"nodes": clients + ",tcp 30080-30080 managed"}},
		{checked, map[string]string{"nodes": clients + ",tcp 30080-30080 managed,tcp 8080-8080 managed,udp 30053-30053 managed"}},
		{managing(1, "security-groups", "sg-0d"), map[string]string{"nodes": clients + ",tcp 30080-30080 sg-0d,udp 30053-30053 sg-0d"}},
		{managing(1), map[string]string{"nodes": clients + "," + both}},
		{without, map[string]string{"nodes": clients}},
		{managing(1), map[string]string{"nodes": clients + "," + both}},
		{nil, map[string]string{"nodes": clients}},
	} {
		if step.spec != nil { // what targets come with in a pass is seen by the next one
			if _, err := onePass(t, p, *step.spec, cloud.Options{}); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
		}
		settled(t, p, managing(0).Owner, step.spec)
		if diff := cmp.Diff(step.want, letIn(t, server)); diff != "" {
			t.Errorf("step %d: rules are (-want +got):\n%s", i, diff)
		}
	}
	if left := server.Snapshot(); len(left) != len(withMachines.SecurityGroups) {
		t.Errorf("left: %q", left)
	}
}

// TestNodeRulesByHand: what somebody took away or added in our name is put right; another one's rule for the balancer stays.
func TestNodeRulesByHand(t *testing.T) {
	server := awstest.New(withMachines)
	p := testProvider(server, unlimited)
	s := managing(2)
	observed := settled(t, p, s.Owner, s).Observed
	group := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindSecurityGroup })].ID
	stranger(t, server, group)
	if _, err := clientOfCompute(server).RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: aws.String("sg-0a"),
		IpPermissions: permissionsOf([]string{"udp 30053-30053 " + group})}); err != nil {
		t.Fatal(err)
	}
	more := permissionsOf([]string{"tcp 1-65535 " + group})
	more[0].UserIdGroupPairs[0].Description = aws.String(ruleMark(s.Owner))
	if _, err := clientOfCompute(server).AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String("sg-0c"), IpPermissions: more}); err != nil {
		t.Fatal(err)
	}
	now, err := p.Observe(t.Context(), s.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if all := cloud.Differences(observed, now); len(all) != 1 || all[0].Kind != KindNodeRules {
		t.Errorf("it is told as %+v", all)
	}
	settled(t, p, s.Owner, s)
	want := map[string]string{"nodes": "tcp 22-22 managed,tcp 30080-30080 managed,udp 30053-30053 managed"}
	if diff := cmp.Diff(want, letIn(t, server)); diff != "" {
		t.Errorf("rules are (-want +got):\n%s", diff)
	}
	if c := writesOf(t, server, p, s); c != "" {
		t.Errorf("a pass without a change makes %s", c)
	}
}

// writesOf are the calls of a pass that change something.
func writesOf(t *testing.T, server *awstest.Server, p cloud.Provider, s *cloud.Spec) string {
	t.Helper()
	c := &counted{calls: map[string]int{}}
	server.SetHook(c.hook)
	defer server.SetHook(nil)
	settled(t, p, s.Owner, s)
	text, _, _ := c.take()
	return text
}

// TestNodeRulesUnknown: where it is not known which group is for such rules, the user is told; the balancer is made all the same.
func TestNodeRulesUnknown(t *testing.T) {
	server := awstest.New(withMachines)
	p := testProvider(server, unlimited)
	for range 2 {
		_, err := onePass(t, p, *managing(4), cloud.Options{})
		if err == nil || p.Classify(err).Class != cloud.UserError || !strings.Contains(err.Error(), "i-00000000000000004 (sg-0b, sg-0c)") || !strings.Contains(err.Error(), clusterTag+testCluster) {
			t.Errorf("the error is %v", err)
		}
	}
	if !strings.Contains(strings.Join(server.Snapshot(), "\n"), "listener 80 ") {
		t.Error("there is no listener")
	}
	pods := managing(0)
	pods.PodTargets = true
	if _, err := p.Desired(*pods); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "the Service sends to Pods") {
		t.Errorf("with Pods: %v", err)
	}
}

// TestNodeRulesOfTwo: each Service has its own rules, in one group; and a balancer that is replaced is let in all the time.
func TestNodeRulesOfTwo(t *testing.T) {
	server := awstest.New(withMachines)
	p := testProvider(server, unlimited)
	one, two := managing(1), managing(1)
	two.Owner.ServiceUID = "uid-2"
	two.Ports = []cloud.Port{{Name: "web", Protocol: "TCP", Port: 80, NodePort: 31080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 31080}}}
	settled(t, p, one.Owner, one)
	settled(t, p, two.Owner, two)
	const ones, twos = "tcp 30080-30080 managed,udp 30053-30053 managed", "tcp 31080-31080 managed"
	server.SetHook(func(call awstest.Call) error {
		if strings.HasSuffix(call.Action, "RevokeSecurityGroupIngress") {
			t.Error("a rule goes while a balancer is replaced")
		}
		return nil
	})
	outside := managing(1, "scheme", "internet-facing")
	desired, err := p.Desired(*outside)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cloud.Converge(t.Context(), p, one.Owner, desired, cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); err != nil {
			t.Fatal(err)
		}
	}
	server.SetHook(nil)
	if got := letIn(t, server)["nodes"]; got != "tcp 30080-30080 managed,tcp 31080-31080 managed,udp 30053-30053 managed" {
		t.Errorf("rules are %s", got)
	}
	settled(t, p, one.Owner, nil)
	if got := letIn(t, server)["nodes"]; got != twos {
		t.Errorf("after %s went there is %s", ones, got)
	}
}

// TestNodeRulesCrash: whichever call a manager was killed at, the next one comes to the same end.
func TestNodeRulesCrash(t *testing.T) {
	without := managing(2)
	without.Annotations = nil
	for _, way := range [][2]*cloud.Spec{{nil, managing(2)}, {managing(2), nil}, {without, managing(2)}, {managing(2), without},
		{managing(2), managing(2, "security-groups", "sg-0d")}, {managing(2, "security-groups", "sg-0d"), managing(2)}} {
		crashAnywhere(t, withMachines, way[0], way[1], func(server *awstest.Server) any { return letIn(t, server) })
	}
}

// TestNodeRulesLeftBehind: a rule of ours that was not to be seen when the others went does not keep the group of the balancer for ever; one
// of somebody else's does, and stays.
func TestNodeRulesLeftBehind(t *testing.T) {
	s := spec("uid-1", 1)
	for _, description := range []string{ruleMark(s.Owner), "by hand"} {
		server := awstest.New(awstest.Options{SecurityGroups: []awstest.SecurityGroup{{ID: "sg-0f", Name: "other"}}})
		p := testProvider(server, unlimited)
		before := server.Snapshot()
		observed := settled(t, p, s.Owner, &s).Observed
		group := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindSecurityGroup })].ID
		permissions := permissionsOf([]string{"tcp 30080-30080 " + group})
		permissions[0].UserIdGroupPairs[0].Description = aws.String(description)
		if _, err := p.ec2.authorizeIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String("sg-0f"), IpPermissions: permissions}); err != nil {
			t.Fatal(err)
		}
		theirs := slices.DeleteFunc(server.Snapshot(), func(line string) bool { return !strings.HasPrefix(line, "group other") })
		var err error
		for range 3 {
			_, err = cloud.Converge(t.Context(), p, s.Owner, nil, cloud.Options{})
		}
		if description != "by hand" {
			if diff := cmp.Diff(before, server.Snapshot()); diff != "" || err != nil {
				t.Errorf("left, with %v (-want +got):\n%s", err, diff)
			}
			continue
		}
		after := slices.DeleteFunc(server.Snapshot(), func(line string) bool { return !strings.HasPrefix(line, "group other") })
		if diff := cmp.Diff(theirs, after); diff != "" || !cloud.IsClass(err, cloud.Pending) && p.Classify(err).Class != cloud.Pending {
			t.Errorf("the rule of somebody else's, with %v (-before +after):\n%s", err, diff)
		}
	}
}
