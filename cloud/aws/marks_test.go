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

// TestLostTags: what keeps the owner's tag and loses another of ours gets that back, by one call, is listed as before, and stays what it is.
func TestLostTags(t *testing.T) {
	for _, kind := range []string{KindSecurityGroup, KindTargetGroup, KindLoadBalancer, KindListener} {
		for _, tag := range []string{tagCluster, tagKey, tagService} {
			t.Run(kind+" "+tag, func(t *testing.T) {
				server := awstest.New(awstest.Options{})
				p := testProvider(server, unlimited)
				s := spec("uid-1", 1)
				observed := settled(t, p, s.Owner, &s).Observed
				before := server.Snapshot()
				one := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == kind })]
				untag(t, server, kind, one.ID, tag)
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
