package aws

import (
	"fmt"
	"net/netip"
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
)

// TestStripped: what somebody took our tags off is not ours any more. It is named, and neither changed nor taken for ours.
func TestStripped(t *testing.T) {
	for _, kind := range []string{KindSecurityGroup, KindTargetGroup, KindLoadBalancer, KindListener} {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		s := spec("uid-1", 1)
		observed := settled(t, p, s.Owner, &s).Observed
		one := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == kind })]
		if err := disown(server, kind, one.ID, map[string]string{"mine": "now"}); err != nil {
			t.Fatal(err)
		}
		before := server.Snapshot()
		_, err := onePass(t, p, s, cloud.Options{})
		if err == nil || p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), "not this Service's") {
			t.Errorf("without the tags of a %s: %v", kind, err)
		}
		// Others of the Service may change: they must not send to what is another's.
		for _, line := range before {
			if strings.Contains(line, "mine=now") && !slices.Contains(server.Snapshot(), line) {
				t.Errorf("the %s that is another's was changed from %q", kind, line)
			}
		}
	}
}

// TestByHand: security groups that somebody took off a balancer come back, and a listener that somebody put on it stays until
// the balancer goes.
func TestByHand(t *testing.T) {
	server := awstest.New(awstest.Options{SecurityGroups: []awstest.SecurityGroup{{ID: "sg-0f", Name: "other"}}})
	p := testProvider(server, unlimited)
	client := elb.NewFromConfig(sdk(server))
	s := spec("uid-1", 1)
	observed := settled(t, p, s.Owner, &s).Observed
	id := func(kind string) *string {
		return aws.String(observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == kind })].ID)
	}
	if _, err := client.SetSecurityGroups(t.Context(), &elb.SetSecurityGroupsInput{LoadBalancerArn: id(KindLoadBalancer), SecurityGroups: []string{"sg-0f"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ec2.NewFromConfig(sdk(server)).DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: id(KindSecurityGroup)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateListener(t.Context(), &elb.CreateListenerInput{LoadBalancerArn: id(KindLoadBalancer), Port: aws.Int32(8080), Protocol: types.ProtocolEnumTcp,
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String(observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Name() == "TargetGroup/80" })].ID)}}}); err != nil {
		t.Fatal(err)
	}
	settled(t, p, s.Owner, &s)
	text := strings.Join(server.Snapshot(), "\n")
	if !strings.Contains(text, "listener 8080") || !strings.Contains(text, "tcp 80-80 0.0.0.0/0") {
		t.Errorf("there is:\n%s", text)
	}
	// A listener of ours that is wanted where a foreign one is.
	s.Ports = append(s.Ports, cloud.Port{Name: "alt", Protocol: "TCP", Port: 8080, NodePort: 30088, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30088}})
	if _, err := onePass(t, p, s, cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Conflict {
		t.Errorf("a port that a foreign listener has: %v", err)
	}
	s.Ports = s.Ports[:len(s.Ports)-1]
	mine := settled(t, p, s.Owner, &s).Observed
	want := server.Snapshot()
	own := mine[slices.IndexFunc(mine, func(r cloud.Resource) bool { return r.Kind == KindSecurityGroup })].ID
	if _, err := client.SetSecurityGroups(t.Context(), &elb.SetSecurityGroupsInput{LoadBalancerArn: id(KindLoadBalancer), SecurityGroups: []string{own, "sg-0f"}}); err != nil {
		t.Fatal(err)
	}
	settled(t, p, s.Owner, &s)
	if diff := cmp.Diff(want, server.Snapshot()); diff != "" {
		t.Errorf("a security group that somebody put beside ours (-want +got):\n%s", diff)
	}
	settled(t, p, s.Owner, nil)
	if left := server.Snapshot(); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

// TestDeadMachine: one instance that runs no more keeps neither others from coming in nor others from going.
func TestDeadMachine(t *testing.T) {
	options := awstest.Options{}
	all := spec("uid-1", 101)
	for i := range all.Nodes {
		if i != 17 {
			options.Machines = append(options.Machines, awstest.Machine{ID: instanceOf(all.Nodes[i])})
		}
	}
	server := awstest.New(options)
	p := testProvider(server, unlimited)
	_, err := onePass(t, p, all, cloud.Options{})
	if err == nil || p.Classify(err).Class != cloud.Pending || !strings.Contains(err.Error(), instanceOf(all.Nodes[17])) {
		t.Errorf("the error is %v", err)
	}
	registered := func() int {
		observed, err := p.Observe(t.Context(), all.Owner)
		if err != nil {
			t.Fatal(err)
		}
		return len(observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.HasTargets })].Targets)
	}
	if got := registered(); got != 100 {
		t.Errorf("%d targets are registered, want all that run", got)
	}
	all.Nodes = all.Nodes[:90]
	if _, err := onePass(t, p, all, cloud.Options{}); err == nil {
		t.Error("it is not told any more")
	}
	if got := registered(); got != 89 {
		t.Errorf("%d targets are registered, want those that are left and run", got)
	}
}

// TestNoneOfTheNewRuns: where all targets are to be others, and none of these runs, those that are there stay.
func TestNoneOfTheNewRuns(t *testing.T) {
	all := spec("uid-1", 2)
	server := awstest.New(awstest.Options{Machines: []awstest.Machine{{ID: instanceOf(all.Nodes[0])}}})
	p := testProvider(server, unlimited)
	before, after := all, all
	before.Nodes, after.Nodes = all.Nodes[:1], all.Nodes[1:]
	want := settled(t, p, before.Owner, &before).Observed
	if _, err := onePass(t, p, after, cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Pending {
		t.Errorf("the error is %v", err)
	}
	got, err := p.Observe(t.Context(), all.Owner)
	if err != nil {
		t.Fatal(err)
	}
	cloud.SortResources(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
}

// TestRefusedTogether: targets of which AWS refuses all for one that it does not say come in one by one.
func TestRefusedTogether(t *testing.T) {
	for _, code := range []string{"InvalidTarget", "ValidationError"} {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		server.Inject(awstest.Fault{Method: "elasticloadbalancing:RegisterTargets", Err: &awstest.Refusal{Code: code, Message: "One of them is not valid"}})
		s := spec("uid-1", 3)
		settled(t, p, s.Owner, &s)
	}
}

// TestNamesNeedAdoption: a balancer under a name of the user's would not be found again where no other names are looked at.
func TestNamesNeedAdoption(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited, func(c *cloud.Capabilities) { c.Adopt = false })
	s := spec("uid-1", 1)
	s.Annotations = map[string]string{AnnotationPrefix + "name": "mine"}
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "adopt") {
		t.Errorf("the error is %v", err)
	}
}

// TestLimits: at its limits a Service fits or is told why not: names, ports, rules, subnets, prefix lists.
func TestLimits(t *testing.T) {
	many := func(n int) cloud.Spec {
		s := spec("uid-1", 2)
		s.Owner.Namespace, s.Owner.Name = strings.Repeat("n", 63), strings.Repeat("-x", 31)+"x"
		s.Ports = nil
		for i := range n {
			s.Ports = append(s.Ports, cloud.Port{Protocol: "TCP", Port: int32(1000 + i), NodePort: int32(30000 + i), HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: int32(30000 + i)}})
		}
		return s
	}
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	fits := many(50)
	settled(t, p, fits.Owner, &fits)
	for name, c := range map[string]struct {
		edit func(*cloud.Spec)
		want cloud.Class
		says string
	}{
		"rules": {func(s *cloud.Spec) {
			for i := range 2 {
				s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", i)))
			}
		}, cloud.Quota, "rules per security group"},
		"listeners": {func(s *cloud.Spec) { *s = many(51) }, cloud.Quota, "listeners"},
		"a subnet that is gone": {func(s *cloud.Spec) {
			s.Annotations = map[string]string{AnnotationPrefix + "subnets": "subnet-0dead"}
		}, cloud.UserError, "subnet-0dead"},
		"a prefix list that is gone": {func(s *cloud.Spec) {
			s.Annotations = map[string]string{AnnotationPrefix + "security-group-prefix-lists": "pl-0dead"}
		}, cloud.UserError, "pl-0dead"},
	} {
		p := testProvider(awstest.New(awstest.Options{PrefixLists: []string{"pl-01"}}), unlimited)
		s := many(50)
		c.edit(&s)
		if _, err := onePass(t, p, s, cloud.Options{}); err == nil || p.Classify(err).Class != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestEmulatorRefuses: what the provider never tries the account would refuse.
func TestEmulatorRefuses(t *testing.T) {
	server := awstest.New(awstest.Options{SecurityGroups: []awstest.SecurityGroup{{ID: "sg-0f", Name: "other"}}})
	p := testProvider(server, unlimited)
	client := elb.NewFromConfig(sdk(server))
	s := spec("uid-1", 1)
	s.Annotations = map[string]string{AnnotationPrefix + "disable-nlb-sg": "true"}
	for _, r := range settled(t, p, s.Owner, &s).Observed {
		switch r.Kind {
		case KindTargetGroup:
			if _, err := client.DeleteTargetGroup(t.Context(), &elb.DeleteTargetGroupInput{TargetGroupArn: aws.String(r.ID)}); err == nil || !strings.Contains(err.Error(), "ResourceInUse") {
				t.Errorf("deleting a target group that a listener uses: %v", err)
			}
		case KindLoadBalancer:
			if _, err := client.SetSecurityGroups(t.Context(), &elb.SetSecurityGroupsInput{LoadBalancerArn: aws.String(r.ID), SecurityGroups: []string{"sg-0f"}}); err == nil {
				t.Error("a balancer that was made without security groups gets some")
			}
		}
	}
}

// TestListWhileThingsGo: what goes between two calls of a list is left out, and all the rest is there.
func TestListWhileThingsGo(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	stays := spec("uid-1", 2)
	settled(t, p, stays.Owner, &stays)
	want, err := p.List(t.Context(), "cluster-a")
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{calls: map[string]int{}}
	goes := spec("uid-2", 2)
	goes.Annotations = map[string]string{AnnotationPrefix + "minimum-load-balancer-capacity": "CapacityUnits=3000"}
	settled(t, p, goes.Owner, &goes)
	server.SetHook(c.hook)
	if _, err := p.List(t.Context(), "cluster-a"); err != nil {
		t.Fatal(err)
	}
	for action, n := range c.calls {
		for at := range n {
			server.SetHook(nil)
			settled(t, p, goes.Owner, &goes)
			calls := 0
			server.SetHook(func(call awstest.Call) error {
				if call.Action != action || call.After {
					return nil
				}
				if calls++; calls == at+1 {
					server.SetHook(nil)
					settled(t, p, goes.Owner, nil)
				}
				return nil
			})
			got, err := p.List(t.Context(), "cluster-a")
			if err != nil {
				t.Errorf("it goes before call %d of %s: %v", at+1, action, err)
				continue
			}
			got = slices.DeleteFunc(got, func(r cloud.Resource) bool { return slices.Contains(r.Owners, goes.Owner.ID()) })
			cloud.SortResources(got)
			cloud.SortResources(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("it goes before call %d of %s: the others are (-want +got):\n%s", at+1, action, diff)
			}
		}
	}
}
