package aws

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Tags on everything of ours. tagService is for people; tagKeys names the additional tags, so that those that others put on
// it are left alone.
const (
	tagPrefix   = "fairlead.dev/"
	tagOwner    = tagPrefix + "owner"
	tagCluster  = tagPrefix + "cluster"
	tagKey      = tagPrefix + "key"
	tagService  = tagPrefix + "service"
	tagKeys     = tagPrefix + "additional"
	tagAlso     = tagPrefix + "also"
	tagCapacity = tagPrefix + "capacity" // of a balancer whose reservation is ours
	tagNodes    = tagPrefix + "nodes"    // of target groups, whose balancer's security groups are let in to nodes
	tagAdopted  = tagPrefix + "adopted"  // the id of the balancer with which it was
	tagLent     = tagPrefix + "lent"
	tagKept     = tagPrefix + "kept" // of a balancer: security groups that it was adopted with and keeps beside the Service's own
)

// keySeparator is between names in tagKeys; no name has it.
const keySeparator = "+"

// marksOf are the tags that make something the owner's.
func marksOf(owner cloud.Owner, r cloud.Resource) map[string]string {
	all := map[string]string{tagOwner: string(owner.ID()), tagCluster: owner.ClusterID, tagKey: r.Key, tagService: owner.Namespace + "/" + owner.Name}
	if r.Adopted != "" {
		all[tagAdopted] = r.Adopted
	}
	if r.Lent {
		all[tagLent] = "true"
	}
	return all
}

// additional are the tags that a Service, or its class, asks for beside, and the one that says what else is looked at.
func additional(r cloud.Resource) map[string]string {
	all := map[string]string{}
	for _, pair := range cloud.SplitList(r.Attributes[tags]) {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	if len(all) > 0 {
		all[tagKeys] = strings.Join(slices.Sorted(maps.Keys(all)), keySeparator)
	}
	if more := r.Attributes[also]; more != "" {
		all[tagAlso] = more
	}
	return all
}

// tagList is the canonical form of additional tags.
func tagList(all map[string]string) string {
	list := make([]string, 0, len(all))
	for name, value := range all {
		list = append(list, name+"="+value)
	}
	return cloud.List(list)
}

// marked writes into a resource what its tags say; keyLost: the one for its key is none that it has.
func marked(r *cloud.Resource, have map[string]string, keyLost bool) {
	r.Key, r.Attributes[marks] = have[tagKey], ""
	if id := have[tagOwner]; id != "" {
		r.Owners = []cloud.OwnerID{cloud.OwnerID(id)}
		r.Adopted, r.Lent = have[tagAdopted], have[tagLent] != ""
		if keyLost || have[tagCluster] == "" || !strings.HasPrefix(id, have[tagCluster]+"/") || have[tagService] == "" {
			r.Attributes[marks] = marksLost
		}
	}
	extra := map[string]string{}
	if keys := have[tagKeys]; keys != "" {
		for name := range strings.SplitSeq(keys, keySeparator) {
			if value, ok := have[name]; ok {
				extra[name] = value
			}
		}
	}
	r.Attributes[tags], r.Attributes[also] = tagList(extra), have[tagAlso]
}

// retag returns the tags to set, and those to remove, where a resource changes from one to the other.
func retag(owner cloud.Owner, was, is cloud.Resource) (set map[string]string, remove []string) {
	mine := owner.ID()
	now, then := additional(is), additional(was)
	if was.Attributes[marks] == marksLost {
		maps.Copy(now, marksOf(owner, is))
		delete(now, tagOwner) // it was there: who took it off since then gave the thing away
	}
	switch had, has := slices.Contains(was.Owners, mine), slices.Contains(is.Owners, mine); {
	case has && !had:
		maps.Copy(now, marksOf(owner, is))
		if others := cloud.SplitList(was.Attributes[kept]); len(others) > 0 {
			now[tagKept] = strings.Join(others, keySeparator)
		}
	case had && !has:
		now = map[string]string{}
		maps.Copy(then, marksOf(owner, was))
		if was.Kind == KindLoadBalancer && was.Adopted != "" {
			then[tagKept] = was.Attributes[kept]
		}
	case was.Adopted != is.Adopted:
		if is.Adopted != "" {
			now[tagAdopted] = is.Adopted
		}
		then[tagAdopted] = was.Adopted
	}
	for name := range then {
		if _, stays := now[name]; !stays && (name != tagAdopted || was.Adopted != "") {
			remove = append(remove, name)
		}
	}
	slices.Sort(remove)
	maps.DeleteFunc(now, func(name, value string) bool {
		was, ok := then[name]
		return ok && was == value
	})
	return now, remove
}

// checkTags refuses additional tags that cannot be.
func (s *settings) checkTags() {
	for _, name := range slices.Sorted(maps.Keys(s.tags)) {
		if strings.HasPrefix(name, tagPrefix) || strings.HasPrefix(name, "aws:") || strings.Contains(name, keySeparator) ||
			len(name) > 128 || len(s.tags[name]) > 256 || strings.Contains(s.tags[name], ",") {
			s.wrong(AnnotationPrefix+"additional-resource-tags", "%q cannot be a tag", name)
		}
	}
	// They are named in a tag of their own.
	if all := strings.Join(slices.Collect(maps.Keys(s.tags)), keySeparator); len(all) > 256 {
		s.wrong(AnnotationPrefix+"additional-resource-tags", "the names of tags are longer than 256 characters together (%d)", len(all))
	}
}

func tagMap(list []types.Tag) map[string]string {
	all := make(map[string]string, len(list))
	for _, t := range list {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return all
}

func ec2TagMap(list []ec2types.Tag) map[string]string {
	all := make(map[string]string, len(list))
	for _, t := range list {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return all
}

func elbTags(all ...map[string]string) []types.Tag {
	merged := over(map[string]string{}, all...)
	list := make([]types.Tag, 0, len(merged))
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		list = append(list, types.Tag{Key: aws.String(name), Value: aws.String(merged[name])})
	}
	return list
}

func ec2Tags(all ...map[string]string) []ec2types.Tag {
	list := []ec2types.Tag{}
	for _, t := range elbTags(all...) {
		list = append(list, ec2types.Tag{Key: t.Key, Value: t.Value})
	}
	return list
}
