package aws

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// withCapacity is a Service that asks for units; "" for none.
func withCapacity(units string) *cloud.Spec {
	s := spec("uid-1", 1)
	if units != "" {
		s.Annotations = map[string]string{AnnotationPrefix + "minimum-load-balancer-capacity": "CapacityUnits=" + units}
	}
	return &s
}

// theBalancer is the only one that there is, and what is reserved for it.
func theBalancer(t *testing.T, server *awstest.Server) (arn string, units int32) {
	t.Helper()
	client := elb.NewFromConfig(sdk(server))
	found, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil || len(found.LoadBalancers) != 1 {
		t.Fatalf("found %+v (%v)", found, err)
	}
	arn = balancerARN(found.LoadBalancers[0])
	out, err := client.DescribeCapacityReservation(t.Context(), &elb.DescribeCapacityReservationInput{LoadBalancerArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	if out.MinimumLoadBalancerCapacity != nil {
		units = *out.MinimumLoadBalancerCapacity.CapacityUnits
	}
	return arn, units
}

func reserveByHand(t *testing.T, server *awstest.Server, units int32) {
	t.Helper()
	arn, _ := theBalancer(t, server)
	in := &elb.ModifyCapacityReservationInput{LoadBalancerArn: &arn, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: &units}}
	if units == 0 {
		in = &elb.ModifyCapacityReservationInput{LoadBalancerArn: &arn, ResetCapacityReservation: aws.Bool(true)}
	}
	if _, err := elb.NewFromConfig(sdk(server)).ModifyCapacityReservation(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// TestCapacity: it is reserved, changed, put right where somebody changed it by hand, and reset when nobody asks for it any more.
func TestCapacity(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	for i, step := range []struct {
		ask    string
		byHand int32 // before; -1: nothing
		want   int32
	}{{"3000", -1, 3000}, {"4000", -1, 4000}, {"4000", 3500, 4000}, {"4000", 0, 4000}, {"", -1, 0}, {"", -1, 0}, {"3000", -1, 3000}} {
		if step.byHand >= 0 {
			reserveByHand(t, server, step.byHand)
		}
		settled(t, p, withCapacity("").Owner, withCapacity(step.ask))
		if _, units := theBalancer(t, server); units != step.want {
			t.Errorf("step %d: %d are reserved, want %d", i, units, step.want)
		}
		if tagged := strings.Contains(strings.Join(server.Snapshot(), "\n"), tagCapacity); tagged != (step.ask != "") {
			t.Errorf("step %d: the balancer is tagged: %t", i, tagged)
		}
	}
	settled(t, p, withCapacity("").Owner, nil)
	if left := server.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestCapacityOfOthers: what somebody reserved by hand is neither looked at nor changed where no annotation asks.
func TestCapacityOfOthers(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	settled(t, p, withCapacity("").Owner, withCapacity(""))
	reserveByHand(t, server, 5000)
	server.SetHook(func(call awstest.Call) error {
		if strings.Contains(call.Action, "CapacityReservation") {
			t.Errorf("%s is called", call.Action)
		}
		return nil
	})
	changed := withCapacity("")
	changed.Annotations = map[string]string{AnnotationPrefix + "additional-resource-tags": "a=b"}
	settled(t, p, changed.Owner, changed)
	server.SetHook(nil)
	if _, units := theBalancer(t, server); units != 5000 {
		t.Errorf("%d are reserved", units)
	}
}

// TestCapacityIsSlow: listeners do not wait for capacity, which AWS may be hours at work on, nor does the end of a balancer; and a
// change that is to wait comes in the end.
func TestCapacityIsSlow(t *testing.T) {
	now := time.Now()
	server := awstest.New(awstest.Options{Reserving: time.Hour, Now: func() time.Time { return now }})
	p := testProvider(server, unlimited)
	settled(t, p, withCapacity("").Owner, withCapacity("3000"))
	more := withCapacity("4000")
	more.Ports = append(more.Ports, cloud.Port{Name: "alt", Protocol: "TCP", Port: 8080, NodePort: 30088, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30088}})
	if _, err := onePass(t, p, *more, cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Pending {
		t.Errorf("a change that has to wait: %v", err)
	}
	if !strings.Contains(strings.Join(server.Snapshot(), "\n"), "listener 8080") {
		t.Error("a listener waits for capacity")
	}
	now = now.Add(2 * time.Hour)
	settled(t, p, more.Owner, more)
	if _, units := theBalancer(t, server); units != 4000 {
		t.Errorf("%d are reserved", units)
	}
	// It is found again, where the annotation goes while AWS works on it.
	for range 2 {
		less := withCapacity("")
		if _, err := onePass(t, p, *less, cloud.Options{}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Hour)
	}
	if _, units := theBalancer(t, server); units != 0 {
		t.Errorf("%d are reserved still", units)
	}
	settled(t, p, more.Owner, more)
	settled(t, p, more.Owner, nil)
	if left := server.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestCapacityAndTLS: no balancer has both; either way from one to the other is found.
func TestCapacityAndTLS(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	for i, s := range []*cloud.Spec{withCertificates("a"), withCapacity("3000"), withCertificates("a"), withCapacity("3000")} {
		for range 2 {
			if _, err := onePass(t, p, *s, cloud.Options{}); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
		}
		settled(t, p, s.Owner, s)
		if _, units := theBalancer(t, server); units != int32(i%2*3000) {
			t.Errorf("step %d: %d are reserved", i, units)
		}
	}
	s := withCertificates("a")
	s.Annotations[AnnotationPrefix+"minimum-load-balancer-capacity"] = "CapacityUnits=3000"
	if _, err := p.Desired(*s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "with TLS") {
		t.Errorf("both at once: %v", err)
	}
	settled(t, p, s.Owner, withCertificates("a"))
	reserved := withCertificates("a")
	reserved.Annotations = nil
	settled(t, p, s.Owner, reserved)
	reserveByHand(t, server, 3000)
	if _, err := onePass(t, p, *withCertificates("a"), cloud.Options{}); err == nil || p.Classify(err).Class != cloud.UserError {
		t.Errorf("TLS on a balancer for which somebody reserved capacity: %v", err)
	}
	if _, units := theBalancer(t, server); units != 3000 {
		t.Errorf("what somebody reserved is %d", units)
	}
}

// TestCapacityQuota: what the account cannot have is of class Quota, and keeps nothing else from being made.
func TestCapacityQuota(t *testing.T) {
	server := awstest.New(awstest.Options{Quotas: awstest.Quotas{CapacityUnits: 1000}})
	p := testProvider(server, unlimited)
	if _, err := onePass(t, p, *withCapacity("3000"), cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Quota {
		t.Errorf("more than the account may reserve: %v", err)
	}
	if !strings.Contains(strings.Join(server.Snapshot(), "\n"), "listener 80 ") {
		t.Error("there is no listener")
	}
	server = awstest.New(awstest.Options{})
	p = testProvider(server, unlimited)
	for i, units := range []string{"5000", "4000", "3000", "2000"} {
		_, err := onePass(t, p, *withCapacity(units), cloud.Options{})
		if i < 3 && err != nil || i == 3 && (err == nil || p.Classify(err).Class != cloud.Quota) {
			t.Errorf("to %s, with two decreases a day: %v", units, err)
		}
	}
}

// TestCapacityCrash: whichever call a manager was killed at, the next one comes to the same end.
func TestCapacityCrash(t *testing.T) {
	all := func(server *awstest.Server) any { return server.Snapshot() }
	for _, way := range [][2]string{{"", "3000"}, {"3000", "4000"}, {"3000", ""}} {
		crashAnywhere(t, awstest.Options{}, withCapacity(way[0]), withCapacity(way[1]), all)
	}
	crashAnywhere(t, awstest.Options{}, nil, withCapacity("3000"), all)
	crashAnywhere(t, awstest.Options{}, withCapacity("3000"), nil, nil)
}
