package aws

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Tags of other controllers: of the one of k8s.io/cloud-provider-aws, and of the AWS Load Balancer Controller.
const (
	tagServiceName = "kubernetes.io/service-name"
	tagStack       = "service.k8s.aws/stack"
	tagLBCCluster  = "elbv2.k8s.aws/cluster"
)

var _ cloud.Adopter = (*Provider)(nil)

// madeBy names the controller that made something for the owner; empty: none that is known. The one of cloud-provider-aws is
// known by the Service's UID in the name, the other by its tags, for which the name of the cluster has to be configured.
func (p *Provider) madeBy(owner cloud.Owner, name string, have map[string]string) string {
	service := owner.Namespace + "/" + owner.Name
	byUID := "a" + strings.ReplaceAll(owner.ServiceUID, "-", "")
	switch {
	case have[tagServiceName] == service && name == byUID[:min(len(byUID), 32)]:
		return "cloud-provider-aws"
	case p.clusterName != "" && have[tagLBCCluster] == p.clusterName && have[tagStack] == service:
		return "aws-load-balancer-controller"
	}
	return ""
}

// Adoptable implements cloud.Adopter. The id is a balancer's ARN.
func (p *Provider) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	all, err := p.balancers(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b types.LoadBalancer) bool {
		if id != "" {
			return balancerARN(b) != id
		}
		return strings.HasPrefix(aws.ToString(b.LoadBalancerName), namePrefix) // ours
	})
	have := map[string]map[string]string{}
	if err := p.readTags(ctx, have, arnsOf(all, balancerARN)); err != nil {
		return nil, err
	}
	var found []cloud.Adoptable
	for _, b := range all {
		f := cloud.Adoptable{ID: balancerARN(b)}
		f.AdoptableBy, f.MadeBy = have[f.ID][v1alpha1.TagAdoptableBy], p.madeBy(owner, aws.ToString(b.LoadBalancerName), have[f.ID])
		if id == "" && f.MadeBy == "" {
			continue
		}
		v, err := p.parts(ctx, owner, b, f.MadeBy)
		if err != nil {
			return nil, err
		}
		v.tags[f.ID] = have[f.ID]
		v.setKey(f.ID, "main")
		if f.Resources, err = p.resources(ctx, v); err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	return found, nil
}

// setKey gives something that is not ours the key that Desired gives to what has its place.
func (v *view) setKey(id, key string) {
	if v.tags[id][tagOwner] == "" {
		v.setTag(id, tagKey, key)
	}
}

func (v *view) setTag(id, name, value string) {
	v.tags[id] = over(map[string]string{name: ""}, v.tags[id], map[string]string{name: value})
}

// parts are what belongs to a balancer alone: its listeners, the target groups that nothing else sends to, and its security
// group, which nothing else is in (see ownGroup). Of one that a controller made for the owner also its target groups
// that nothing sends to.
func (p *Provider) parts(ctx context.Context, owner cloud.Owner, b types.LoadBalancer, madeBy string) (view, error) {
	v := view{balancers: []types.LoadBalancer{b}, tags: map[string]map[string]string{}, whole: true}
	var err error
	if v.listeners, err = p.listeners(ctx, v.balancers); err != nil {
		return v, err
	}
	if v.groups, err = p.groups(ctx); err != nil {
		return v, err
	}
	v.groups = slices.DeleteFunc(v.groups, func(g types.TargetGroup) bool {
		if len(g.LoadBalancerArns) == 0 {
			return madeBy == "" || strings.HasPrefix(aws.ToString(g.TargetGroupName), namePrefix)
		}
		return !slices.Equal(g.LoadBalancerArns, []string{balancerARN(b)})
	})
	if err := p.readTags(ctx, v.tags, append(arnsOf(v.groups, groupARN), arnsOf(v.listeners, listenerARN)...)); err != nil {
		return v, err
	}
	v.groups = slices.DeleteFunc(v.groups, func(g types.TargetGroup) bool {
		have := v.tags[groupARN(g)]
		return len(g.LoadBalancerArns) == 0 && p.madeBy(owner, aws.ToString(b.LoadBalancerName), have) == ""
	})
	for _, g := range v.groups {
		key := aws.ToString(g.TargetGroupName) // nothing of ours has such a key
		for _, l := range v.listeners {
			if forwardsTo(l) == groupARN(g) {
				key = strconv.Itoa(int(aws.ToInt32(l.Port)))
			}
		}
		v.setKey(groupARN(g), key)
	}
	for _, l := range v.listeners {
		v.setKey(listenerARN(l), strconv.Itoa(int(aws.ToInt32(l.Port))))
	}
	v.security, err = p.ownGroup(ctx, owner, b, madeBy)
	for _, g := range v.security {
		v.tags[aws.ToString(g.GroupId)] = ec2TagMap(g.Tags)
		v.setKey(aws.ToString(g.GroupId), "main")
	}
	return v, err
}

// ownGroup is the security group that is a balancer's alone: the only one that it has, or, beside groups that it shares with others, the
// one that the controller that made the balancer made for the same Service. None: there is none.
func (p *Provider) ownGroup(ctx context.Context, owner cloud.Owner, b types.LoadBalancer, madeBy string) ([]ec2types.SecurityGroup, error) {
	if len(b.SecurityGroups) == 0 || len(b.SecurityGroups) > 1 && madeBy == "" {
		return nil, nil
	}
	found, err := p.securityGroups(ctx, filter("group-id", b.SecurityGroups...))
	if err != nil {
		return nil, err
	}
	for _, g := range found {
		if len(b.SecurityGroups) > 1 && p.madeBy(owner, aws.ToString(b.LoadBalancerName), ec2TagMap(g.Tags)) == "" {
			continue
		}
		if alone, err := p.alone(ctx, aws.ToString(g.GroupId), b); err != nil || alone {
			return []ec2types.SecurityGroup{g}, err
		}
	}
	return nil, nil
}

// alone reports whether a security group is that of no other network interface than the balancer's.
func (p *Provider) alone(ctx context.Context, id string, b types.LoadBalancer) (bool, error) {
	mine := interfaceOf(balancerARN(b))
	in := &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{filter("group-id", id)}}
	others := false
	err := ec2Pages(&in.NextToken, func() (next *string, err error) {
		page, err := p.ec2.describeNetworkInterfaces(ctx, in)
		if err != nil {
			return nil, err
		}
		if others = slices.ContainsFunc(page.NetworkInterfaces, func(n ec2types.NetworkInterface) bool { return aws.ToString(n.Description) != mine }); others {
			return nil, nil
		}
		return page.NextToken, nil
	})
	return err == nil && !others, err
}
