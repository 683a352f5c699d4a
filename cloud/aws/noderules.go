package aws

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/fairlead/fairlead/cloud"
)

// Rules that let a balancer in to nodes are in the nodes' security groups, which are others'. They are a resource by themselves,
// which the tag tagNodes of the Service's target groups leads to: its value are the groups that are let in, and so is the resource's
// id. Each rule of ours has the owner in its description. Which groups are the nodes' is told by the instances that are registered.

const (
	// clusterTag begins the tag of the one of a node's security groups that is for rules like these.
	clusterTag = "kubernetes.io/cluster/"
	// valuesPerFilter is the most values of a filter of EC2.
	valuesPerFilter = 200
)

func ruleMark(owner cloud.Owner) string { return tagOwner + "=" + string(owner.ID()) }

// nodeRulesFor is what a balancer needs of nodes: the ports that it sends to, and those that it checks.
func nodeRulesFor(balancer cloud.Resource, ports []listened, groups []cloud.Resource) cloud.Resource {
	from := cmp.Or(balancer.Attributes[securityGroups], balancer.Attributes[byName+securityGroups])
	r := cloud.Resource{Kind: KindNodeRules, Key: "main", Attributes: map[string]string{sources: from}, DependsOn: slices.Clone(balancer.DependsOn)}
	var all []string
	for i, l := range ports {
		port := strconv.Itoa(int(l.NodePort))
		if strings.HasSuffix(l.group, "UDP") {
			all = append(all, "udp "+port+"-"+port)
		}
		if l.group != "UDP" {
			all = append(all, "tcp "+port+"-"+port)
		}
		if check := groups[i].Attributes[checkPort]; check != trafficPort {
			port = check
		}
		all = append(all, "tcp "+port+"-"+port)
		r.DependsOn = append(r.DependsOn, cloud.Ref{Kind: KindTargetGroup, Key: groups[i].Key})
	}
	if slices.ContainsFunc(groups, func(g cloud.Resource) bool { return len(g.Targets) > 0 }) {
		r.Attributes[rules] = cloud.List(all)
	}
	return r
}

// observedNodeRules finds the rules of the owner of target groups, if these have the tag.
func (p *Provider) observedNodeRules(ctx context.Context, v view, groups []cloud.Resource) ([]cloud.Resource, error) {
	byOwner := map[string]*cloud.Resource{}
	targets := map[string][]cloud.Target{}
	for _, g := range groups {
		owner, from := v.tags[g.ID][tagOwner], v.tags[g.ID][tagNodes]
		if from == "" || owner == "" {
			continue
		}
		r := byOwner[owner]
		if r == nil {
			r = &cloud.Resource{Kind: KindNodeRules, Key: "main", ID: from, State: cloud.StateReady, Owners: []cloud.OwnerID{cloud.OwnerID(owner)}, Attributes: map[string]string{sources: v.sourcesOf(owner, from)}}
			byOwner[owner] = r
			if v.tags[from][tagOwner] == owner {
				r.Attributes[sources] = managed
				r.DependsOn = []cloud.Ref{refTo(KindSecurityGroup, from, v)}
			}
		}
		r.DependsOn = append(r.DependsOn, refTo(KindTargetGroup, g.ID, v))
		targets[owner] = append(targets[owner], g.Targets...)
	}
	var all []cloud.Resource
	for _, owner := range slices.Sorted(maps.Keys(byOwner)) {
		r := byOwner[owner]
		in, out, err := p.nodeGroups(ctx, strings.Split(r.ID, keySeparator), targets[owner])
		switch {
		case cloud.IsClass(err, cloud.UserError):
			r.Attributes[rules] = "unknown" // who changes them is told why
		case err != nil:
			return nil, err
		default:
			r.Attributes[rules] = standing(in, out, tagOwner+"="+owner, r.ID)
		}
		all = append(all, *r)
	}
	return all, nil
}

// sourcesOf is what the groups of an owner's balancer are given by, of which one is let in. It is that id where none of them is.
func (v view) sourcesOf(owner, id string) string {
	for _, b := range v.balancers {
		if v.tags[balancerARN(b)][tagOwner] == owner && slices.Contains(b.SecurityGroups, id) {
			return v.groupLabels(b)
		}
	}
	return id
}

// standing says what rules there are: those that all groups of nodes have, or else which group has which.
func standing(in, out []ec2types.SecurityGroup, mark, source string) string {
	var first string
	var each []string
	same := true
	for i, g := range in {
		var own []string
		for _, r := range markedRules(g, mark) {
			own = append(own, strings.TrimSuffix(r, " "+source))
			each = append(each, aws.ToString(g.GroupId)+" "+r)
		}
		if i == 0 {
			first = cloud.List(own)
		}
		same = same && cloud.List(own) == first
	}
	for _, g := range out {
		for _, r := range markedRules(g, mark) {
			each, same = append(each, aws.ToString(g.GroupId)+" "+r), false
		}
	}
	if same {
		return first
	}
	return cloud.List(each)
}

// markedRules are those of a group's rules that have a description, as ruleList has them.
func markedRules(g ec2types.SecurityGroup, mark string) []string {
	var all []ec2types.IpPermission
	for _, perm := range g.IpPermissions {
		one := ec2types.IpPermission{IpProtocol: perm.IpProtocol, FromPort: perm.FromPort, ToPort: perm.ToPort}
		for _, pair := range perm.UserIdGroupPairs {
			if aws.ToString(pair.Description) == mark {
				one.UserIdGroupPairs = append(one.UserIdGroupPairs, pair)
			}
		}
		all = append(all, one)
	}
	return cloud.SplitList(ruleList(all))
}

// nodeGroups returns the security groups of the instances among targets, one of each, and those others that let one of the sources in.
func (p *Provider) nodeGroups(ctx context.Context, from []string, targets []cloud.Target) (in, out []ec2types.SecurityGroup, err error) {
	byInstance, err := p.groupsOfInstances(ctx, targets)
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for _, list := range byInstance {
		ids = append(ids, list...)
	}
	slices.Sort(ids)
	found := map[string]ec2types.SecurityGroup{}
	for some := range slices.Chunk(slices.Compact(ids), valuesPerFilter) {
		groups, err := p.securityGroups(ctx, filter("group-id", some...))
		if err != nil {
			return nil, nil, err
		}
		for _, g := range groups {
			found[aws.ToString(g.GroupId)] = g
		}
	}
	chosen := map[string]bool{}
	for _, instance := range slices.Sorted(maps.Keys(byInstance)) {
		list := byInstance[instance]
		if len(list) > 1 {
			list = slices.DeleteFunc(slices.Clone(list), func(id string) bool { return !p.ofCluster(ec2TagMap(found[id].Tags)) })
		}
		if len(list) != 1 {
			return nil, nil, cloud.Errorf(cloud.UserError, "of the security groups of instance %s (%s) %d have the tag %s: tag one, or remove the annotation %smanage-backend-security-group-rules",
				instance, strings.Join(byInstance[instance], ", "), len(list), clusterTag+cmp.Or(p.clusterName, "NAME"), AnnotationPrefix)
		}
		chosen[list[0]] = true
	}
	for _, id := range slices.Sorted(maps.Keys(chosen)) {
		in = append(in, found[id])
	}
	others, err := p.securityGroups(ctx, filter("ip-permission.group-id", from...))
	if err != nil {
		return nil, nil, err
	}
	for _, g := range others {
		if !chosen[aws.ToString(g.GroupId)] {
			out = append(out, g)
		}
	}
	return in, out, nil
}

// ofCluster reports whether tags have the cluster's, or, where its name is not configured, that of any.
func (p *Provider) ofCluster(have map[string]string) bool {
	for key := range have {
		if name, ok := strings.CutPrefix(key, clusterTag); ok && (p.clusterName == "" || name == p.clusterName) {
			return true
		}
	}
	return false
}

// groupsOfInstances are those of instances that there are, sorted.
func (p *Provider) groupsOfInstances(ctx context.Context, targets []cloud.Target) (map[string][]string, error) {
	var ids []string
	for _, t := range targets {
		id, _, _ := strings.Cut(t.ID, ":")
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := map[string][]string{}
	for some := range slices.Chunk(slices.Compact(ids), valuesPerFilter) {
		var instances []ec2types.Instance
		in := &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{filter("instance-id", some...)}}
		err := ec2Pages(&in.NextToken, func() (next *string, err error) {
			page, err := p.ec2.describeInstances(ctx, in)
			if err != nil {
				return nil, err
			}
			for _, reservation := range page.Reservations {
				instances = append(instances, reservation.Instances...)
			}
			return page.NextToken, nil
		})
		if err != nil {
			return nil, err
		}
		for _, i := range instances {
			var list []string
			for _, g := range i.SecurityGroups {
				list = append(list, aws.ToString(g.GroupId))
			}
			if slices.Sort(list); len(list) > 0 { // one that is terminated has none
				all[aws.ToString(i.InstanceId)] = list
			}
		}
	}
	return all, nil
}

// setNodeRules makes rules what they are to be. The tag leads to all groups that may be let in meanwhile. Where what is given by name is not
// found the balancer stays in the group that is let in already, and so do the rules; the error is the last thing.
func (p *Provider) setNodeRules(ctx context.Context, owner cloud.Owner, was string, is cloud.Resource) (cloud.Resource, error) {
	is.State = cloud.StateReady
	source := is.Attributes[sources]
	var arns []string
	var targets []cloud.Target
	for _, dep := range is.DependsOn {
		switch dep.Kind {
		case KindSecurityGroup:
			source = dep.ID
		case KindTargetGroup:
			arns = append(arns, dep.ID)
			healths, err := p.healths(ctx, dep.ID)
			if err != nil {
				return is, err
			}
			for _, h := range healths {
				targets = append(targets, cloud.Target{ID: h.Target})
			}
		}
	}
	var unknown error
	if is.Attributes[sources] != managed {
		before, _, _ := strings.Cut(was, keySeparator)
		ids, err := p.idsOf(ctx, nameableGroups, cloud.SplitList(source))
		switch {
		case cloud.IsClass(err, cloud.UserError) && before != "":
			source, unknown = before, err
		case err != nil:
			return is, err
		case slices.Contains(ids, before):
			source = before
		default:
			source = slices.Min(ids) // all of them are the balancer's
		}
	}
	is.ID = source
	from := []string{source}
	for id := range strings.SplitSeq(was, keySeparator) {
		if id != "" && !slices.Contains(from, id) {
			from = append(from, id)
		}
	}
	if err := p.tagNodeRules(ctx, arns, strings.Join(from, keySeparator)); err != nil {
		return is, err
	}
	in, out, err := p.nodeGroups(ctx, from, targets)
	if err != nil {
		return is, err
	}
	var want []string
	for _, r := range cloud.SplitList(is.Attributes[rules]) {
		want = append(want, r+" "+source)
	}
	if len(want) > 0 && len(in) == 0 {
		return is, cloud.Errorf(cloud.Pending, "no instance is to be seen yet")
	}
	for _, g := range in {
		if err := p.changeNodeRules(ctx, owner, g, want); err != nil {
			return is, err
		}
	}
	for _, g := range out {
		if err := p.changeNodeRules(ctx, owner, g, nil); err != nil {
			return is, err
		}
	}
	if len(from) > 1 {
		return is, cmp.Or(p.tagNodeRules(ctx, arns, source), unknown)
	}
	return is, unknown
}

// updateNodeRules changes rules, or, where the balancer is let go, leaves them with it.
func (p *Provider) updateNodeRules(ctx context.Context, owner cloud.Owner, was, is cloud.Resource) error {
	if !slices.Contains(is.Owners, owner.ID()) {
		return p.untagNodeRules(ctx, is)
	}
	_, err := p.setNodeRules(ctx, owner, was.ID, is)
	return err
}

func (p *Provider) tagNodeRules(ctx context.Context, arns []string, value string) error {
	for some := range slices.Chunk(arns, tagsPerCall) {
		if _, err := p.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: some, Tags: elbTags(map[string]string{tagNodes: value})}); err != nil {
			return err
		}
	}
	return nil
}

// changeNodeRules changes the owner's rules in one group. A rule of somebody else's that says the same does as well.
func (p *Provider) changeNodeRules(ctx context.Context, owner cloud.Owner, g ec2types.SecurityGroup, want []string) error {
	mark := ruleMark(owner)
	have, there := markedRules(g, mark), cloud.SplitList(ruleList(g.IpPermissions))
	add := slices.DeleteFunc(slices.Clone(want), func(r string) bool { return slices.Contains(there, r) })
	remove := slices.DeleteFunc(slices.Clone(have), func(r string) bool { return slices.Contains(want, r) })
	if len(add) > 0 {
		permissions := permissionsOf(add)
		for i := range permissions {
			permissions[i].UserIdGroupPairs[0].Description = aws.String(mark)
		}
		_, err := p.ec2.authorizeIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: permissions})
		if err != nil {
			return unseenRules(g, err)
		}
	}
	if len(remove) == 0 {
		return nil
	}
	_, err := p.ec2.revokeIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: permissionsOf(remove)})
	return unseenRules(g, err)
}

// unseenRules is Pending where rules were not what they were seen to be.
func unseenRules(g ec2types.SecurityGroup, err error) error {
	if elsewhere(err) {
		return cloud.Errorf(cloud.Pending, "the rules of %s are not to be seen yet", aws.ToString(g.GroupId))
	}
	return err
}

// deleteNodeRules takes the owner's rules out of all groups, and then the tag away.
func (p *Provider) deleteNodeRules(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	if err := p.revokeNodeRules(ctx, owner, strings.Split(r.ID, keySeparator)); err != nil {
		return err
	}
	return p.untagNodeRules(ctx, r)
}

// revokeNodeRules takes the owner's rules that let groups in out of all others.
func (p *Provider) revokeNodeRules(ctx context.Context, owner cloud.Owner, from []string) error {
	groups, err := p.securityGroups(ctx, filter("ip-permission.group-id", from...))
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := p.changeNodeRules(ctx, owner, g, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) untagNodeRules(ctx context.Context, r cloud.Resource) error {
	var arns []string
	for _, dep := range r.DependsOn {
		if dep.Kind == KindTargetGroup {
			arns = append(arns, dep.ID)
		}
	}
	for some := range slices.Chunk(arns, tagsPerCall) {
		if _, err := p.elb.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: some, TagKeys: []string{tagNodes}}); err != nil {
			return err
		}
	}
	return nil
}

// checkNodeRules refuses rules that cannot be.
func checkNodeRules(spec cloud.Spec, s *settings) error {
	const key = AnnotationPrefix + "manage-backend-security-group-rules"
	switch {
	case spec.PodTargets:
		return fmt.Errorf("%s: the Service sends to Pods, whose security groups are not managed: remove it", s.from(key))
	case s.noGroup:
		return fmt.Errorf("%s: the balancer has no security group that could be let in: remove it, or disable-nlb-sg", s.from(key))
	}
	return nil
}
