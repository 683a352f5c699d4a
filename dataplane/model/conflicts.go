package model

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Conflict is an address and port that several Services ask for, or did.
type Conflict struct {
	Key FrontendKey
	// Services are those who ask, in order of precedence: the first one is served. One alone: the conflict is over.
	// None: they have all gone.
	Services []types.NamespacedName
}

// noteConflict compares who asks for a key with who did.
func (t *Tracker) noteConflict(key FrontendKey, c *Changes) {
	var asking []types.NamespacedName
	for _, f := range t.claims[key] {
		service := types.NamespacedName{Namespace: f.Port.Namespace, Name: f.Port.Name}
		if !slices.Contains(asking, service) {
			asking = append(asking, service)
		}
	}
	before, was := t.conflicts[key]
	switch {
	case slices.Equal(asking, before) || !was && len(asking) < 2:
		return
	case len(asking) < 2:
		delete(t.conflicts, key)
	default:
		t.conflicts[key] = asking
	}
	c.Conflicts = append(c.Conflicts, Conflict{Key: key, Services: asking})
}
