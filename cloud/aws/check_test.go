package aws

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// asked is what a Service asks for of its balancer.
func asked(t *testing.T, p *Provider, s cloud.Spec, pairs ...string) cloud.Resource {
	t.Helper()
	s.Annotations = map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		s.Annotations[AnnotationPrefix+pairs[i]] = pairs[i+1]
	}
	fit(&s)
	desired, err := p.Desired(s)
	if err != nil {
		t.Fatal(err)
	}
	return balancerOf(t, desired)
}

func balancerOf(t *testing.T, all []cloud.Resource) cloud.Resource {
	t.Helper()
	for _, r := range all {
		if r.Kind == KindLoadBalancer {
			return r
		}
	}
	t.Fatalf("there is no balancer: %+v", all)
	return cloud.Resource{}
}

// TestCheck: what a balancer is asked to have, and cannot, is told before the one that has its place goes, and nothing is changed; what that
// one has is free.
func TestCheck(t *testing.T) {
	const subnets, eips, private, six = "subnets", "eip-allocations", "private-ipv4-addresses", "ipv6-addresses"
	outside := []string{"scheme", "internet-facing", subnets, "subnet-0a01"}
	inside := []string{"scheme", "internal", subnets, "subnet-0b01"}
	double := []string{"scheme", "internal", "ip-address-type", "dualstack", subnets, "subnet-0b01"}
	for name, tc := range map[string]struct {
		asks []string
		// theirs and mine are what another Service has, and the one that asks; nil: nothing.
		theirs, mine []string
		class        cloud.Class
		want         []string
	}{
		"Nothing":       {asks: []string{"scheme", "internal"}},
		"NoneOfRole":    {asks: []string{"scheme", "internet-facing"}, class: cloud.UserError, want: []string{"kubernetes.io/role/elb"}},
		"Subnet":        {asks: inside},
		"NoSubnet":      {asks: []string{subnets, "subnet-0b01,subnet-0999"}, class: cloud.UserError, want: []string{"subnet-0999", "annotation"}},
		"NoNamedSubnet": {asks: []string{subnets, "green"}, class: cloud.UserError, want: []string{"no subnet", "green", subnets}},
		"NoNamedGroup":  {asks: append(inside, "security-groups", "web"), class: cloud.UserError, want: []string{"no security group", "web", "security-groups"}},
		"Group":         {asks: append(inside, "security-groups", "sg-01")},
		"NoGroup":       {asks: append(inside, "security-groups", "sg-01,sg-09"), class: cloud.UserError, want: []string{"no security group sg-09", "security-groups"}},
		"FarGroup":      {asks: append(inside, "security-groups", "sg-02"), class: cloud.UserError, want: []string{"no security group sg-02", "security-groups"}},
		"NamedPrivate":  {asks: []string{"scheme", "internal", subnets, "inner", private, "172.30.16.8"}, theirs: append(inside, private, "172.30.16.8"), class: cloud.UserError, want: []string{"172.30.16.8 is in use", private}},
		"Elastic":       {asks: append(outside, eips, "eipalloc-01"), theirs: append(outside, eips, "eipalloc-02")},
		"NoElastic":     {asks: append(outside, eips, "eipalloc-09"), class: cloud.UserError, want: []string{"eipalloc-09", eips}},
		"TheirElastic":  {asks: append(outside, eips, "eipalloc-02"), theirs: append(outside, eips, "eipalloc-02"), class: cloud.UserError, want: []string{"eipalloc-02 is in use", eips}},
		"OwnElastic":    {asks: append(outside, eips, "eipalloc-02"), mine: append(outside, eips, "eipalloc-02")},
		"Private":       {asks: append(inside, private, "172.30.16.9"), theirs: append(inside, private, "172.30.16.8")},
		"BeyondSubnet":  {asks: append(inside, private, "172.30.17.9"), class: cloud.UserError, want: []string{"172.30.17.9 is not in subnet subnet-0b01", private}},
		"TheirPrivate":  {asks: append(inside, private, "172.30.16.8"), theirs: append(inside, private, "172.30.16.8"), class: cloud.UserError, want: []string{"172.30.16.8 is in use", private}},
		"OwnPrivate":    {asks: append(inside, private, "172.30.16.8"), mine: append(inside, private, "172.30.16.8")},
		"Six":           {asks: append(double, six, "2600:1f16:1:10::9")},
		"BeyondSubnet6": {asks: append(double, six, "2600:1f16:1:11::9"), class: cloud.UserError, want: []string{"2600:1f16:1:11::9 is not in subnet", six}},
		"TheirSix":      {asks: append(double, six, "2600:1f16:1:10::8"), theirs: append(double, six, "2600:1f16:1:10::8"), class: cloud.UserError, want: []string{"2600:1f16:1:10::8 is in use", six}},
		"Name":          {asks: []string{"name", "shop"}, theirs: []string{"name", "other"}},
		"TheirName":     {asks: []string{"name", "shop"}, theirs: []string{"name", "shop"}, class: cloud.Conflict, want: []string{"called shop", "annotation"}},
		"OwnName":       {asks: []string{"name", "shop"}, mine: []string{"name", "shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := awstest.New(awstest.Options{VPC: "vpc-0a1b2c3d", Subnets: withoutRole,
				SecurityGroups: []awstest.SecurityGroup{{ID: "sg-01", Name: "one"}, {ID: "sg-02", Name: "two", VPC: "vpc-02"}}})
			p := testProvider(server, unlimited)
			mine := spec("uid-1", 1)
			var replaced []cloud.Resource
			for uid, pairs := range map[string][]string{"uid-1": tc.mine, "uid-2": tc.theirs} {
				if pairs == nil {
					continue
				}
				s := spec(uid, 1)
				s.Annotations = map[string]string{}
				for i := 0; i < len(pairs); i += 2 {
					s.Annotations[AnnotationPrefix+pairs[i]] = pairs[i+1]
				}
				fit(&s)
				observed := settled(t, p, s.Owner, &s).Observed
				if uid == "uid-1" {
					replaced = observed
				}
			}
			before := server.Snapshot()
			err := p.Check(t.Context(), mine.Owner, asked(t, p, mine, tc.asks...), replaced)
			if tc.class == "" && err != nil || tc.class != "" && !cloud.IsClass(err, tc.class) {
				t.Fatalf("the error is %v", err)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
				t.Errorf("it was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// withoutRole are subnets of which none is for balancers that the internet reaches unless it is named.
var withoutRole = []awstest.Subnet{
	{ID: "subnet-0a01", Zone: awstest.Region + "a", CIDR: "172.30.0.0/24"},
	{ID: "subnet-0b01", Zone: awstest.Region + "a", CIDR: "172.30.16.0/24", CIDR6: "2600:1f16:1:10::/64", Tags: map[string]string{"kubernetes.io/role/internal-elb": "1", tagName: "inner"}},
}
