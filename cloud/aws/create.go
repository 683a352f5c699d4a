package aws

import (
	"context"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Create implements cloud.Provider. AWS answers a creation that is repeated with what is there, whoever's it is: so whose it
// is, is looked up before anything else is done with it.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	switch desired.Kind {
	case KindSecurityGroup:
		return p.createSecurityGroup(ctx, owner, desired)
	case KindTargetGroup:
		return p.createTargetGroup(ctx, owner, desired)
	case KindLoadBalancer:
		return p.createBalancer(ctx, owner, desired)
	case KindReservation:
		return p.reserve(ctx, desired)
	case KindNodeRules:
		return p.setNodeRules(ctx, owner, "", desired)
	}
	return p.createListener(ctx, owner, desired)
}

// verify looks whether what a creation answered is the owner's.
func (p *Provider) verify(ctx context.Context, owner cloud.Owner, r cloud.Resource, arn string) error {
	have := map[string]map[string]string{}
	if err := p.readTags(ctx, have, []string{arn}); err != nil {
		if p.Classify(err).Class == cloud.NotFound {
			return cloud.Errorf(cloud.Pending, "%s is not to be seen yet", r.Name())
		}
		return err
	}
	return verified(owner, r, have[arn])
}

func verified(owner cloud.Owner, r cloud.Resource, have map[string]string) error {
	if have[tagOwner] != string(owner.ID()) {
		return cloud.Errorf(cloud.Conflict, "a %s called %s is there already and is not this Service's: if it is to be, give it the tag %s=%s, else remove it",
			r.Kind, nameOf(owner, r), tagOwner, owner.ID())
	}
	return nil
}

func (p *Provider) createSecurityGroup(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	made := desired
	made.State = cloud.StateReady
	vpc, err := p.vpc(ctx)
	if err != nil {
		return made, err
	}
	name := nameOf(owner, desired)
	out, err := p.ec2.createSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String(name), VpcId: aws.String(vpc),
		Description: aws.String("Clients of Service " + owner.Namespace + "/" + owner.Name),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeSecurityGroup,
			Tags: ec2Tags(marksOf(owner, desired), additional(desired))}}})
	if err == nil {
		made.ID = aws.ToString(out.GroupId)
		return made, p.setRules(ctx, made.ID, nil, cloud.SplitList(desired.Attributes[rules]))
	}
	if codeOf(err) != "InvalidGroup.Duplicate" {
		return made, err
	}
	found, err := p.securityGroups(ctx, filter("vpc-id", vpc), filter("group-name", name))
	switch {
	case err != nil:
		return made, err
	case len(found) == 0:
		return made, cloud.Errorf(cloud.Pending, "%s is not to be seen yet", desired.Name())
	}
	made.ID = aws.ToString(found[0].GroupId)
	if err := verified(owner, desired, ec2TagMap(found[0].Tags)); err != nil {
		return made, err
	}
	return made, p.setRules(ctx, made.ID, cloud.SplitList(ruleList(found[0].IpPermissions)), cloud.SplitList(desired.Attributes[rules]))
}

func (p *Provider) createTargetGroup(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	made := desired
	made.State = cloud.StateReady
	vpc, err := p.vpc(ctx)
	if err != nil {
		return made, err
	}
	a := desired.Attributes
	in := &elb.CreateTargetGroupInput{Name: aws.String(nameOf(owner, desired)), VpcId: aws.String(vpc), Protocol: types.ProtocolEnum(a[protocol]),
		TargetType: types.TargetTypeEnum(a[targetKind]), IpAddressType: types.TargetGroupIpAddressTypeEnum(a[addressType]), Port: aws.Int32(int32(atoi(desired.Key))),
		Tags: elbTags(marksOf(owner, desired), additional(desired)), HealthCheckProtocol: types.ProtocolEnum(a[checkProtocol]), HealthCheckPort: aws.String(a[checkPort]),
		HealthCheckIntervalSeconds: int32Of(a[checkInterval]), HealthCheckTimeoutSeconds: int32Of(a[checkTimeout]),
		HealthyThresholdCount: int32Of(a[checkHealthy]), UnhealthyThresholdCount: int32Of(a[checkUnhealthy])}
	if a[checkPath] != "" {
		in.HealthCheckPath, in.Matcher = aws.String(a[checkPath]), &types.Matcher{HttpCode: aws.String(a[checkCodes])}
	}
	out, err := p.elb.CreateTargetGroup(ctx, in)
	switch {
	case codeOf(err) == "DuplicateTargetGroupName":
		// The owner's own, from before what can change in place changed?
		found, err := p.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: []string{*in.Name}})
		if err != nil {
			return made, unseen(p, desired, err)
		}
		made.ID = groupARN(found.TargetGroups[0])
		if err := p.verify(ctx, owner, desired, made.ID); err != nil {
			return made, err
		}
		// It is brought to what is desired once it is seen.
		return made, cloud.Errorf(cloud.Pending, "%s is there already", desired.Name())
	case err != nil:
		return made, err
	case len(out.TargetGroups) != 1:
		return made, cloud.Errorf(cloud.Retry, "AWS answered %d target groups", len(out.TargetGroups))
	}
	made.ID = groupARN(out.TargetGroups[0])
	if err := p.verify(ctx, owner, desired, made.ID); err != nil {
		return made, err
	}
	defaults := map[string]string{}
	prefixed(defaults, groupDefaults(a[protocol], a[targetKind]))
	return made, p.setGroupAttributes(ctx, made.ID, awsAttributes(a, defaults))
}

// unseen is Pending where an error says that something that is there is not found.
func unseen(p *Provider, r cloud.Resource, err error) error {
	if p.Classify(err).Class == cloud.NotFound {
		return cloud.Errorf(cloud.Pending, "%s is not to be seen yet", r.Name())
	}
	return err
}

func atoi(text string) int {
	n, _ := strconv.Atoi(text) // we wrote it
	return n
}

func int32Of(text string) *int32 { return aws.Int32(int32(atoi(text))) }

func (p *Provider) createBalancer(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	made, a := desired, desired.Attributes
	in := &elb.CreateLoadBalancerInput{Name: aws.String(nameOf(owner, desired)), Type: types.LoadBalancerTypeEnumNetwork,
		Scheme: types.LoadBalancerSchemeEnum(a[scheme]), IpAddressType: types.IpAddressType(a[addressType]),
		Tags: elbTags(marksOf(owner, desired), additional(desired))}
	if a[sourceNAT] == on {
		in.EnablePrefixForIpv6SourceNat = types.EnablePrefixForIpv6SourceNatEnumOn
	}
	var err error
	if in.SubnetMappings, err = p.mappings(ctx, a); err != nil {
		return made, err
	}
	if in.SecurityGroups, err = p.groupsFor(ctx, desired); err != nil {
		return made, err
	}
	out, err := p.elb.CreateLoadBalancer(ctx, in)
	switch {
	case codeOf(err) == "DuplicateLoadBalancerName":
		found, err := p.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{*in.Name}})
		if err != nil {
			return made, unseen(p, desired, err)
		}
		made.ID = balancerARN(found.LoadBalancers[0])
		if err := p.verify(ctx, owner, desired, made.ID); err != nil {
			return made, err
		}
		return made, cloud.Errorf(cloud.Pending, "%s is there already", desired.Name())
	case err != nil:
		return made, err
	case len(out.LoadBalancers) != 1:
		return made, cloud.Errorf(cloud.Retry, "AWS answered %d balancers", len(out.LoadBalancers))
	}
	made.ID, made.State = balancerARN(out.LoadBalancers[0]), cloud.StateReady
	if s := out.LoadBalancers[0].State; s != nil && s.Code == types.LoadBalancerStateEnumProvisioning {
		made.State = cloud.StatePending
	}
	if err := p.verify(ctx, owner, desired, made.ID); err != nil {
		return made, err
	}
	defaults := map[string]string{attributePrefix + attributeProtection: "false", attributePrefix + attributeSecondary: "0",
		attributePrefix + attributeDenyGateway: strconv.FormatBool(a[scheme] == schemeInternal)}
	prefixed(defaults, balancerDefaults())
	return made, p.setBalancerAttributes(ctx, made.ID, awsAttributes(a, defaults))
}

// groupsFor is groupsOf where some may be given by name.
func (p *Provider) groupsFor(ctx context.Context, r cloud.Resource) ([]string, error) {
	named := cloud.SplitList(r.Attributes[byName+securityGroups])
	if len(named) == 0 {
		return groupsOf(r), nil
	}
	ids, err := p.idsOf(ctx, nameableGroups, named)
	return slices.Sorted(slices.Values(ids)), err
}

// groupsOf are the ids of a balancer's security groups.
func groupsOf(r cloud.Resource) []string {
	if r.Attributes[securityGroups] != managed {
		return cloud.SplitList(r.Attributes[securityGroups])
	}
	for _, dep := range r.DependsOn {
		if dep.Kind == KindSecurityGroup {
			return []string{dep.ID}
		}
	}
	return nil
}

// keptBeside are the groups that a balancer has beside the one that is managed, since it was adopted with them. Others are in them, and
// nodes may let nothing else in.
func keptBeside(was, is cloud.Resource) []string {
	if is.Attributes[securityGroups] != managed {
		return nil
	}
	own := groupsOf(is)
	return slices.DeleteFunc(cloud.SplitList(was.Attributes[kept]), func(id string) bool { return slices.Contains(own, id) })
}

func (p *Provider) createListener(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	made := desired
	made.State = cloud.StateReady
	in := &elb.CreateListenerInput{Port: aws.Int32(int32(atoi(desired.Key))), Protocol: types.ProtocolEnum(desired.Attributes[protocol]),
		Tags: elbTags(marksOf(owner, desired), additional(desired))}
	in.LoadBalancerArn, in.DefaultActions = forwarding(desired)
	in.Certificates, in.SslPolicy, in.AlpnPolicy = tlsOf(desired)
	var out *elb.CreateListenerOutput
	err := p.withoutReservation(ctx, desired, func() (err error) {
		out, err = p.elb.CreateListener(ctx, in)
		return err
	})
	if codeOf(err) == "TargetGroupAssociationLimit" {
		if err := p.freeGroup(ctx, owner, desired, *in.LoadBalancerArn, *in.DefaultActions[0].TargetGroupArn); err != nil {
			return made, err
		}
		out, err = p.elb.CreateListener(ctx, in)
	}
	switch {
	case codeOf(err) == "DuplicateListener":
		found, err := p.listeners(ctx, []types.LoadBalancer{{LoadBalancerArn: in.LoadBalancerArn}})
		if err != nil {
			return made, err
		}
		i := slices.IndexFunc(found, func(l types.Listener) bool { return aws.ToInt32(l.Port) == *in.Port })
		if i < 0 {
			return made, cloud.Errorf(cloud.Pending, "%s is not to be seen yet", desired.Name())
		}
		made.ID = listenerARN(found[i])
		if err := p.verify(ctx, owner, desired, made.ID); err != nil {
			return made, err
		}
		if forwardsTo(found[i]) == aws.ToString(in.DefaultActions[0].TargetGroupArn) && found[i].Protocol == in.Protocol {
			return made, p.addCertificates(ctx, made.ID, cloud.SplitList(desired.Attributes[certificates]))
		}
		return made, cloud.Errorf(cloud.Pending, "%s is there already", desired.Name())
	case err != nil:
		return made, err
	case len(out.Listeners) != 1:
		return made, cloud.Errorf(cloud.Retry, "AWS answered %d listeners", len(out.Listeners))
	}
	made.ID = listenerARN(out.Listeners[0])
	if err := p.addCertificates(ctx, made.ID, cloud.SplitList(desired.Attributes[certificates])); err != nil {
		return made, err
	}
	return made, p.setListenerAttributes(ctx, made.ID, awsAttributes(desired.Attributes, map[string]string{attributePrefix + attributeIdle: "350"}))
}

// freeGroup has a target group leave the owner's other balancer, which is being replaced: a group can be used by one only. The
// replacement is ready by then, and clients of the old one are to move.
func (p *Provider) freeGroup(ctx context.Context, owner cloud.Owner, desired cloud.Resource, balancer, group string) error {
	used, err := p.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{group}})
	if err != nil {
		return unseen(p, desired, err)
	}
	var others []types.LoadBalancer
	for _, arn := range used.TargetGroups[0].LoadBalancerArns {
		if arn != balancer {
			others = append(others, types.LoadBalancer{LoadBalancerArn: aws.String(arn)})
		}
	}
	listeners, err := p.listeners(ctx, others)
	if err != nil {
		return unseen(p, desired, err)
	}
	for _, l := range listeners {
		if forwardsTo(l) != group {
			continue
		}
		if err := p.verify(ctx, owner, desired, listenerARN(l)); err != nil {
			return err
		}
		if _, err := p.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: l.ListenerArn}); err != nil && p.Classify(err).Class != cloud.NotFound {
			return err
		}
	}
	return nil
}

// forwarding is what a listener belongs to, and its one action.
func forwarding(r cloud.Resource) (*string, []types.Action) {
	var balancer, group string
	for _, dep := range r.DependsOn {
		switch dep.Kind {
		case KindLoadBalancer:
			balancer = dep.ID
		case KindTargetGroup:
			group = dep.ID
		}
	}
	return aws.String(balancer), []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String(group)}}
}

// tlsOf is what a listener says about TLS.
func tlsOf(r cloud.Resource) ([]types.Certificate, *string, []string) {
	a := r.Attributes
	if a[certificate] == "" {
		return nil, nil, nil
	}
	return []types.Certificate{{CertificateArn: aws.String(a[certificate])}}, aws.String(a[tlsPolicy]), []string{a[alpn]}
}
