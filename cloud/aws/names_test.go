package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// withNames is an account whose subnets and groups have names: some have the same, and some are in another VPC.
var withNames = awstest.Options{
	VPC: "vpc-0a1b2c3d",
	Subnets: []awstest.Subnet{
		{ID: "subnet-01", Zone: awstest.Region + "a", CIDR: "172.30.1.0/24", CIDR6: "2600:1f16:1:1::/64", Tags: tagged("zone a=blue")},
		{ID: "subnet-02", Zone: awstest.Region + "b", CIDR: "172.30.2.0/24", CIDR6: "2600:1f16:1:2::/64", Tags: tagged("zone b")},
		{ID: "subnet-03", Zone: awstest.Region + "c", CIDR: "172.30.3.0/24", Tags: tagged("zone ?\\c")},
		{ID: "subnet-04", Zone: awstest.Region + "a", CIDR: "172.30.4.0/24", Tags: tagged("twice")},
		{ID: "subnet-05", Zone: awstest.Region + "b", CIDR: "172.30.5.0/24", Tags: tagged("twice")},
		{ID: "subnet-06", Zone: awstest.Region + "a", CIDR: "10.0.0.0/24", Tags: tagged("far"), VPC: "vpc-02"},
		{ID: "subnet-07", Zone: awstest.Region + "a", CIDR: "10.0.1.0/24", Tags: tagged("zone b"), VPC: "vpc-02"},
	},
	SecurityGroups: append(slices.Clone(withMachines.SecurityGroups),
		awstest.SecurityGroup{ID: "sg-01", Name: "one", Tags: tagged("web")}, awstest.SecurityGroup{ID: "sg-02", Name: "web", Tags: tagged("web*")},
		awstest.SecurityGroup{ID: "sg-03", Name: "three", Tags: tagged("twice")}, awstest.SecurityGroup{ID: "sg-04", Name: "four", Tags: tagged("twice")},
		awstest.SecurityGroup{ID: "sg-05", Name: "five", Tags: tagged("far"), VPC: "vpc-02"}, awstest.SecurityGroup{ID: "sg-06", Name: "six"}),
	Machines: withMachines.Machines,
}

func tagged(name string) map[string]string { return map[string]string{tagName: name} }

// asking is a Service with annotations.
func asking(n int, pairs ...string) *cloud.Spec {
	s := spec("uid-1", n)
	s.Annotations = map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		s.Annotations[AnnotationPrefix+pairs[i]] = pairs[i+1]
	}
	fit(&s)
	return &s
}

// fit takes UDP off a Service with a balancer of both families that has IPv4 alone, for which AWS has it not.
func fit(s *cloud.Spec) {
	if s.Annotations[AnnotationPrefix+"ip-address-type"] == addressTypeDouble && len(s.Families) == 1 {
		s.Ports = s.Ports[:1]
	}
}

// hasPlaces says where a balancer is, and in which security groups, by ids.
func hasPlaces(t *testing.T, server *awstest.Server) string {
	t.Helper()
	out, err := elb.NewFromConfig(sdk(server)).DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil || len(out.LoadBalancers) != 1 {
		t.Fatalf("there are %d balancers: %v", len(out.LoadBalancers), err)
	}
	b := out.LoadBalancers[0]
	in, with, _ := placed(mappingsOf(b), itself)
	groups := cloud.List(b.SecurityGroups)
	if len(groups) > len("sg-01,sg-02") {
		groups = managed
	}
	return strings.TrimSpace(in + " " + groups + " " + with)
}

// callsOf are those of passes until nothing is left, but for those that only read what is the Service's.
func callsOf(t *testing.T, server *awstest.Server, p cloud.Provider, s *cloud.Spec) map[string]int {
	t.Helper()
	c := &counted{calls: map[string]int{}}
	server.SetHook(c.hook)
	defer server.SetHook(nil)
	settled(t, p, s.Owner, s)
	for action := range c.calls {
		if strings.HasPrefix(action, "elasticloadbalancing:Describe") {
			delete(c.calls, action)
		}
	}
	return c.calls
}

const (
	readSubnets, readGroups = "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"
	moveSubnets, moveGroups = "elasticloadbalancing:SetSubnets", "elasticloadbalancing:SetSecurityGroups"
	setBalancer             = "elasticloadbalancing:ModifyLoadBalancerAttributes"
	setMarks, removeMarks   = "elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"
)

// TestNames: subnets and groups are found by name, also beside ids, and a balancer changes over between the two, with its addresses, by no
// more than a tag that says so. Who gives ids has nothing looked up.
func TestNames(t *testing.T) {
	const sets, grps, eips, private, six = "subnets", "security-groups", "eip-allocations", "private-ipv4-addresses", "ipv6-addresses"
	outside := func(pairs ...string) *cloud.Spec {
		return asking(1, append([]string{"scheme", "internet-facing"}, pairs...)...)
	}
	byName, byID := map[string]int{readSubnets: 1, readGroups: 1}, map[string]int{readGroups: 1}
	type step struct {
		name string
		spec *cloud.Spec
		want string
		// calls of a change, and of the pass after it; nil: they are not looked at.
		calls, idle map[string]int
	}
	for name, steps := range map[string][]step{
		"Subnets": {
			{"names", asking(1, sets, "zone b, zone a=blue"), "subnet-01,subnet-02 managed", nil, byName},
			{"one more", asking(1, sets, "zone a=blue,zone b,zone ?\\c"), "subnet-01,subnet-02,subnet-03 managed", map[string]int{readSubnets: 3, readGroups: 2, moveSubnets: 1}, nil},
			{"one by id", asking(1, sets, "zone a=blue,subnet-02,zone ?\\c"), "subnet-01,subnet-02,subnet-03 managed", map[string]int{readSubnets: 3, readGroups: 2, setMarks: 1}, nil},
			{"all by id", asking(1, sets, "subnet-01,subnet-02,subnet-03"), "subnet-01,subnet-02,subnet-03 managed", map[string]int{readSubnets: 1, readGroups: 2, removeMarks: 1}, byID},
			{"names again", asking(1, sets, "zone ?\\c,zone a=blue"), "subnet-01,subnet-03 managed", nil, nil},
		},
		"Groups": {
			{"a name", asking(1, sets, "subnet-01", grps, "web"), "subnet-01 sg-01", nil, map[string]int{readGroups: 2}},
			{"an asterisk", asking(1, sets, "subnet-01", grps, "web*"), "subnet-01 sg-02", nil, nil},
			{"two", asking(1, sets, "subnet-01", grps, "web*,web"), "subnet-01 sg-01,sg-02", nil, nil},
			{"one by id", asking(1, sets, "subnet-01", grps, "web*,sg-01"), "subnet-01 sg-01,sg-02", map[string]int{readGroups: 5, setMarks: 1}, nil},
			{"one without a name", asking(1, sets, "subnet-01", grps, "web,sg-06"), "subnet-01 sg-01,sg-06", nil, nil},
			{"managed", asking(1, sets, "subnet-01"), "subnet-01 managed", nil, byID},
			{"a name again", asking(1, sets, "subnet-01", grps, "web"), "subnet-01 sg-01", nil, nil},
			{"all by id", asking(1, sets, "subnet-01", grps, "sg-01"), "subnet-01 sg-01", map[string]int{readGroups: 3, removeMarks: 1}, byID},
		},
		"Both": {
			{"ids", asking(1, sets, "subnet-01", grps, "sg-01"), "subnet-01 sg-01", map[string]int{readGroups: 2, "elasticloadbalancing:CreateTargetGroup": 2,
				"elasticloadbalancing:CreateLoadBalancer": 1, "elasticloadbalancing:CreateListener": 2, "elasticloadbalancing:RegisterTargets": 2}, byID},
			{"names", asking(1, sets, "zone a=blue", grps, "web"), "subnet-01 sg-01", map[string]int{readSubnets: 2, readGroups: 4, setMarks: 1}, map[string]int{readSubnets: 1, readGroups: 2}},
			{"others", asking(1, sets, "zone a=blue,zone ?\\c", grps, "web*"), "subnet-01,subnet-03 sg-02", nil, nil},
		},
		"Elastic": {
			{"names", outside(sets, "zone b,zone a=blue", eips, "eipalloc-01,eipalloc-02"), "subnet-01,subnet-02 managed subnet-01=eipalloc-02||,subnet-02=eipalloc-01||", nil, nil},
			{"ids", outside(sets, "subnet-02,subnet-01", eips, "eipalloc-01,eipalloc-02"), "subnet-01,subnet-02 managed subnet-01=eipalloc-02||,subnet-02=eipalloc-01||", map[string]int{readSubnets: 1, readGroups: 2, removeMarks: 1}, byID},
			{"another attribute", outside(sets, "subnet-02,subnet-01", eips, "eipalloc-01,eipalloc-02", "cross-zone-load-balancing-enabled", "true"), "subnet-01,subnet-02 managed subnet-01=eipalloc-02||,subnet-02=eipalloc-01||", map[string]int{readGroups: 2, setBalancer: 1}, nil},
			{"both", outside(sets, "subnet-02,zone a=blue", eips, "eipalloc-01,eipalloc-02"), "subnet-01,subnet-02 managed subnet-01=eipalloc-02||,subnet-02=eipalloc-01||", map[string]int{readSubnets: 2, readGroups: 2, setMarks: 1, setBalancer: 1}, nil},
			{"one more attribute", outside(sets, "subnet-02,zone a=blue", eips, "eipalloc-01,eipalloc-02", "cross-zone-load-balancing-enabled", "true"), "subnet-01,subnet-02 managed subnet-01=eipalloc-02||,subnet-02=eipalloc-01||", map[string]int{readSubnets: 2, readGroups: 2, setBalancer: 1}, nil},
		},
		"Private": {
			{"ids", asking(1, sets, "subnet-01", private, "172.30.1.9"), "subnet-01 managed subnet-01=|172.30.1.9|", nil, byID},
			{"names", asking(1, sets, "zone a=blue", private, "172.30.1.9"), "subnet-01 managed subnet-01=|172.30.1.9|", nil, byName},
		},
		"Six": {
			{"names", asking(1, "ip-address-type", "dualstack", sets, "zone a=blue", six, "2600:1f16:1:1::9"), "subnet-01 managed subnet-01=||2600:1f16:1:1::9", nil, nil},
			{"ids", asking(1, "ip-address-type", "dualstack", sets, "subnet-01", six, "2600:1f16:1:1::9"), "subnet-01 managed subnet-01=||2600:1f16:1:1::9", nil, byID},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := awstest.New(withNames)
			p := testProvider(server, unlimited)
			begin := server.Snapshot()
			for _, s := range steps {
				calls := callsOf(t, server, p, s.spec)
				if got := hasPlaces(t, server); got != s.want {
					t.Errorf("%s: it has %q, want %q", s.name, got, s.want)
				}
				if diff := cmp.Diff(s.calls, calls); s.calls != nil && diff != "" {
					t.Errorf("%s: the calls are (-want +got):\n%s", s.name, diff)
				}
				if diff := cmp.Diff(s.idle, callsOf(t, server, p, s.spec)); s.idle != nil && diff != "" {
					t.Errorf("%s: the calls of the pass after it are (-want +got):\n%s", s.name, diff)
				}
			}
			settled(t, p, steps[0].spec.Owner, nil)
			if diff := cmp.Diff(begin, server.Snapshot()); diff != "" {
				t.Errorf("it leaves (-before +after):\n%s", diff)
			}
		})
	}
}

// TestNamesWrong: a name that stands for nothing, or for several, is told with what to change, all of them at once, and nothing is made
// by it; a balancer stays where it is, and everything else changes all the same.
func TestNamesWrong(t *testing.T) {
	const sets, grps = "subnets", "security-groups"
	for name, tc := range map[string]struct {
		asks []string
		want []string
	}{
		"NoSubnet":      {[]string{sets, "zone a=blue,zone z"}, []string{"no subnet of vpc-0a1b2c3d has the name zone z", AnnotationPrefix + sets, "subnets in the class"}},
		"NoPattern":     {[]string{sets, "zone *"}, []string{"no subnet of vpc-0a1b2c3d has the name zone *"}},
		"NoCase":        {[]string{sets, "Zone b"}, []string{"has the name Zone b"}},
		"SeveralOfThem": {[]string{sets, "twice"}, []string{"2 subnets of vpc-0a1b2c3d have the name twice (subnet-04, subnet-05)", AnnotationPrefix + sets}},
		"FarSubnet":     {[]string{sets, "far"}, []string{"the subnet far is not in vpc-0a1b2c3d, where the nodes are (subnet-06 in vpc-02)", AnnotationPrefix + sets}},
		"OneTwice":      {[]string{sets, "zone a=blue,subnet-01"}, []string{"subnet-01 and zone a=blue are the same subnet"}},
		"AllAtOnce":     {[]string{sets, "zone y,far,zone z"}, []string{"zone y", "far", "zone z"}},
		"NoGroup":       {[]string{sets, "subnet-01", grps, "sg-01,five"}, []string{"no security group of vpc-0a1b2c3d has the name five, which is its tag Name", AnnotationPrefix + grps, "securityGroups in the class"}},
		"SeveralGroups": {[]string{sets, "subnet-01", grps, "twice"}, []string{"2 security groups of vpc-0a1b2c3d have the name twice (sg-03, sg-04)"}},
		"FarGroup":      {[]string{sets, "subnet-01", grps, "far"}, []string{"the security group far is not in vpc-0a1b2c3d, where the nodes are (sg-05 in vpc-02)"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := awstest.New(withNames)
			p := testProvider(server, unlimited)
			wrong := func(s *cloud.Spec) {
				t.Helper()
				_, err := onePass(t, p, *s, cloud.Options{})
				if err == nil || p.Classify(err).Class != cloud.UserError || strings.Contains(err.Error(), "\n") {
					t.Fatalf("the error is %v", err)
				}
				for _, part := range tc.want {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error does not say %q: %v", part, err)
					}
				}
			}
			wrong(asking(1, tc.asks...))
			if left := strings.Join(server.Snapshot(), "\n"); strings.Contains(left, "balancer ") {
				t.Errorf("a balancer was made:\n%s", left)
			}
			before := asking(1, sets, "subnet-01", grps, "sg-01")
			settled(t, p, before.Owner, before)
			want := "subnet-01 sg-01"
			if !slices.Contains(tc.asks, grps) {
				want = "subnet-01 managed" // nothing is wrong with that
			}
			wrong(asking(2, tc.asks...))
			if got := hasPlaces(t, server); got != want {
				t.Errorf("it has %q, want %q", got, want)
			}
			if after := strings.Join(server.Snapshot(), "\n"); !strings.Contains(after, "i-00000000000000002 30080") {
				t.Errorf("the new node is no target:\n%s", after)
			}
		})
	}
}

// call names a subnet, or a security group, by its tag.
func call(t *testing.T, server *awstest.Server, id, name string) {
	t.Helper()
	if _, err := clientOfCompute(server).CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: aws.String(tagName), Value: &name}}}); err != nil {
		t.Fatal(err)
	}
}

// TestNamesMove: where a name has gone to another group the balancer follows, and where there is none of that name any more it stays in
// what it has, and its owner is told; attributes and new nodes follow all the same. Nodes let in the group that it is in.
func TestNamesMove(t *testing.T) {
	server := awstest.New(withNames)
	p := testProvider(server, unlimited)
	s := managing(1, "subnets", "subnet-01", "security-groups", "web")
	rules := func(id string) map[string]string {
		return map[string]string{"nodes": fmt.Sprintf("tcp 30080-30080 %s,udp 30053-30053 %s", id, id)}
	}
	pass := func(want string) {
		t.Helper()
		if _, err := onePass(t, p, *s, cloud.Options{}); err != nil { // targets are there for the next one
			t.Fatal(err)
		}
		settled(t, p, s.Owner, s)
		if got := hasPlaces(t, server); got != "subnet-01 "+want {
			t.Errorf("it has %q, want %s", got, want)
		}
		if diff := cmp.Diff(rules(want), letIn(t, server)); diff != "" {
			t.Errorf("rules are (-want +got):\n%s", diff)
		}
		if calls := writesOf(t, server, p, s); calls != "" {
			t.Errorf("a pass without a change makes %s", calls)
		}
	}
	pass("sg-01")
	call(t, server, "sg-01", "old")
	observed, err := p.Observe(t.Context(), s.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if has := balancerOf(t, observed).Attributes[byName+securityGroups]; has != "old" {
		t.Errorf("its group is shown as %q", has)
	}
	more := managing(3, "subnets", "subnet-01", "security-groups", "web", "attributes", attributeCrossZone+"=true")
	for range 2 { // targets are there for the second
		if _, err := onePass(t, p, *more, cloud.Options{}); err == nil || p.Classify(err).Class != cloud.UserError || !strings.Contains(err.Error(), "has the name web") {
			t.Errorf("the error is %v", err)
		}
	}
	followed := rules("sg-01")
	followed["special"] = followed["nodes"]
	if diff := cmp.Diff(followed, letIn(t, server)); diff != "" {
		t.Errorf("without a group of that name rules are (-want +got):\n%s", diff)
	}
	if observed, err = p.Observe(t.Context(), s.Owner); err != nil || balancerOf(t, observed).Attributes[attributePrefix+attributeCrossZone] != "true" {
		t.Errorf("without a group of that name attributes do not change: %v", err)
	}
	if got := hasPlaces(t, server); got != "subnet-01 sg-01" {
		t.Errorf("it has %q", got)
	}
	call(t, server, "sg-02", "web")
	pass("sg-02")
	call(t, server, "sg-01", "web") // now there are two: that is told to who asks for it anew
	pass("sg-02")
}

// TestNamesOfSubnetsMove: where a name has gone to a subnet of another zone the balancer follows, and where it cannot its owner is told, and
// what to do about it helps.
func TestNamesOfSubnetsMove(t *testing.T) {
	server := awstest.New(withNames)
	p := testProvider(server, unlimited)
	s := asking(1, "subnets", "zone a=blue")
	settled(t, p, s.Owner, s)
	call(t, server, "subnet-01", "old")
	call(t, server, "subnet-03", "zone a=blue")
	settled(t, p, s.Owner, s)
	if got, want := hasPlaces(t, server), "subnet-03 managed"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
	settled(t, p, s.Owner, nil)

	const at = "subnet-01,subnet-02 managed subnet-01=eipalloc-01||,subnet-02=eipalloc-02||"
	asks := func(subnets, addresses string) *cloud.Spec {
		return asking(1, "scheme", "internet-facing", "subnets", subnets, "eip-allocations", addresses)
	}
	refused := func(s *cloud.Spec) {
		t.Helper()
		_, err := onePass(t, p, *s, cloud.Options{})
		if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "give the subnets by id") {
			t.Errorf("the error is %v", err)
		}
		if got := hasPlaces(t, server); got != at {
			t.Errorf("it has %q, want %q", got, at)
		}
	}
	s = asks("old,zone b", "eipalloc-01,eipalloc-02")
	settled(t, p, s.Owner, s)
	refused(asks("old,zone b", "eipalloc-02,eipalloc-01"))
	call(t, server, "subnet-01", "older")
	call(t, server, "subnet-03", "old")
	refused(s)
	desired, err := p.Desired(*asks("subnet-03,subnet-02", "eipalloc-01,eipalloc-02"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cloud.Converge(t.Context(), p, s.Owner, desired, cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, p, s.Owner, s)
	if got, want := hasPlaces(t, server), "subnet-02,subnet-03 managed subnet-02=eipalloc-02||,subnet-03=eipalloc-01||"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}

// TestNamesSorted: to change over between ids and names, whichever order they are in, changes tags alone, and nodes go on to let in the
// group that they do.
func TestNamesSorted(t *testing.T) {
	server := awstest.New(withNames)
	p := testProvider(server, unlimited)
	call(t, server, "sg-01", "a")
	call(t, server, "sg-02", "z")
	first := managing(1, "subnets", "subnet-01", "security-groups", "sg-02")
	settled(t, p, first.Owner, first) // targets are there for the next one
	for i, given := range []string{"sg-02", "sg-02,sg-01", "a,z", "z,sg-01", "a,sg-02", "sg-01,sg-02"} {
		s := managing(1, "subnets", "subnet-01", "security-groups", given)
		for action := range callsOf(t, server, p, s) {
			if i > 1 && !strings.HasPrefix(action, "ec2:Describe") && action != setMarks && action != removeMarks {
				t.Errorf("%s: there is a call of %s", given, action)
			}
		}
		want := map[string]string{"nodes": "tcp 30080-30080 sg-02,udp 30053-30053 sg-02"}
		if diff := cmp.Diff(want, letIn(t, server)); diff != "" {
			t.Errorf("%s: rules are (-want +got):\n%s", given, diff)
		}
		if calls := writesOf(t, server, p, s); calls != "" {
			t.Errorf("%s: a pass without a change makes %s", given, calls)
		}
	}
}

// TestNamesAdopted: a balancer that another controller made, with addresses, is adopted by who gives its subnets and groups by name.
func TestNamesAdopted(t *testing.T) {
	server := awstest.New(withNames)
	p := testProvider(server, unlimited)
	const scheme, sets, grps, eips = "scheme", "subnets", "security-groups", "eip-allocations"
	id, err := plantBalancer(server, plantFor(*asking(1, scheme, "internet-facing", sets, "subnet-01,subnet-02", grps, "sg-01", eips, "eipalloc-01,eipalloc-02")), 1, withNames)
	if err != nil {
		t.Fatal(err)
	}
	s := asking(1, scheme, "internet-facing", sets, "zone a=blue,zone b", grps, "web", eips, "eipalloc-01,eipalloc-02")
	desired, err := p.Desired(*s)
	if err != nil {
		t.Fatal(err)
	}
	var out cloud.Outcome
	for range 3 {
		if out, err = cloud.Converge(t.Context(), p, s.Owner, desired, cloud.Options{Adopt: id, Granted: true}); err != nil {
			t.Fatal(err)
		}
	}
	if !out.Left.Empty() || balancerOf(t, out.Observed).ID != id {
		t.Errorf("it is not adopted: %+v", out.Left)
	}
	if got, want := hasPlaces(t, server), "subnet-01,subnet-02 sg-01 subnet-01=eipalloc-01||,subnet-02=eipalloc-02||"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}
