package gcp

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// mark says whose something is: words in the description, among which other words, which are somebody else's, stay as they are.
// Of what has labels, the description cannot be changed once it is made, and labels cannot be given before that
// (compute/v1, ForwardingRule.Labels): labels, where there are any, count instead of the description.
type mark struct {
	owner cloud.OwnerID
	// cluster stands in the place of an owner on what all Services of a cluster use.
	cluster string
	key     string
	service string // namespace/name, for people
	adopted string
	lent    bool
	// addresses is what a rule was told of its address where that is not one of ours: the names of reserved ones that the
	// Service asked for, or toldNobodys. Of a rule that has another's name, and was adopted, nothing is known.
	addresses string
}

// toldNobodys is what a rule is told that is made at an address that nobody reserved.
const toldNobodys = "-"

// Words begin with v1alpha1.AnnotationPrefix, labels with labelPrefix: a label has no slash and no dot.
const (
	labelPrefix  = "fairlead-"
	labelCluster = labelPrefix + "cluster"
	labelUID     = labelPrefix + "service-uid"
	// labelReleased says that what the description says of an owner is over.
	labelReleased = labelPrefix + "released"
	wordOwner     = v1alpha1.AnnotationPrefix + "owner"
	wordCluster   = v1alpha1.AnnotationPrefix + "cluster"
)

var isLabelValue = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`).MatchString

func markOf(owner cloud.Owner, r *cloud.Resource) mark {
	if r.Shared {
		return mark{cluster: owner.ClusterID, key: r.Key}
	}
	return mark{owner: owner.ID(), key: r.Key, service: owner.Namespace + "/" + owner.Name, adopted: r.Adopted, lent: r.Lent}
}

func (m *mark) words() map[string]string {
	words := map[string]string{"owner": string(m.owner), "cluster": m.cluster, "key": m.key, "service": m.service, "adopted": m.adopted, "addresses": m.addresses}
	if m.lent {
		words["lent"] = "true"
	}
	maps.DeleteFunc(words, func(_, value string) bool { return value == "" })
	return words
}

// describe puts the mark into a description, instead of whatever mark was there. Nil takes it out.
func describe(description string, m *mark) string {
	_, rest := described(description)
	if m != nil {
		words := m.words()
		for _, name := range slices.Sorted(maps.Keys(words)) {
			rest = append(rest, v1alpha1.AnnotationPrefix+name+"="+words[name])
		}
	}
	return strings.Join(rest, " ")
}

// described reads the mark from a description and returns the words that are not part of it. The owner is empty where there is
// no mark.
func described(description string) (m mark, rest []string) {
	for word := range strings.FieldsSeq(description) {
		name, value, _ := strings.Cut(strings.TrimPrefix(word, v1alpha1.AnnotationPrefix), "=")
		switch {
		case !strings.HasPrefix(word, v1alpha1.AnnotationPrefix) || strings.HasPrefix(word, v1alpha1.TagAdoptableBy+"="):
			rest = append(rest, word)
		case name == "owner":
			m.owner = cloud.OwnerID(value)
		case name == "cluster":
			m.cluster = value
		case name == "key":
			m.key = value
		case name == "service":
			m.service = value
		case name == "adopted":
			m.adopted = value
		case name == "lent":
			m.lent = value == "true"
		case name == "addresses":
			m.addresses = value
		default:
			rest = append(rest, word)
		}
	}
	return m, rest
}

// consenting is what somebody does who lets a Service adopt a balancer: to put the word that consent finds there.
const consenting = "add to its description the word " + v1alpha1.TagAdoptableBy

// consent is the word in a description by which the owner of a balancer lets a Service adopt it.
func consent(description string) string {
	for word := range strings.FieldsSeq(description) {
		if value, ok := strings.CutPrefix(word, v1alpha1.TagAdoptableBy+"="); ok {
			return value
		}
	}
	return ""
}

// label puts the mark into labels, instead of whatever mark was there or is in the description. Nil takes it out. The argument
// is not changed.
func label(labels map[string]string, description string, m *mark) map[string]string {
	result := maps.Clone(labels)
	if result == nil {
		result = map[string]string{}
	}
	maps.DeleteFunc(result, func(name, _ string) bool { return strings.HasPrefix(name, labelPrefix) })
	if m == nil {
		if made, _ := described(description); made.owner != "" {
			result[labelReleased] = "true"
		}
		return result
	}
	clusterID, uid, _ := strings.Cut(string(m.owner), "/")
	namespace, name, _ := strings.Cut(m.service, "/")
	result[labelCluster], result[labelUID] = clusterID, uid
	result[labelPrefix+"key"], result[labelPrefix+"namespace"], result[labelPrefix+"service"] = m.key, namespace, name
	if m.adopted != "" {
		result[labelPrefix+"adopted"] = m.adopted
	}
	if m.lent {
		result[labelPrefix+"lent"] = "true"
	}
	return result
}

// labelled reads the mark from labels, or, where they tell of none, from the description with which the thing was made. What rules
// were told of their address always stands there.
func labelled(labels map[string]string, description string) mark {
	told, _ := described(description)
	switch {
	case labels[labelReleased] != "":
		return mark{addresses: told.addresses}
	case labels[labelCluster] == "" || labels[labelUID] == "":
		return told
	}
	return mark{owner: cloud.OwnerID(labels[labelCluster] + "/" + labels[labelUID]), key: labels[labelPrefix+"key"], adopted: labels[labelPrefix+"adopted"], lent: labels[labelPrefix+"lent"] == "true",
		service: labels[labelPrefix+"namespace"] + "/" + labels[labelPrefix+"service"], addresses: told.addresses}
}

// NameOf is the name of what the provider makes for a resource. It holds its owner and its key, so that of what is still being made, and
// cannot be seen yet, it is known whose and what it is; and what cannot be changed, so that a replacement has another one.
func NameOf(owner cloud.Owner, r *cloud.Resource) string {
	parts := []string{r.Kind}
	for _, attribute := range slices.Sorted(slices.Values(r.Immutable)) {
		parts = append(parts, attribute, r.Attributes[attribute])
	}
	prefix := namePrefix(owner.ID())
	if r.Shared {
		prefix = sharedPrefix(owner.ClusterID)
	}
	return prefix + r.Key + "-" + digest(8, parts...)
}

// namePrefix begins all names that are made for an owner.
func namePrefix(id cloud.OwnerID) string {
	clusterID, uid, _ := strings.Cut(string(id), "/")
	return clusterPrefix(clusterID) + digest(10, uid) + "-"
}

// sharedPrefix begins the names of what all Services of a cluster use.
func sharedPrefix(clusterID string) string { return clusterPrefix(clusterID) + "-" }

// clusterPrefix begins all names that are made for a cluster.
func clusterPrefix(clusterID string) string { return "fl-" + digest(6, clusterID) }

// keyOf returns the key in a name; empty where it was not made for the owner.
func keyOf(id cloud.OwnerID, name string) string { return keyAfter(namePrefix(id), name) }

// sharedKeyOf is keyOf for what all Services of a cluster use.
func sharedKeyOf(clusterID, name string) string { return keyAfter(sharedPrefix(clusterID), name) }

func keyAfter(prefix, name string) string {
	rest, ok := strings.CutPrefix(name, prefix)
	if i := strings.LastIndex(rest, "-"); ok && i > 0 {
		return rest[:i]
	}
	return ""
}

func digest(length int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:length]
}
