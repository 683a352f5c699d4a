package endpointslice

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
)

// setSelector is a selector that looks long lists of values up, where the usual one goes through them for every Pod: who
// writes EndpointSelectors would otherwise say how much each event of a Pod costs.
type setSelector struct {
	labels.Selector
	// short are the requirements with few values, and long the others.
	short labels.Requirements
	long  []longRequirement
}

// longRequirement asks for one of many values of a label or, where it excludes, for none of them.
type longRequirement struct {
	key      string
	values   sets.Set[string]
	excludes bool
}

// longList is from how many values on looking up is faster than going through them.
const longList = 8

// inSets returns a selector that matches the same, as fast with many values as with few.
func inSets(selector labels.Selector) labels.Selector {
	s := &setSelector{Selector: selector}
	requirements, _ := selector.Requirements() // Selectable: it was read from a LabelSelector.
	for i := range requirements {
		r := &requirements[i]
		if values := r.ValuesUnsorted(); len(values) > longList {
			s.long = append(s.long, longRequirement{r.Key(), sets.New(values...), r.Operator() == selection.NotIn})
		} else {
			s.short = append(s.short, *r)
		}
	}
	if len(s.long) == 0 {
		return selector
	}
	return s
}

// Matches says whether a Pod's labels are what is asked for.
func (s *setSelector) Matches(of labels.Labels) bool {
	for _, r := range s.long {
		if value, has := of.Lookup(r.key); (has && r.values.Has(value)) == r.excludes {
			return false
		}
	}
	for i := range s.short {
		if !s.short[i].Matches(of) {
			return false
		}
	}
	return true
}
