package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

func onePass(t *testing.T, p cloud.Provider, s cloud.Spec, options cloud.Options) (cloud.Outcome, error) {
	t.Helper()
	desired, err := p.Desired(s)
	if err != nil {
		t.Fatal(err)
	}
	return cloud.Converge(t.Context(), p, s.Owner, desired, options)
}

// TestDenied: each right that is missing is named, is tried again, and the pass goes on when it is there.
func TestDenied(t *testing.T) {
	all := awstest.New(withMachines)
	life(t, all, testProvider(all, unlimited))
	told := 0
	for _, action := range all.Actions() {
		server := awstest.New(awstest.Options{})
		server.Deny(action)
		p := testProvider(server, unlimited)
		one, two := spec("uid-1", 2), spec("uid-1", 1)
		two.Annotations = map[string]string{AnnotationPrefix + "additional-resource-tags": "a=b"}
		var errs []error
		for _, s := range []cloud.Spec{one, two} {
			_, err := onePass(t, p, s, cloud.Options{})
			errs = append(errs, err)
		}
		_, err := cloud.Converge(t.Context(), p, one.Owner, nil, cloud.Options{})
		for _, err := range append(errs, err) {
			if err == nil {
				continue // it was not needed for this
			}
			if e := p.Classify(err); e.Class != cloud.RetryAfter || e.After != deniedFor || !strings.Contains(err.Error(), action) ||
				strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(err.Error(), "\n") {
				t.Errorf("without %s: class %s after %v: %v", action, e.Class, e.After, err)
			}
			told++
			break
		}
	}
	if told < 20 {
		t.Errorf("of %d actions only %d were missed", len(all.Actions()), told)
	}
}

// TestQuotas: what the account has no room for is of class Quota, or a mistake of who names too much, and the message says what it is.
func TestQuotas(t *testing.T) {
	sixGroups := map[string]string{AnnotationPrefix + "security-groups": "sg-01,sg-02,sg-03,sg-04,sg-05,sg-06"}
	for name, c := range map[string]struct {
		quotas      awstest.Quotas
		annotations map[string]string
		want        cloud.Class
		says        string
	}{
		"balancers":       {awstest.Quotas{Balancers: 1}, nil, cloud.Quota, "TooManyLoadBalancers"},
		"target groups":   {awstest.Quotas{TargetGroups: 3}, nil, cloud.Quota, "TooManyTargetGroups"},
		"listeners":       {awstest.Quotas{Listeners: 1}, nil, cloud.Quota, "TooManyListeners"},
		"targets":         {awstest.Quotas{Targets: 3}, nil, cloud.Quota, "TooManyTargets: The maximum number of targets per load balancer '3'"},
		"targets, a zone": {awstest.Quotas{ZoneTargets: 1}, nil, cloud.Quota, "TooManyTargets: The maximum number of targets per Availability Zone '1'"},
		"groups":          {awstest.Quotas{Groups: 7}, nil, cloud.Quota, "SecurityGroupLimitExceeded"},
		"rules":           {awstest.Quotas{Rules: 1}, nil, cloud.Quota, "RulesPerSecurityGroupLimitExceeded"},
		"groups of one":   {awstest.Quotas{}, sixGroups, cloud.UserError, "The maximum number of security groups per load balancer"},
	} {
		options := awstest.Options{Quotas: c.quotas}
		for i := range 6 {
			options.SecurityGroups = append(options.SecurityGroups, awstest.SecurityGroup{ID: fmt.Sprintf("sg-0%d", i+1), Name: fmt.Sprint("web ", i)})
		}
		for i := range 2 {
			options.Machines = append(options.Machines, awstest.Machine{ID: fmt.Sprintf("i-%017d", i+1), Subnet: fmt.Sprintf("subnet-0b0%d", i+1)})
		}
		p := testProvider(awstest.New(options), unlimited)
		var err error
		for _, uid := range []string{"uid-1", "uid-2"} {
			s := spec(uid, 2)
			s.Annotations = c.annotations
			_, err = onePass(t, p, s, cloud.Options{})
		}
		if err == nil || p.Classify(err).Class != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestProtection: deletion protection is never cleared, and says what to do.
func TestProtection(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	s.Annotations = map[string]string{AnnotationPrefix + "attributes": attributeProtection + "=true"}
	settled(t, p, s.Owner, &s)
	for _, value := range []string{attributeProtection + "=false", ""} {
		s.Annotations = nil
		if value != "" {
			s.Annotations = map[string]string{AnnotationPrefix + "attributes": value}
		}
		settled(t, p, s.Owner, &s)
	}
	_, err := cloud.Converge(t.Context(), p, s.Owner, nil, cloud.Options{})
	if err == nil || p.Classify(err).Class != cloud.UserError || !strings.Contains(err.Error(), "deletion protection") {
		t.Errorf("deleting what is protected: %v", err)
	}
	if !slices.ContainsFunc(server.Snapshot(), func(line string) bool { return strings.Contains(line, attributeProtection+"=true") }) {
		t.Error("the protection was cleared")
	}
}

// TestScheme: another scheme is another balancer, with another address, and only where the user allows it.
func TestScheme(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	before := cloud.Ingresses(settled(t, p, s.Owner, &s).Observed)
	s.Annotations = map[string]string{AnnotationPrefix + "scheme": "internet-facing"}
	out, err := onePass(t, p, s, cloud.Options{})
	if err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockReplacement || len(out.Done) > 0 {
		t.Errorf("without consent it left %+v, did %+v (%v)", out.Left.Blocked, out.Done, err)
	}
	if out, err = onePass(t, p, s, cloud.Options{Replacement: "Recreate"}); err != nil || !out.Left.Empty() {
		t.Fatalf("with consent: %v, left %+v", err, out.Left)
	}
	if after := cloud.Ingresses(out.Observed); slices.Equal(before, after) {
		t.Errorf("it still has the address %v", after)
	}
}

// TestSchemeBeside: the new balancer is made first, and the old one serves until it is ready; also where the manager ends at
// any call, after which the cloud ends up the same.
func TestSchemeBeside(t *testing.T) {
	var want []string
	for n := 0; ; n++ {
		now := time.Now()
		server := awstest.New(awstest.Options{Slow: time.Minute, Now: func() time.Time { return now }})
		p := testProvider(server, unlimited)
		s := spec("uid-1", 1)
		pass := func() (cloud.Outcome, error) { return onePass(t, p, s, cloud.Options{Replacement: "Recreate"}) }
		for range 3 {
			if _, err := pass(); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Minute)
		}
		s.Annotations = map[string]string{AnnotationPrefix + "scheme": "internet-facing"}
		calls, ended := 0, false
		serving := func() bool { // a listener of a balancer that is active
			return slices.ContainsFunc(server.Snapshot(), func(line string) bool { return strings.HasPrefix(line, "listener 80 of") })
		}
		server.SetHook(func(c awstest.Call) error {
			switch name := c.Action[strings.Index(c.Action, ":")+1:]; {
			case ended:
				return errors.New("the manager is gone")
			case name == "DeleteLoadBalancer" && !c.After && !serving():
				t.Errorf("call %d: the old balancer goes before the new one serves", calls)
			}
			if c.Write() {
				if calls++; calls == n {
					ended = true
					return errors.New("the manager is gone")
				}
			}
			return nil
		})
		begun := cloud.Ingresses(observe(t, p, s.Owner))
		if out, err := pass(); err == nil && n == 0 && (len(out.Left.Waiting) == 0 || !slices.Equal(cloud.Ingresses(out.Observed), begun)) {
			t.Errorf("while the new one comes up, it left %+v with the addresses %v", out.Left, cloud.Ingresses(out.Observed))
		}
		now = now.Add(time.Minute)
		_, _ = pass() // where it ends in this one
		reached := ended
		ended, calls = false, -1000
		server.SetHook(nil)
		var out cloud.Outcome
		for range 3 {
			now = now.Add(time.Minute)
			var err error
			if out, err = pass(); err != nil {
				t.Fatalf("after the end at call %d: %v", n, err)
			}
		}
		if !out.Left.Empty() || len(cloud.Ingresses(out.Observed)) != 1 || slices.Equal(cloud.Ingresses(out.Observed), begun) {
			t.Fatalf("after the end at call %d it left %+v", n, out.Left)
		}
		if n == 0 {
			want = server.Snapshot()
		} else if diff := cmp.Diff(want, server.Snapshot()); diff != "" {
			t.Errorf("after the end at call %d there is something else (-want +got):\n%s", n, diff)
		}
		if n > 0 && !reached {
			if n < 8 {
				t.Errorf("only %d calls were tried", n)
			}
			return
		}
	}
}

func observe(t *testing.T, p cloud.Provider, owner cloud.Owner) []cloud.Resource {
	t.Helper()
	observed, err := p.Observe(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return observed
}

// TestFailed: a balancer that AWS fails to make in the end is made anew.
func TestFailed(t *testing.T) {
	server := awstest.New(awstest.Options{})
	server.Inject(awstest.Fault{Method: "elasticloadbalancing:CreateLoadBalancer", Late: true})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	var out cloud.Outcome
	for range 3 {
		var err error
		if out, err = onePass(t, p, s, cloud.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if !out.Left.Empty() || len(cloud.Ingresses(out.Observed)) != 1 {
		t.Errorf("it left %+v", out.Left)
	}
}

// TestSubnets: without a subnet that has the role's tag, the user is told.
func TestSubnets(t *testing.T) {
	server := awstest.New(awstest.Options{VPC: "vpc-0a1b2c3d", Subnets: []awstest.Subnet{{ID: "subnet-0c01", Zone: "eu-north-1a", CIDR: "172.30.0.0/24"}}})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	if _, err := onePass(t, p, s, cloud.Options{}); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "kubernetes.io/role/internal-elb") {
		t.Errorf("the error is %v", err)
	}
}

// TestInTreeBalancer: what the service controller of cloud-provider-aws made for the Service is known by the UID in its name
// together with its tag, and taken over with its address; with the name alone, or the tag alone, it is not.
func TestInTreeBalancer(t *testing.T) {
	const uid = "7f3e0c1a-0000-4000-8000-000000000001"
	name := ("a" + strings.ReplaceAll(uid, "-", ""))[:32]
	for _, c := range []struct {
		name, service string
		want          bool
	}{{name, "shop/cart", true}, {name, "shop/other", false}, {"another", "shop/cart", false}} {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		client := elb.NewFromConfig(sdk(server))
		made, err := client.CreateLoadBalancer(context.Background(), &elb.CreateLoadBalancerInput{Name: aws.String(c.name), Type: types.LoadBalancerTypeEnumNetwork,
			Scheme: types.LoadBalancerSchemeEnumInternal, Subnets: []string{"subnet-0b01"}, Tags: elbTags(map[string]string{tagServiceName: c.service})})
		if err != nil {
			t.Fatal(err)
		}
		found, err := p.Adoptable(t.Context(), cloud.Owner{ClusterID: "cluster-a", ServiceUID: uid, Namespace: "shop", Name: "cart"}, "")
		if err != nil || (len(found) == 1 && found[0].ID == *made.LoadBalancers[0].LoadBalancerArn) != c.want {
			t.Errorf("of %s with the tag %s, %+v is found (%v)", c.name, c.service, found, err)
		}
	}
}

// TestSharedParts: parts of an adopted balancer that something else uses, too, are left alone.
func TestSharedParts(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	id, err := plantBalancer(server, cloudtest.Plant{Spec: s}, 1, awstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := func() (all []string) {
		found, err := p.Adoptable(t.Context(), s.Owner, id)
		if err != nil || len(found) != 1 {
			t.Fatalf("found %+v (%v)", found, err)
		}
		for _, r := range found[0].Resources {
			all = append(all, r.Name())
		}
		slices.Sort(all)
		return all
	}
	if got := kinds(); !slices.Contains(got, "SecurityGroup/main") || !slices.Contains(got, "TargetGroup/80") {
		t.Errorf("parts are %q", got)
	}
	client := elb.NewFromConfig(sdk(server))
	found, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{Name: aws.String("beside"), Type: types.LoadBalancerTypeEnumNetwork,
		Scheme: types.LoadBalancerSchemeEnumInternal, Subnets: []string{"subnet-0b01"}, SecurityGroups: found.LoadBalancers[0].SecurityGroups}); err != nil {
		t.Fatal(err)
	}
	if got := kinds(); slices.Contains(got, "SecurityGroup/main") {
		t.Errorf("a security group that another balancer is in, too, is a part: %q", got)
	}
}

// TestNameOfAnotherService: a balancer with the name that a Service asks for, and all of its settings, which AWS answers its creation with,
// is another Service's all the same, and stays as it is.
func TestNameOfAnotherService(t *testing.T) {
	for _, group := range []string{"true", "false"} {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		annotations := map[string]string{AnnotationPrefix + "name": "shop", AnnotationPrefix + "disable-nlb-sg": group}
		one, two := spec("uid-1", 1), spec("uid-2", 1)
		one.Annotations, two.Annotations = annotations, annotations
		settled(t, p, one.Owner, &one)
		before := server.Snapshot()
		if _, err := onePass(t, p, two, cloud.Options{}); !cloud.IsClass(err, cloud.Conflict) {
			t.Errorf("the error is %v, want a Conflict", err)
		}
		settled(t, p, two.Owner, nil)
		if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
			t.Errorf("it was changed (-before +after):\n%s", diff)
		}
	}
}

// TestGroupIsUsedByOthers: a listener that a person put before a target group of ours stays, and the Service is told.
func TestGroupIsUsedByOthers(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	observed := settled(t, p, s.Owner, &s).Observed
	client := elb.NewFromConfig(sdk(server))
	theirs, err := client.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{Name: aws.String("theirs"), Type: types.LoadBalancerTypeEnumNetwork,
		Scheme: types.LoadBalancerSchemeEnumInternal, Subnets: []string{"subnet-0b01"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range observed {
		if r.Kind != KindListener || r.Key != "80" {
			continue
		}
		if _, err := client.DeleteListener(t.Context(), &elb.DeleteListenerInput{ListenerArn: aws.String(r.ID)}); err != nil {
			t.Fatal(err)
		}
		_, actions := forwarding(r)
		if _, err := client.CreateListener(t.Context(), &elb.CreateListenerInput{LoadBalancerArn: theirs.LoadBalancers[0].LoadBalancerArn, Port: aws.Int32(80),
			Protocol: types.ProtocolEnumTcp, DefaultActions: actions}); err != nil {
			t.Fatal(err)
		}
	}
	before := server.Snapshot()
	if _, err := onePass(t, p, s, cloud.Options{}); !cloud.IsClass(err, cloud.Conflict) {
		t.Errorf("the error is %v, want a Conflict", err)
	}
	if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
}

// TestGivenGroupOfAnother: a balancer that is given the security group of another Service shows the same in a list of all as by itself.
func TestGivenGroupOfAnother(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	one, two := spec("uid-1", 1), spec("uid-2", 1)
	observed := settled(t, p, one.Owner, &one).Observed
	group := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindSecurityGroup })].ID
	two.Annotations = map[string]string{AnnotationPrefix + "security-groups": group}
	want := settled(t, p, two.Owner, &two).Observed
	all, err := p.List(t.Context(), two.Owner.ClusterID)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(r cloud.Resource) bool { return !slices.Contains(r.Owners, two.Owner.ID()) })
	cloud.SortResources(all)
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("listed it is otherwise (-observed +listed):\n%s", diff)
	}
}

// TestAdoptedMeanwhile: what another Service has adopted since it was looked at is that one's, and the tags that a Service asked for go with its
// marks when it lets something go.
func TestAdoptedMeanwhile(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	one, two := spec("uid-1", 1), spec("uid-2", 1)
	id, err := plantBalancer(server, plantFor(one), 1, awstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.Adoptable(t.Context(), one.Owner, id)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v (%v)", found, err)
	}
	two.Annotations = map[string]string{AnnotationPrefix + "additional-resource-tags": "team=shop"}
	if out, err := onePass(t, p, two, cloud.Options{Adopt: id, Granted: true}); err != nil || !out.Left.Empty() {
		t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
	}
	before := server.Snapshot()
	for _, r := range found[0].Resources {
		mine := r
		mine.Owners, mine.Lent, mine.Adopted = []cloud.OwnerID{one.Owner.ID()}, true, id
		if err := p.Update(t.Context(), one.Owner, r, mine); !cloud.IsClass(err, cloud.Conflict) {
			t.Errorf("%s: the error is %v, want a Conflict", r.Name(), err)
		}
	}
	if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
	settled(t, p, two.Owner, nil)
	if text := strings.Join(server.Snapshot(), "\n"); strings.Contains(text, "team=shop") || strings.Contains(text, tagPrefix) {
		t.Errorf("let go, it is\n%s", text)
	}
}
