package aws

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Observe implements cloud.Provider. The account is listed once, by balancers and target groups, and tags are read of what can
// be the owner's: what has the prefix of its name, and, where balancers are adopted, whatever nobody of us has named.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	return p.look(ctx, string(owner.ID()), "", ownPrefix(owner.ID()), false)
}

// List implements cloud.Provider. It takes minutes where there is much, so that something always goes meanwhile, which is left out. Who
// observes one owner is not told that something of it is gone before nothing shows it any more.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	return p.look(ctx, clusterID+"/", "*", namePrefix, true)
}

// protocols of network load balancers.
var protocols = []types.ProtocolEnum{types.ProtocolEnumTcp, types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp, types.ProtocolEnumTls,
	types.ProtocolEnumQuic, types.ProtocolEnumTcpQuic}

// view is a part of the account.
type view struct {
	balancers []types.LoadBalancer
	groups    []types.TargetGroup
	listeners []types.Listener
	security  []ec2types.SecurityGroup
	tags      map[string]map[string]string // by ARN or id
	names     map[string]string            // by id, of what is given by name
	// whole: the groups are all parts of one balancer, whoever's they are.
	whole bool
	// passing: what is not found any more, though it was listed, is left out.
	passing bool
}

// gone reports whether an error says that something went that is to be left out.
func (p *Provider) gone(v view, err error) bool {
	return v.passing && err != nil && p.Classify(err).Class == cloud.NotFound
}

// look returns what an owner has, or, where the rest is an asterisk, all whose identities begin so.
func (p *Provider) look(ctx context.Context, owner, rest, prefix string, passing bool) ([]cloud.Resource, error) {
	v := view{tags: map[string]map[string]string{}, passing: passing}
	mine := func(id string) bool {
		have := v.tags[id][tagOwner]
		return have == owner || rest != "" && strings.HasPrefix(have, owner)
	}
	all, err := p.balancers(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := p.groups(ctx)
	if err != nil {
		return nil, err
	}
	// Names that we have given say whose they are. Others may have been adopted, or be about to.
	ours := func(name *string) bool {
		return strings.HasPrefix(aws.ToString(name), prefix) || p.caps.Adopt && !strings.HasPrefix(aws.ToString(name), namePrefix)
	}
	all = slices.DeleteFunc(all, func(b types.LoadBalancer) bool { return !ours(b.LoadBalancerName) })
	groups = slices.DeleteFunc(groups, func(g types.TargetGroup) bool {
		return !ours(g.TargetGroupName) || !slices.Contains(protocols, g.Protocol)
	})
	for _, b := range all {
		some, err := p.listeners(ctx, []types.LoadBalancer{b})
		if err != nil && !p.gone(v, err) {
			return nil, err
		}
		v.listeners = append(v.listeners, some...)
	}
	if err := p.readTagsOf(ctx, v, slices.Concat(arnsOf(all, balancerARN), arnsOf(groups, groupARN), arnsOf(v.listeners, listenerARN))); err != nil {
		return nil, err
	}
	v.balancers = slices.DeleteFunc(all, func(b types.LoadBalancer) bool { return !mine(balancerARN(b)) })
	v.groups = slices.DeleteFunc(groups, func(g types.TargetGroup) bool { return !mine(groupARN(g)) })
	v.listeners = slices.DeleteFunc(v.listeners, func(l types.Listener) bool { return !mine(listenerARN(l)) })
	if v.security, err = p.securityGroups(ctx, filter("tag:"+tagOwner, literal.Replace(owner)+rest)); err != nil {
		return nil, err
	}
	for _, g := range v.security {
		v.tags[aws.ToString(g.GroupId)] = ec2TagMap(g.Tags)
	}
	return p.resources(ctx, v)
}

func balancerARN(b types.LoadBalancer) string { return aws.ToString(b.LoadBalancerArn) }
func groupARN(g types.TargetGroup) string     { return aws.ToString(g.TargetGroupArn) }
func listenerARN(l types.Listener) string     { return aws.ToString(l.ListenerArn) }

func arnsOf[T any](all []T, arn func(T) string) []string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = arn(one)
	}
	return list
}

func filter(name string, values ...string) ec2types.Filter {
	return ec2types.Filter{Name: aws.String(name), Values: values}
}

// balancers lists the network load balancers.
func (p *Provider) balancers(ctx context.Context) ([]types.LoadBalancer, error) {
	var all []types.LoadBalancer
	for pages := elb.NewDescribeLoadBalancersPaginator(p.elb, &elb.DescribeLoadBalancersInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.LoadBalancers...)
	}
	return slices.DeleteFunc(all, func(b types.LoadBalancer) bool { return b.Type != types.LoadBalancerTypeEnumNetwork }), nil
}

func (p *Provider) groups(ctx context.Context) ([]types.TargetGroup, error) {
	var all []types.TargetGroup
	for pages := elb.NewDescribeTargetGroupsPaginator(p.elb, &elb.DescribeTargetGroupsInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.TargetGroups...)
	}
	return all, nil
}

func (p *Provider) listeners(ctx context.Context, balancers []types.LoadBalancer) ([]types.Listener, error) {
	var all []types.Listener
	for _, b := range balancers {
		for pages := elb.NewDescribeListenersPaginator(p.elb, &elb.DescribeListenersInput{LoadBalancerArn: b.LoadBalancerArn}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, page.Listeners...)
		}
	}
	return all, nil
}

func (p *Provider) securityGroups(ctx context.Context, filters ...ec2types.Filter) ([]ec2types.SecurityGroup, error) {
	var all []ec2types.SecurityGroup
	in := &ec2.DescribeSecurityGroupsInput{Filters: filters}
	err := ec2Pages(&in.NextToken, func() (next *string, err error) {
		page, err := p.ec2.describeSecurityGroups(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, page.SecurityGroups...)
		return page.NextToken, nil
	})
	return all, err
}

// ec2Pages has read called for each page of an answer of EC2, until one has no next. The token is that of the request. The SDK's own
// paginators want a whole client.
func ec2Pages(token **string, read func() (next *string, err error)) error {
	for {
		next, err := read()
		if err != nil || aws.ToString(next) == "" {
			return err
		}
		*token = next
	}
}

// tagsPerCall is the most resources of one DescribeTags.
const tagsPerCall = 20

func (p *Provider) readTags(ctx context.Context, into map[string]map[string]string, arns []string) error {
	for some := range slices.Chunk(arns, tagsPerCall) {
		out, err := p.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: some})
		if err != nil {
			return err
		}
		for _, d := range out.TagDescriptions {
			into[aws.ToString(d.ResourceArn)] = tagMap(d.Tags)
		}
	}
	return nil
}

// readTagsOf reads the tags of what there is into a view. AWS tells none of a call's where one is gone: the others are asked for in halves.
func (p *Provider) readTagsOf(ctx context.Context, v view, arns []string) error {
	for some := range slices.Chunk(arns, tagsPerCall) {
		switch err := p.readTags(ctx, v.tags, some); {
		case err != nil && !p.gone(v, err):
			return err
		case err != nil && len(some) > 1:
			if err := cmp.Or(p.readTagsOf(ctx, v, some[:len(some)/2]), p.readTagsOf(ctx, v, some[len(some)/2:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// resources reads what else there is to know of the parts of a view.
func (p *Provider) resources(ctx context.Context, v view) ([]cloud.Resource, error) {
	var all []cloud.Resource
	var err error
	lost := v.restoreKeys()
	if v.names, err = p.readNames(ctx, v); err != nil {
		return nil, err
	}
	add := func(r cloud.Resource, err error) error {
		switch {
		case p.gone(v, err):
			return nil
		case err != nil:
			return err
		case r.Key == "":
			marked(&r, v.tags[r.ID], lost[r.ID])
		}
		all = append(all, r)
		return nil
	}
	for _, g := range v.security {
		r := cloud.Resource{Kind: KindSecurityGroup, ID: aws.ToString(g.GroupId), State: cloud.StateReady, Attributes: map[string]string{rules: ruleList(g.IpPermissions)}}
		_ = add(r, nil) // it was read already
	}
	for _, g := range v.groups {
		if err := add(p.observedGroup(ctx, g)); err != nil {
			return nil, err
		}
	}
	nodeRules, err := p.observedNodeRules(ctx, v, all)
	if err != nil {
		return nil, err
	}
	all = append(all, nodeRules...)
	for _, b := range v.balancers {
		if err := add(p.observedBalancer(ctx, b, v)); err != nil {
			return nil, err
		}
		if v.tags[balancerARN(b)][tagCapacity] == "" {
			continue
		}
		if err := add(p.observedReservation(ctx, b, v)); err != nil {
			return nil, err
		}
	}
	for _, l := range v.listeners {
		if err := add(p.observedListener(ctx, l, v)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// restoreKeys has what is an owner's and lost the tag for its key have that again, by what else there is to see of it. It returns which
// these are.
func (v *view) restoreKeys() map[string]bool {
	lost := map[string]bool{}
	restore := func(id, key string) {
		if have := v.tags[id]; have[tagOwner] != "" && have[tagKey] == "" {
			v.setTag(id, tagKey, key)
			lost[id] = true
		}
	}
	for _, g := range v.security {
		restore(aws.ToString(g.GroupId), "main")
	}
	for _, b := range v.balancers {
		restore(balancerARN(b), "main")
	}
	for _, l := range v.listeners {
		key := strconv.Itoa(int(aws.ToInt32(l.Port)))
		restore(listenerARN(l), key)
		restore(forwardsTo(l), key)
	}
	for _, g := range v.groups { // what nothing sends to
		restore(groupARN(g), strconv.Itoa(int(aws.ToInt32(g.Port))))
	}
	return lost
}

// refTo is a reference with the key that its tags say.
func refTo(kind, id string, v view) cloud.Ref {
	return cloud.Ref{Kind: kind, Key: v.tags[id][tagKey], ID: id}
}

func (p *Provider) observedBalancer(ctx context.Context, b types.LoadBalancer, v view) (cloud.Resource, error) {
	r := cloud.Resource{Kind: KindLoadBalancer, ID: balancerARN(b), State: cloud.StateReady, Attributes: map[string]string{
		scheme: string(b.Scheme), addressType: string(b.IpAddressType), sourceNAT: cmp.Or(string(b.EnablePrefixForIpv6SourceNat), off),
		givenName: aws.ToString(b.LoadBalancerName), grouped: strconv.FormatBool(len(b.SecurityGroups) > 0), securityGroups: cloud.List(b.SecurityGroups)}}
	if b.State != nil {
		switch b.State.Code {
		case types.LoadBalancerStateEnumProvisioning:
			r.State = cloud.StatePending
		case types.LoadBalancerStateEnumFailed:
			r.State = cloud.StateFailed
		}
	}
	for _, id := range b.SecurityGroups {
		if v.tags[id][tagKey] != "" && (v.whole || v.tags[id][tagOwner] == v.tags[r.ID][tagOwner]) {
			r.DependsOn = append(r.DependsOn, refTo(KindSecurityGroup, id, v))
		}
	}
	adopted := strings.Split(v.tags[r.ID][tagKept], keySeparator)
	others := slices.DeleteFunc(slices.Clone(b.SecurityGroups), func(id string) bool {
		own := slices.ContainsFunc(r.DependsOn, func(dep cloud.Ref) bool { return dep.ID == id })
		return own || !slices.Contains(adopted, id) && (!v.whole || v.tags[r.ID][tagOwner] != "")
	})
	if r.Attributes[kept] = cloud.List(others); len(r.DependsOn) == 1 && len(b.SecurityGroups) == 1+len(others) {
		r.Attributes[securityGroups] = managed
	}
	r.Attributes[subnets], r.Attributes[addresses], r.Attributes[addressesFour] = placed(mappingsOf(b), itself)
	r.Attributes[unplaced+addresses], r.Attributes[unplaced+addressesFour] = withoutSubnets(r.Attributes[addresses]), withoutSubnets(r.Attributes[addressesFour])
	v.shownByName(b, r.Attributes)
	if name := aws.ToString(b.DNSName); name != "" {
		r.Ingress = []cloud.Ingress{{Hostname: name}}
	}
	out, err := p.elb.DescribeLoadBalancerAttributes(ctx, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: b.LoadBalancerArn})
	if err != nil {
		return r, err
	}
	all := map[string]string{}
	for _, a := range out.Attributes {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	shown(r.Attributes, balancerDefaults(), all)
	return r, nil
}

func (p *Provider) observedGroup(ctx context.Context, g types.TargetGroup) (cloud.Resource, error) {
	codes := ""
	if g.Matcher != nil {
		codes = aws.ToString(g.Matcher.HttpCode)
	}
	number := func(n *int32) string { return strconv.Itoa(int(aws.ToInt32(n))) }
	r := cloud.Resource{Kind: KindTargetGroup, ID: groupARN(g), State: cloud.StateReady, HasTargets: true, Attributes: map[string]string{
		protocol: string(g.Protocol), targetKind: string(g.TargetType), addressType: string(g.IpAddressType),
		checkProtocol: string(g.HealthCheckProtocol), checkPort: aws.ToString(g.HealthCheckPort), checkPath: aws.ToString(g.HealthCheckPath), checkCodes: codes,
		checkInterval: number(g.HealthCheckIntervalSeconds), checkTimeout: number(g.HealthCheckTimeoutSeconds),
		checkHealthy: number(g.HealthyThresholdCount), checkUnhealthy: number(g.UnhealthyThresholdCount)}}
	out, err := p.elb.DescribeTargetGroupAttributes(ctx, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: g.TargetGroupArn})
	if err != nil {
		return r, err
	}
	all := map[string]string{}
	for _, a := range out.Attributes {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	shown(r.Attributes, groupDefaults(r.Attributes[protocol], r.Attributes[targetKind]), all)
	healths, err := p.healths(ctx, r.ID)
	for _, h := range healths {
		r.Targets = append(r.Targets, cloud.Target{ID: h.Target})
	}
	return r, err
}

// healths are the targets of a group, sorted by id. What is only drained is registered no longer.
func (p *Provider) healths(ctx context.Context, arn string) ([]cloud.TargetHealth, error) {
	out, err := p.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(arn)})
	if err != nil {
		return nil, err
	}
	var all []cloud.TargetHealth
	for _, d := range out.TargetHealthDescriptions {
		if d.Target == nil || d.TargetHealth == nil || d.TargetHealth.State == types.TargetHealthStateEnumDraining {
			continue
		}
		h := cloud.TargetHealth{Resource: arn, Health: cloud.HealthUnknown,
			Target: net.JoinHostPort(aws.ToString(d.Target.Id), strconv.Itoa(int(aws.ToInt32(d.Target.Port))))}
		if d.Target.QuicServerId != nil {
			h.Target += serverSeparator + *d.Target.QuicServerId
		}
		switch d.TargetHealth.State {
		case types.TargetHealthStateEnumHealthy:
			h.Health = cloud.HealthHealthy
		case types.TargetHealthStateEnumUnhealthy, types.TargetHealthStateEnumUnhealthyDraining:
			h.Health = cloud.HealthUnhealthy
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b cloud.TargetHealth) int { return cmp.Compare(a.Target, b.Target) })
	return all, nil
}

func (p *Provider) observedListener(ctx context.Context, l types.Listener, v view) (cloud.Resource, error) {
	r := cloud.Resource{Kind: KindListener, ID: listenerARN(l), State: cloud.StateReady,
		Attributes: map[string]string{protocol: string(l.Protocol), certificate: "", certificates: "", tlsPolicy: aws.ToString(l.SslPolicy), alpn: strings.Join(l.AlpnPolicy, ",")}}
	if len(l.Certificates) > 0 {
		r.Attributes[certificate] = aws.ToString(l.Certificates[0].CertificateArn)
	}
	if l.Protocol == types.ProtocolEnumTls && r.Attributes[alpn] == "" {
		r.Attributes[alpn] = "None"
	}
	if l.Protocol == types.ProtocolEnumTls && v.tags[r.ID][tagAlso] == alsoCertificates {
		var err error
		if r.Attributes[certificates], err = p.otherCertificates(ctx, r.ID, r.Attributes[certificate]); err != nil {
			return r, err
		}
	}
	parent := refTo(KindLoadBalancer, aws.ToString(l.LoadBalancerArn), v)
	parent.Parent = true
	r.DependsOn = []cloud.Ref{parent}
	if arn := forwardsTo(l); arn != "" {
		r.DependsOn = append(r.DependsOn, refTo(KindTargetGroup, arn, v))
	}
	switch {
	case l.Protocol == types.ProtocolEnumTcpUdp:
		prefixed(r.Attributes, listenerDefaults())
		if v.tags[r.ID][tagAlso] != alsoAttributes {
			return r, nil
		}
	case l.Protocol != types.ProtocolEnumTcp: // no other has attributes
		return r, nil
	}
	out, err := p.elb.DescribeListenerAttributes(ctx, &elb.DescribeListenerAttributesInput{ListenerArn: l.ListenerArn})
	if err != nil {
		return r, err
	}
	for _, a := range out.Attributes {
		r.Attributes[attributePrefix+aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	return r, nil
}

// forwardsTo is the target group that a listener sends to.
func forwardsTo(l types.Listener) string {
	if len(l.DefaultActions) == 0 {
		return ""
	}
	a := l.DefaultActions[0]
	if a.TargetGroupArn == nil && a.ForwardConfig != nil && len(a.ForwardConfig.TargetGroups) == 1 {
		return aws.ToString(a.ForwardConfig.TargetGroups[0].TargetGroupArn)
	}
	return aws.ToString(a.TargetGroupArn)
}

// ruleList is the canonical form of rules.
func ruleList(permissions []ec2types.IpPermission) string {
	var all []string
	for _, perm := range permissions {
		head := aws.ToString(perm.IpProtocol) + " " + strconv.Itoa(int(aws.ToInt32(perm.FromPort))) + "-" + strconv.Itoa(int(aws.ToInt32(perm.ToPort))) + " "
		for _, r := range perm.IpRanges {
			all = append(all, head+aws.ToString(r.CidrIp))
		}
		for _, r := range perm.Ipv6Ranges {
			all = append(all, head+aws.ToString(r.CidrIpv6))
		}
		for _, l := range perm.PrefixListIds {
			all = append(all, head+aws.ToString(l.PrefixListId))
		}
		for _, g := range perm.UserIdGroupPairs {
			all = append(all, head+aws.ToString(g.GroupId))
		}
	}
	return cloud.List(all)
}
