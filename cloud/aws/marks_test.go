package aws

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// untag takes one tag off something.
func untag(t *testing.T, server *awstest.Server, kind, id, tag string) {
	t.Helper()
	var err error
	if kind == KindSecurityGroup {
		_, err = ec2.NewFromConfig(sdk(server)).DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: aws.String(tag)}}})
	} else {
		_, err = elb.NewFromConfig(sdk(server)).RemoveTags(t.Context(), &elb.RemoveTagsInput{ResourceArns: []string{id}, TagKeys: []string{tag}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLostTags: what keeps the owner's tag and loses another of ours, or has another cluster's, gets that back, by one call, is listed as before, and stays what it is.
func TestLostTags(t *testing.T) {
	for _, kind := range []string{KindSecurityGroup, KindTargetGroup, KindLoadBalancer, KindListener} {
		for _, tag := range []string{tagCluster, tagKey, tagService, tagCluster + "=cluster"} {
			t.Run(kind+" "+tag, func(t *testing.T) {
				server := awstest.New(awstest.Options{})
				p := testProvider(server, unlimited)
				s := spec("uid-1", 1)
				observed := settled(t, p, s.Owner, &s).Observed
				before := server.Snapshot()
				one := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == kind })]
				if name, value, other := strings.Cut(tag, "="); !other {
					untag(t, server, kind, one.ID, tag)
				} else if err := p.setTags(t.Context(), one, map[string]string{name: value}); err != nil {
					t.Fatal(err)
				}
				listed, err := p.List(t.Context(), s.Owner.ClusterID)
				cloud.SortResources(listed)
				if err != nil || !slices.EqualFunc(listed, observed, func(a, b cloud.Resource) bool { return a.Name() == b.Name() && a.ID == b.ID }) {
					t.Errorf("listed are %+v (%v)", listed, err)
				}
				var writes []string
				server.SetHook(func(c awstest.Call) error {
					if c.Write() && !c.After {
						writes = append(writes, c.Action)
					}
					return nil
				})
				settled(t, p, s.Owner, &s)
				if len(writes) != 1 || !strings.HasSuffix(writes[0], "Tags") {
					t.Errorf("it takes %v", writes)
				}
				if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
					t.Errorf("it is not as before (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestLostTagsGivenAway: what loses the owner's tag, too, before the others are put back does not get that one back.
func TestLostTagsGivenAway(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	for _, one := range settled(t, p, s.Owner, &s).Observed {
		untag(t, server, one.Kind, one.ID, tagService)
	}
	observed, err := p.Observe(t.Context(), s.Owner)
	if err != nil || len(observed) == 0 {
		t.Fatalf("%d are observed (%v)", len(observed), err)
	}
	for _, was := range observed {
		untag(t, server, was.Kind, was.ID, tagOwner)
		is := was
		is.Attributes = over(was.Attributes, map[string]string{marks: ""})
		if err := p.Update(t.Context(), s.Owner, was, is); err != nil {
			t.Errorf("%s: %v", was.Name(), err)
		}
	}
	if text := strings.Join(server.Snapshot(), "\n"); strings.Contains(text, tagOwner) {
		t.Errorf("it is the Service's again:\n%s", text)
	}
}

// TestLostKeyOfTakenOver: a target group with another port than the Service's, as those of other controllers are, is known by the listener that
// sends to it.
func TestLostKeyOfTakenOver(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	s.Ports = s.Ports[:1]
	ids := idsOf(settled(t, p, s.Owner, &s))
	client := elb.NewFromConfig(sdk(server))
	vpc, _ := testVPC(t.Context())
	made, err := client.CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{Name: aws.String("theirs"), VpcId: &vpc, Port: aws.Int32(30080),
		Protocol: types.ProtocolEnumTcp, TargetType: types.TargetTypeEnumInstance, Tags: elbTags(marksOf(s.Owner, cloud.Resource{Key: "80"}))})
	if err != nil {
		t.Fatal(err)
	}
	theirs := made.TargetGroups[0].TargetGroupArn
	if _, err := client.ModifyListener(t.Context(), &elb.ModifyListenerInput{ListenerArn: aws.String(ids["Listener/80"]),
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: theirs}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteTargetGroup(t.Context(), &elb.DeleteTargetGroupInput{TargetGroupArn: aws.String(ids["TargetGroup/80"])}); err != nil {
		t.Fatal(err)
	}
	settled(t, p, s.Owner, &s)
	untag(t, server, KindTargetGroup, *theirs, tagKey)
	if now := idsOf(settled(t, p, s.Owner, &s))["TargetGroup/80"]; now != *theirs {
		t.Errorf("the target group is %s, want %s", now, *theirs)
	}
}

// TestLostKeysOfReplacement: where a target group and the one that takes its place lose the tags by which both are of one port, wherever the
// manager is killed, it comes to the same end.
func TestLostKeysOfReplacement(t *testing.T) {
	nodes, pods := spec("uid-1", 1), spec("uid-1", 1)
	pods.PodTargets, pods.Nodes, pods.Endpoints = true, nil, []cloud.Endpoint{{Address: "10.0.0.9", Ports: map[string]int32{"tcp-80": 8080, "udp-53": 5353}}}
	for i := range pods.Ports {
		pods.Ports[i].NodePort = 0
	}
	begun := func() (*awstest.Server, *Provider) {
		server := awstest.New(awstest.Options{})
		p := testProvider(server, unlimited)
		settled(t, p, nodes.Owner, &nodes)
		return server, p
	}
	server, p := begun()
	settled(t, p, pods.Owner, &pods)
	want := server.Snapshot()
	for at, killed := 0, true; killed; at++ {
		server, p := begun()
		killed = killedPass(t, server, p, pods.Owner, &pods, at)
		groups, err := p.groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			untag(t, server, KindTargetGroup, groupARN(g), tagKey)
		}
		recovered(t, server, pods.Owner, &pods)
		if diff := cmp.Diff(want, server.Snapshot()); diff != "" {
			t.Fatalf("killed at call %d that changes something, it comes to another end (-want +got):\n%s", at, diff)
		}
	}
}

// TestOwnersOfSimilarNames: nothing is taken for that of a cluster, or a Service, whose identity another's begins with, or is a pattern for.
func TestOwnersOfSimilarNames(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	id, err := plantBalancer(server, plantFor(s), 1, awstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := onePass(t, p, s, cloud.Options{Adopt: id, Granted: true}); err != nil || !out.Left.Empty() {
		t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
	}
	for _, similar := range []string{"cluster", "cluster-*"} {
		if listed, err := p.List(t.Context(), similar); err != nil || len(listed) > 0 {
			t.Errorf("of the cluster %s are listed %+v (%v)", similar, listed, err)
		}
	}
	for _, similar := range []string{"uid", "uid-*"} {
		if observed, err := p.Observe(t.Context(), cloud.Owner{ClusterID: s.Owner.ClusterID, ServiceUID: similar}); err != nil || len(observed) > 0 {
			t.Errorf("of %s are observed %+v (%v)", similar, observed, err)
		}
	}
}
