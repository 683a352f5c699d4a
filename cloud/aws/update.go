package aws

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Update implements cloud.Provider. Only what differs is sent.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, was, is cloud.Resource) error {
	switch is.Kind {
	case KindReservation:
		return p.updateReservation(ctx, owner, is)
	case KindNodeRules:
		return p.updateNodeRules(ctx, owner, was, is)
	}
	var err error
	if more := is.Attributes[also]; more != was.Attributes[also] && more != "" {
		// The tag is there before what it has looked at, and, as updateTags is last, longer than that.
		if err := p.setTags(ctx, was, map[string]string{tagAlso: more}); err != nil {
			return err
		}
		was.Attributes = over(was.Attributes, map[string]string{also: more})
	}
	switch is.Kind {
	case KindSecurityGroup:
		err = p.setRules(ctx, was.ID, cloud.SplitList(was.Attributes[rules]), cloud.SplitList(is.Attributes[rules]))
	case KindTargetGroup:
		err = p.updateTargetGroup(ctx, was, is)
	case KindLoadBalancer:
		err = p.updateBalancer(ctx, owner, was, is)
	case KindListener:
		err = p.updateListener(ctx, was, is)
	}
	if err != nil {
		return err
	}
	return p.updateTags(ctx, owner, was, is)
}

func differs(was, is cloud.Resource, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return was.Attributes[name] != is.Attributes[name] })
}

// updateTags is last: it is what says whose something is.
func (p *Provider) updateTags(ctx context.Context, owner cloud.Owner, was, is cloud.Resource) error {
	set, remove := retag(owner, was, is)
	if len(set)+len(remove) == 0 {
		return nil
	}
	if mine := owner.ID(); slices.Contains(is.Owners, mine) && !slices.Contains(was.Owners, mine) {
		if err := p.unclaimed(ctx, owner, is); err != nil {
			return err
		}
	}
	if err := p.setTags(ctx, was, set); err != nil || len(remove) == 0 {
		return err
	}
	if is.Kind == KindSecurityGroup {
		var keys []ec2types.Tag
		for _, key := range remove {
			keys = append(keys, ec2types.Tag{Key: aws.String(key)})
		}
		_, err := p.ec2.deleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{was.ID}, Tags: keys})
		return err
	}
	_, err := p.elb.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: []string{was.ID}, TagKeys: remove})
	return err
}

func (p *Provider) setTags(ctx context.Context, r cloud.Resource, set map[string]string) error {
	if len(set) == 0 {
		return nil
	}
	if r.Kind == KindSecurityGroup {
		_, err := p.ec2.createTags(ctx, &ec2.CreateTagsInput{Resources: []string{r.ID}, Tags: ec2Tags(set)})
		return err
	}
	_, err := p.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{r.ID}, Tags: elbTags(set)})
	return err
}

// unclaimed looks whether nobody else has adopted something meanwhile. AWS has no precondition for tags: what is left is the
// moment between this look and the call after it.
func (p *Provider) unclaimed(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	have := map[string]map[string]string{}
	if r.Kind == KindSecurityGroup {
		found, err := p.securityGroups(ctx, filter("group-id", r.ID))
		if err != nil {
			return err
		}
		for _, g := range found {
			have[r.ID] = ec2TagMap(g.Tags)
		}
	} else if err := p.readTags(ctx, have, []string{r.ID}); err != nil {
		return err
	}
	if id := have[r.ID][tagOwner]; id != "" && id != string(owner.ID()) {
		return cloud.Errorf(cloud.Conflict, "%s %s is another's meanwhile", r.Kind, r.ID)
	}
	return nil
}

// setRules lets in what is missing and then takes away what is too much. Where the group is another one than it was, which
// its answer says, it is looked at again.
func (p *Provider) setRules(ctx context.Context, id string, was, is []string) error {
	err := p.changeRules(ctx, id, was, is)
	if !elsewhere(err) {
		return err
	}
	found, err := p.securityGroups(ctx, filter("group-id", id))
	if err != nil || len(found) == 0 {
		return err
	}
	err = p.changeRules(ctx, id, cloud.SplitList(ruleList(found[0].IpPermissions)), is)
	if elsewhere(err) {
		return cloud.Errorf(cloud.Pending, "the rules of %s are not to be seen yet", id)
	}
	return err
}

// elsewhere reports whether rules were not what they were taken to be.
func elsewhere(err error) bool {
	code := codeOf(err)
	return code == "InvalidPermission.Duplicate" || code == "InvalidPermission.NotFound"
}

func (p *Provider) changeRules(ctx context.Context, id string, was, is []string) error {
	without := func(all, some []string) []ec2types.IpPermission {
		return permissionsOf(slices.DeleteFunc(slices.Clone(all), func(r string) bool { return slices.Contains(some, r) }))
	}
	if missing := without(is, was); len(missing) > 0 {
		if _, err := p.ec2.authorizeIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String(id), IpPermissions: missing}); err != nil {
			return err
		}
	}
	if extra := without(was, is); len(extra) > 0 {
		_, err := p.ec2.revokeIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: aws.String(id), IpPermissions: extra})
		return err
	}
	return nil
}

// permissionsOf is the inverse of ruleList.
func permissionsOf(list []string) []ec2types.IpPermission {
	var all []ec2types.IpPermission
	for _, text := range list {
		parts := strings.SplitN(text, " ", 3)
		if len(parts) != 3 {
			continue // not of ruleList
		}
		from, to, _ := strings.Cut(parts[1], "-")
		perm := ec2types.IpPermission{IpProtocol: aws.String(parts[0])}
		if parts[0] != "-1" {
			perm.FromPort, perm.ToPort = int32Of(from), int32Of(to)
		}
		switch source := parts[2]; {
		case strings.HasPrefix(source, "pl-"):
			perm.PrefixListIds = []ec2types.PrefixListId{{PrefixListId: aws.String(source)}}
		case strings.HasPrefix(source, "sg-"):
			perm.UserIdGroupPairs = []ec2types.UserIdGroupPair{{GroupId: aws.String(source)}}
		case strings.Contains(source, ":"):
			perm.Ipv6Ranges = []ec2types.Ipv6Range{{CidrIpv6: aws.String(source)}}
		default:
			perm.IpRanges = []ec2types.IpRange{{CidrIp: aws.String(source)}}
		}
		all = append(all, perm)
	}
	return all
}

func (p *Provider) updateTargetGroup(ctx context.Context, was, is cloud.Resource) error {
	a := is.Attributes
	if differs(was, is, checkProtocol, checkPort, checkPath, checkCodes, checkInterval, checkTimeout, checkHealthy, checkUnhealthy) {
		in := &elb.ModifyTargetGroupInput{TargetGroupArn: aws.String(was.ID), HealthCheckProtocol: types.ProtocolEnum(a[checkProtocol]), HealthCheckPort: aws.String(a[checkPort]),
			HealthCheckIntervalSeconds: int32Of(a[checkInterval]), HealthCheckTimeoutSeconds: int32Of(a[checkTimeout]),
			HealthyThresholdCount: int32Of(a[checkHealthy]), UnhealthyThresholdCount: int32Of(a[checkUnhealthy])}
		if a[checkPath] != "" {
			in.HealthCheckPath, in.Matcher = aws.String(a[checkPath]), &types.Matcher{HttpCode: aws.String(a[checkCodes])}
		}
		if _, err := p.elb.ModifyTargetGroup(ctx, in); err != nil {
			return err
		}
	}
	return p.setGroupAttributes(ctx, was.ID, awsAttributes(a, was.Attributes))
}

func (p *Provider) setGroupAttributes(ctx context.Context, arn string, all map[string]string) error {
	if len(all) == 0 {
		return nil
	}
	in := &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: aws.String(arn)}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		in.Attributes = append(in.Attributes, types.TargetGroupAttribute{Key: aws.String(name), Value: aws.String(all[name])})
	}
	_, err := p.elb.ModifyTargetGroupAttributes(ctx, in)
	return err
}

func (p *Provider) setBalancerAttributes(ctx context.Context, arn string, all map[string]string) error {
	if len(all) == 0 {
		return nil
	}
	in := &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: aws.String(arn)}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		in.Attributes = append(in.Attributes, types.LoadBalancerAttribute{Key: aws.String(name), Value: aws.String(all[name])})
	}
	_, err := p.elb.ModifyLoadBalancerAttributes(ctx, in)
	return err
}

func (p *Provider) setListenerAttributes(ctx context.Context, arn string, all map[string]string) error {
	if len(all) == 0 {
		return nil
	}
	in := &elb.ModifyListenerAttributesInput{ListenerArn: aws.String(arn)}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		in.Attributes = append(in.Attributes, types.ListenerAttribute{Key: aws.String(name), Value: aws.String(all[name])})
	}
	_, err := p.elb.ModifyListenerAttributes(ctx, in)
	return err
}

// updateBalancer goes on where what is given by name is not found, or cannot be had in place: only that stays as it is.
func (p *Provider) updateBalancer(ctx context.Context, owner cloud.Owner, was, is cloud.Resource) error {
	places := p.updatePlaces(ctx, owner, was, is)
	if places != nil && !cloud.IsClass(places, cloud.UserError) {
		return places
	}
	groups := p.updateGroups(ctx, was, is)
	if groups != nil && !cloud.IsClass(groups, cloud.UserError) {
		return groups
	}
	change := awsAttributes(is.Attributes, was.Attributes)
	var fewer error
	if want, have := change[attributeSecondary], was.Attributes[attributePrefix+attributeSecondary]; want != "" && atoi(want) < atoi(have) {
		delete(change, attributeSecondary)
		fewer = cloud.Errorf(cloud.UserError, "attribute %s is %s, and AWS does not decrease it: ask for that, or remove it", attributeSecondary, have)
	}
	return cmp.Or(p.setBalancerAttributes(ctx, was.ID, change), cloud.UserErrors(places, groups, fewer))
}

// updatePlaces changes a balancer's subnets, and what goes with them.
func (p *Provider) updatePlaces(ctx context.Context, owner cloud.Owner, was, is cloud.Resource) error {
	a := is.Attributes
	moved, err := p.differentMappings(ctx, was, is)
	if err != nil || len(moved) == 0 && !differs(was, is, addressType, sourceNAT) {
		return err
	}
	in := &elb.SetSubnetsInput{LoadBalancerArn: aws.String(was.ID), IpAddressType: types.IpAddressType(a[addressType]), SubnetMappings: moved}
	if a[addressType] == addressTypeDouble || was.Attributes[sourceNAT] == on { // AWS wants nothing said of it with IPv4 only
		in.EnablePrefixForIpv6SourceNat = types.EnablePrefixForIpv6SourceNatEnum(a[sourceNAT])
	}
	if len(moved) == 0 {
		if in.SubnetMappings, err = p.mappings(ctx, was.Attributes); err != nil {
			return err
		}
		if a[addressType] == addressTypeFour { // addresses of the other family go with it
			for i := range in.SubnetMappings {
				in.SubnetMappings[i].IPv6Address = nil
			}
		}
	}
	if a[addressType] != was.Attributes[addressType] {
		if err := p.dropUnfit(ctx, owner, was.ID, a[addressType]); err != nil {
			return err
		}
	}
	_, err = p.elb.SetSubnets(ctx, in)
	return err
}

// dropUnfit deletes those of the owner's listeners that AWS does not have on a balancer of another address type, and so does not change
// that before they are gone: they are not wanted any more, or the balancer would be another one. One that is lent is still somebody else's.
func (p *Provider) dropUnfit(ctx context.Context, owner cloud.Owner, balancer, to string) error {
	listeners, err := p.listeners(ctx, []types.LoadBalancer{{LoadBalancerArn: aws.String(balancer)}})
	if err != nil {
		return err
	}
	groups, err := p.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(balancer)})
	if err != nil {
		return err
	}
	unfit := func(l types.Listener) bool {
		return slices.ContainsFunc(groups.TargetGroups, func(g types.TargetGroup) bool {
			six := g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv6
			return groupARN(g) == forwardsTo(l) && (six && to == addressTypeFour || !six && to != addressTypeFour && isDatagrams(string(l.Protocol)))
		})
	}
	listeners = slices.DeleteFunc(listeners, func(l types.Listener) bool { return !unfit(l) })
	have := map[string]map[string]string{}
	if err := p.readTags(ctx, have, arnsOf(listeners, listenerARN)); err != nil {
		return err
	}
	for _, l := range listeners {
		if tags := have[listenerARN(l)]; tags[tagOwner] != string(owner.ID()) || tags[tagLent] != "" {
			return cloud.Errorf(cloud.Conflict, "the listener of port %d is not this Service's, and AWS does not have it on a balancer that is %s: remove it", aws.ToInt32(l.Port), to)
		}
	}
	for _, l := range listeners {
		if _, err := p.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: l.ListenerArn}); err != nil && p.Classify(err).Class != cloud.NotFound {
			return err
		}
	}
	return nil
}

// updateGroups changes a balancer's security groups.
func (p *Provider) updateGroups(ctx context.Context, was, is cloud.Resource) error {
	named := byName + securityGroups
	if is.Attributes[named] != "" && !differs(was, is, named) {
		return nil
	}
	groups, err := p.groupsFor(ctx, is)
	if err != nil {
		return err
	}
	same := slices.Equal(groups, groupsOf(was)) && (is.Attributes[named] != "" || !differs(was, is, securityGroups))
	if len(groups) == 0 || same {
		return nil
	}
	return p.setSecurityGroups(ctx, was.ID, append(groups, keptBeside(was, is)...))
}

func (p *Provider) setSecurityGroups(ctx context.Context, arn string, ids []string) error {
	_, err := p.elb.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: aws.String(arn), SecurityGroups: ids})
	return err
}

func (p *Provider) updateListener(ctx context.Context, was, is cloud.Resource) error {
	_, actions := forwarding(is)
	_, before := forwarding(was)
	if err := p.updateCertificates(ctx, was, is, func() error {
		if aws.ToString(actions[0].TargetGroupArn) == aws.ToString(before[0].TargetGroupArn) && !differs(was, is, protocol, certificate, tlsPolicy, alpn) {
			return nil
		}
		in := &elb.ModifyListenerInput{ListenerArn: aws.String(was.ID), DefaultActions: actions, Protocol: types.ProtocolEnum(is.Attributes[protocol])}
		in.Certificates, in.SslPolicy, in.AlpnPolicy = tlsOf(is)
		return p.withoutReservation(ctx, is, func() error {
			_, err := p.elb.ModifyListener(ctx, in)
			return err
		})
	}); err != nil {
		return err
	}
	from := was.Attributes
	if differs(was, is, protocol) {
		from = map[string]string{attributePrefix + attributeIdle: "350"}
	}
	return p.setListenerAttributes(ctx, was.ID, awsAttributes(is.Attributes, from))
}
