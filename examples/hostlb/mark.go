package hostlb

import (
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// maxMark is the most bytes of a comment: the kernel keeps 256, two of which say what and how long it is, and one ends
// it.
const maxMark = 253

// mark is the comment of an element: whose it is, its key, and what cannot be seen from the element itself. It is written
// in the transaction that makes the element, so that nothing ever stands there without its owner.
type mark struct {
	owner      cloud.OwnerID
	key        string
	attributes map[string]string // no spaces in the values
}

// String is the comment, as in "cluster-a/7f3e… ipv4 pool=default requested=".
func (m mark) String() string {
	words := []string{string(m.owner), m.key}
	for _, name := range slices.Sorted(maps.Keys(m.attributes)) {
		words = append(words, name+"="+m.attributes[name])
	}
	return strings.Join(words, " ")
}

// check refuses what would be cut.
func (m mark) check() error {
	if n := len(m.String()); n > maxMark {
		return cloud.Errorf(cloud.UserError, "the mark of %s has %d bytes, %d are the most", m.key, n, maxMark)
	}
	return nil
}

// parseMark reads a comment; the zero mark, which is nobody's, where it is not one of ours.
func parseMark(comment string) mark {
	words := strings.Split(comment, " ")
	if len(words) < 2 || strings.Count(words[0], "/") != 1 {
		return mark{}
	}
	m := mark{owner: cloud.OwnerID(words[0]), key: words[1], attributes: map[string]string{}}
	for _, word := range words[2:] {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return mark{}
		}
		m.attributes[name] = value
	}
	return m
}

// is reports whether the mark is the owner's for a resource. The immutable attributes count, too: two of one kind and key
// can be there while one replaces the other.
func (m mark) is(owner cloud.Owner, r cloud.Resource) bool {
	for _, name := range r.Immutable {
		if value, kept := m.attributes[name]; kept && value != r.Attributes[name] {
			return false
		}
	}
	return m.owner == owner.ID() && m.key == r.Key
}

func (m mark) ofCluster(clusterID string) bool {
	return strings.HasPrefix(string(m.owner), clusterID+"/")
}
