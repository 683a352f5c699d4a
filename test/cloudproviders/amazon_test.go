package cloudproviders

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// The world that the balancers stand in: one VPC with two public subnets, a security group of the nodes, four machines.
const (
	region    = awstest.Region
	vpc       = "vpc-0001"
	nodeGroup = "sg-nodes"
	cluster   = "blue"
)

var zones = []string{region + "a", region + "b"}

var machines = []string{"i-00000000000000001", "i-00000000000000002", "i-00000000000000003", "i-00000000000000004"}

// owned is the tag that the provider looks for on what belongs to the cluster.
var owned = map[string]string{"kubernetes.io/cluster/" + cluster: "owned"}

// amazon is the emulator, behind a socket.
type amazon struct {
	*awstest.Server
	server *httptest.Server
	direct aws.Config // past the hook

	mu sync.Mutex
	// hook is called before and after each request is done. True: the manager is gone, and what it asked for last is not
	// done any more.
	hook    func(after bool) bool
	actions []string
}

func newAmazon(t *testing.T) *amazon {
	options := awstest.Options{VPC: vpc, SecurityGroups: []awstest.SecurityGroup{{ID: nodeGroup, Name: "nodes", Tags: owned}}}
	for i, zone := range zones {
		options.Subnets = append(options.Subnets, awstest.Subnet{ID: fmt.Sprintf("subnet-%d", i), Zone: zone, CIDR: fmt.Sprintf("172.30.%d.0/24", i), Tags: owned})
	}
	for i, id := range machines {
		options.Machines = append(options.Machines, awstest.Machine{ID: id, DNS: fmt.Sprintf("n%d.internal", i), Subnet: fmt.Sprintf("subnet-%d", i%len(zones)),
			SecurityGroups: []string{nodeGroup}, Tags: owned})
	}
	a := &amazon{Server: awstest.New(options)}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	a.direct = aws.Config{Region: region, BaseEndpoint: aws.String(a.server.URL), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	a.SetHook(a.call)
	return a
}

type gone struct{}

// Error implements error.
func (gone) Error() string { return "the manager is gone" }

func (a *amazon) call(c awstest.Call) error {
	a.mu.Lock()
	hook := a.hook
	if _, name, _ := strings.Cut(c.Action, ":"); !c.After {
		a.actions = append(a.actions, name)
	}
	a.mu.Unlock()
	if hook != nil && hook(c.After) && !c.After {
		return gone{}
	}
	return nil
}

// takeActions returns the calls since the last time, without those that only read.
func (a *amazon) takeActions() (writes []string, reads int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, action := range a.actions {
		if strings.HasPrefix(action, "Describe") {
			reads++
		} else {
			writes = append(writes, action)
		}
	}
	a.actions = nil
	return writes, reads
}

func (a *amazon) setHook(hook func(after bool) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = hook
}

// things describes everything that was made, sorted. What it costs is not counted.
func (a *amazon) things(t *testing.T) []string {
	t.Helper()
	a.SetHook(nil)
	defer a.SetHook(a.call)
	client, all := elb.NewFromConfig(a.direct), []string(nil)
	balancers, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	check(t, err)
	groups, err := client.DescribeTargetGroups(t.Context(), &elb.DescribeTargetGroupsInput{})
	check(t, err)
	names := map[string]string{}
	for _, g := range groups.TargetGroups {
		names[*g.TargetGroupArn] = *g.TargetGroupName
		health, err := client.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: g.TargetGroupArn})
		check(t, err)
		var targets []string
		for _, d := range health.TargetHealthDescriptions {
			if d.TargetHealth.State != "draining" {
				targets = append(targets, *d.Target.Id)
			}
		}
		all = append(all, fmt.Sprintf("group %s %s %d with %s", *g.TargetGroupName, g.Protocol, *g.Port, strings.Join(targets, ",")))
	}
	for _, b := range balancers.LoadBalancers {
		all = append(all, "balancer "+*b.LoadBalancerName)
		listeners, err := client.DescribeListeners(t.Context(), &elb.DescribeListenersInput{LoadBalancerArn: b.LoadBalancerArn})
		check(t, err)
		for _, l := range listeners.Listeners {
			all = append(all, fmt.Sprintf("listener %s %d to %s", l.Protocol, *l.Port, names[*l.DefaultActions[0].TargetGroupArn]))
		}
	}
	security, err := ec2.NewFromConfig(a.direct).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{nodeGroup}})
	check(t, err)
	for _, p := range security.SecurityGroups[0].IpPermissions {
		for _, r := range p.IpRanges {
			all = append(all, fmt.Sprintf("rule %s %d-%d from %s", *p.IpProtocol, *p.FromPort, *p.ToPort, *r.CidrIp))
		}
	}
	slices.Sort(all)
	return all
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
