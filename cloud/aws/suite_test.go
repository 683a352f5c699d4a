package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"net/http"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
)

// testCluster is the name by which another controller knows the cluster.
const testCluster = "blue"

// testVPC is the one of the emulator.
func testVPC(context.Context) (string, error) { return "vpc-0a1b2c3d", nil }

// sdk is a configuration of the SDK's that asks nobody but the server.
func sdk(s *awstest.Server) aws.Config {
	return aws.Config{Region: awstest.Region, BaseEndpoint: aws.String("http://aws.test"), HTTPClient: &http.Client{Transport: s.Transport()},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
}

func testProvider(s *awstest.Server, edits ...func(*cloud.Capabilities)) *Provider {
	p := newProvider(sdk(s), testVPC, edits...)
	p.clusterName = testCluster
	return p
}

// adapt makes a Spec of the suite fit: nodes are instances, and each port of Pods is sent to at addresses of one family.
func adapt(spec cloud.Spec) cloud.Spec {
	nodes := make([]cloud.Node, len(spec.Nodes))
	for i, n := range spec.Nodes {
		nodes[i] = n
		nodes[i].ProviderID = fmt.Sprintf("aws:///%sa/i-%017d", awstest.Region, i+1)
	}
	spec.Nodes = nodes
	var endpoints []cloud.Endpoint
	for _, e := range spec.Endpoints {
		e.Ports = maps.Clone(e.Ports)
		maps.DeleteFunc(e.Ports, func(key string, _ int32) bool {
			sent := spec.Families[0]
			if strings.HasPrefix(key, "udp") && slices.Contains(spec.Families, cloud.IPv6) {
				sent = cloud.IPv6
			}
			return e.Family() != sent
		})
		if len(e.Ports) > 0 {
			endpoints = append(endpoints, e)
		}
	}
	spec.Endpoints = endpoints
	return spec
}

func harness(options awstest.Options, edits ...func(*cloud.Capabilities)) func(t *testing.T) *cloudtest.Harness {
	return func(*testing.T) *cloudtest.Harness {
		s := awstest.New(options)
		var planted atomic.Int32
		return &cloudtest.Harness{
			New: func() cloud.Provider { return testProvider(s, edits...) },
			SetHook: func(hook func(cloudtest.Call) error) {
				if hook == nil {
					s.SetHook(nil)
					return
				}
				s.SetHook(func(c awstest.Call) error {
					return hook(cloudtest.Call{Name: c.Action, Write: c.Write(), After: c.After})
				})
			},
			Replacements: map[string]map[string]string{"another scheme": {AnnotationPrefix + "scheme": "internet-facing"}},
			Refused: map[string]map[string]string{
				"an elastic address that there is not": {AnnotationPrefix + "scheme": "internet-facing",
					AnnotationPrefix + "subnets": "subnet-0a01,subnet-0a02", AnnotationPrefix + "eip-allocations": "eipalloc-01,eipalloc-99"},
				"an address of another subnet": {AnnotationPrefix + "subnets": "subnet-0b01", AnnotationPrefix + "private-ipv4-addresses": "172.30.17.9"},
				"a subnet that there is not":   {AnnotationPrefix + "subnets": "subnet-0fff", AnnotationPrefix + "private-ipv4-addresses": "172.30.16.9"},
			},
			Snapshot: func() []string { // the shared group is there before anything, and stays
				return slices.DeleteFunc(s.Snapshot(), func(line string) bool { return strings.HasPrefix(line, "group "+sharedGroups[0].Name+":") })
			},
			PlantForeign: func(owner cloud.Owner, r cloud.Resource) error {
				defer time.Sleep(options.ReadLag) // or our own marks would still be to be seen
				return plantForeign(s, owner, r)
			},
			PlantBalancer: func(p cloudtest.Plant) (string, error) {
				return plantBalancer(s, p, int(planted.Add(1)), options)
			},
			// AWS never says for how long.
			Throttled: func(after time.Duration) error {
				if after == 0 {
					return awstest.Throttled()
				}
				return &cloud.Error{Class: cloud.Throttled, After: after, Err: errors.New("slow down")}
			},
			SetAnswering: func(target cloud.Target, answering bool) { s.SetAnswering(target.ID, answering) },
			Adapt:        adapt,
		}
	}
}

// disown takes our marks off something, and puts others on it.
func disown(s *awstest.Server, kind, id string, others map[string]string) error {
	config := sdk(s)
	ours := []string{tagOwner, tagCluster, tagKey, tagService}
	ctx := context.Background()
	if kind == KindSecurityGroup {
		var keys []ec2types.Tag
		for _, key := range ours {
			keys = append(keys, ec2types.Tag{Key: aws.String(key)})
		}
		client := ec2.NewFromConfig(config)
		if _, err := client.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{id}, Tags: keys}); err != nil {
			return err
		}
		_, err := client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: ec2Tags(others)})
		return err
	}
	client := elb.NewFromConfig(config)
	if _, err := client.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: []string{id}, TagKeys: ours}); err != nil {
		return err
	}
	_, err := client.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{id}, Tags: elbTags(others)})
	return err
}

// create makes something, and waits for a cloud that does not show at once what it has made.
func create(p *Provider, owner cloud.Owner, r cloud.Resource) (cloud.Resource, error) {
	for range 10 {
		made, err := p.Create(context.Background(), owner, r)
		if !cloud.IsClass(err, cloud.Pending) {
			return made, err
		}
		time.Sleep(testLag)
	}
	return r, fmt.Errorf("%s is not made", r.Name())
}

// plantForeign makes what the provider would make, and has it be somebody else's.
func plantForeign(s *awstest.Server, owner cloud.Owner, r cloud.Resource) error {
	p := testProvider(s)
	switch r.Kind {
	case KindListener:
		return cloudtest.ErrCannotPlant
	case KindLoadBalancer:
		r.Attributes = over(r.Attributes)
		r.Attributes[securityGroups] = ""
	}
	made, err := create(p, owner, r)
	if err != nil {
		return err
	}
	return disown(s, r.Kind, made.ID, map[string]string{"somebody": "else"})
}

// plantBalancer makes what the provider would make for the Spec, under other names and with the tags of somebody else, or of
// the AWS Load Balancer Controller.
func plantBalancer(s *awstest.Server, plant cloudtest.Plant, n int, options awstest.Options) (string, error) {
	p := testProvider(s)
	ctx := context.Background()
	desired, err := p.Desired(plant.Spec)
	if err != nil {
		return "", err
	}
	made := map[cloud.Ref]string{}
	for _, kind := range []string{KindSecurityGroup, KindTargetGroup, KindLoadBalancer, KindListener} {
		for _, r := range desired {
			if r.Kind != kind {
				continue
			}
			r.Attributes = over(r.Attributes)
			r.Attributes[givenName] = fmt.Sprintf("by-hand-%d-%s-%s", n, strings.ToLower(kind[:4]), r.Key)
			deps := make([]cloud.Ref, len(r.DependsOn))
			for i, dep := range r.DependsOn {
				dep.ID = made[cloud.Ref{Kind: dep.Kind, Key: dep.Key}]
				deps[i] = dep
			}
			r.DependsOn = deps
			one, err := create(p, plant.Spec.Owner, r)
			if err != nil {
				return "", err
			}
			time.Sleep(options.Slow)
			if kind == KindTargetGroup {
				if err := p.syncTargets(ctx, cloud.TargetChange{Resource: one, Add: r.Targets}, new(error)); err != nil {
					return "", err
				}
			}
			made[cloud.Ref{Kind: r.Kind, Key: r.Key}] = one.ID
			if kind == KindLoadBalancer && plant.MadeFor && len(options.SecurityGroups) > 0 {
				if err := p.setSecurityGroups(ctx, one.ID, append(groupsOf(r), options.SecurityGroups[0].ID)); err != nil {
					return "", err
				}
			}
		}
	}
	for ref, id := range made {
		others := map[string]string{"by": "hand"}
		if plant.MadeFor {
			others[tagStack], others[tagLBCCluster] = plant.Spec.Owner.Namespace+"/"+plant.Spec.Owner.Name, testCluster
		}
		if plant.AdoptableBy != "" && ref.Kind == KindLoadBalancer {
			others[v1alpha1.TagAdoptableBy] = plant.AdoptableBy
		}
		if err := disown(s, ref.Kind, id, others); err != nil {
			return "", err
		}
	}
	return made[cloud.Ref{Kind: KindLoadBalancer, Key: "main"}], nil
}

// suiteEnv names the one of suites that TestSuite runs.
const suiteEnv = "FAIRLEAD_SUITE"

// atOnce is a provider whose cloud shows at once what it has done.
func atOnce(caps *cloud.Capabilities) { caps.ReadLag = 0 }

// unlimited is for tests that would wait for the account otherwise, in virtual time.
func unlimited(caps *cloud.Capabilities) { caps.ReadLag, caps.Limits = 0, cloud.Limits{} }

// simple leaves out what makes a life of a Service long where each step has to be waited for.
func simple(caps *cloud.Capabilities) {
	unlimited(caps)
	caps.ReadLag = testLag
	caps.Families, caps.DualStack, caps.MixedProtocols, caps.PodTargets, caps.TargetHealth = caps.Families[:1], false, false, false, false
}

const testLag = 3 * time.Second

// suites are clouds, by name, and the cases that are skipped beside those of notDeclared.
var suites = map[string]struct {
	factory func(t *testing.T) *cloudtest.Harness
	skipped []string
}{
	"AtOnce": {harness(awstest.Options{SecurityGroups: sharedGroups}, atOnce), nil},
	// Answers show what was a while ago, balancers come up slowly, and groups are in use for a while. Adoption has a suite of
	// its own: together they would take long.
	"Lagging": {harness(lagging, func(caps *cloud.Capabilities) { simple(caps); caps.Adopt = false }), slices.Concat(notSimple,
		[]string{"AdoptedWithConsent", "AdoptionCrashAnywhere", "NotAdoptedWithoutConsent", "OfferedAndTakenOver"})},
	"LaggingAdoption": {harness(lagging, simple), notSimple},
}

var (
	lagging   = awstest.Options{ReadLag: testLag, Slow: 4 * time.Second, Linger: 4 * time.Second, SecurityGroups: sharedGroups}
	notSimple = []string{"Feature/DualStack", "Feature/IPv6", "Feature/MixedProtocols", "HealthIsTold", "PodsAreCheap", "PodsAreTargets"}
)

// notDeclared are the cases about what network load balancers cannot do, or what this provider does by annotations.
var notDeclared = []string{
	"Feature/RequestedAddress", "Feature/SCTP", "Feature/Share", "SharedConcurrently", "SharedCrashAnywhere", "SharedInAnyOrder",
}

// TestSuite is what TestProvider runs in a process of its own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if name := os.Getenv(suiteEnv); name != "" {
		debug.SetGCPercent(400) // thousands of small clouds come and go
		cloudtest.Run(t, suites[name].factory)
	}
}

// TestProvider: the provider passes the suite, of which exactly what it does not declare is skipped.
func TestProvider(t *testing.T) {
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "LaggingAdoption" {
				for _, one := range []string{"AdoptedWithConsent", "NotAdoptedWithoutConsent", "OfferedAndTakenOver"} {
					apart.Passes(t, "TestSuite/"+one, suiteEnv+"="+name)
				}
				return
			}
			apart.Passes(t, "TestSuite", suiteEnv+"="+name, slices.Sorted(slices.Values(slices.Concat(notDeclared, suite.skipped)))...)
		})
	}
}
