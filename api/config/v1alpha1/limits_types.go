package v1alpha1

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// CloudLimits replaces what a provider states of its account's limits.
type CloudLimits struct {
	// Reads are calls that look, Writes calls that change something: clouds count them apart. Nil: what the provider
	// states.
	Reads  *CallLimit `json:"reads,omitempty"`
	Writes *CallLimit `json:"writes,omitempty"`
}

// CallLimit is how many calls of one kind the manager sends.
type CallLimit struct {
	// PerSecond is the average. Negative: no limit.
	PerSecond float64 `json:"perSecond"`

	// Burst is how many go at once after a quiet time. 0: as many as in a second, at least 1.
	Burst int32 `json:"burst,omitempty"`
}

// defaultLimits fills in bursts.
func (c *Cloud) defaultLimits() {
	for _, limits := range c.Limits {
		for _, limit := range []*CallLimit{limits.Reads, limits.Writes} {
			if limit != nil && limit.Burst == 0 && limit.PerSecond > 0 {
				limit.Burst = int32(min(math.Ceil(limit.PerSecond), math.MaxInt32))
			}
		}
	}
}

func (c *Cloud) validateLimits() []error {
	var mistakes []error
	for _, provider := range slices.Sorted(maps.Keys(c.Limits)) {
		field := fmt.Sprintf("cloud.limits[%s]", provider)
		limits := c.Limits[provider]
		if limits.Reads == nil && limits.Writes == nil {
			mistakes = append(mistakes, fmt.Errorf("%s: it limits nothing: write reads or writes below it, or leave it out", field))
		}
		for _, kind := range []struct {
			name  string
			limit *CallLimit
		}{{"reads", limits.Reads}, {"writes", limits.Writes}} {
			if kind.limit != nil {
				mistakes = append(mistakes, kind.limit.validate(field+"."+kind.name)...)
			}
		}
	}
	return mistakes
}

func (l *CallLimit) validate(field string) []error {
	var mistakes []error
	if l.PerSecond == 0 {
		mistakes = append(mistakes, fmt.Errorf("%s.perSecond: 0 would send nothing: write a positive number, or a negative one for no limit", field))
	}
	switch {
	case l.Burst < 0:
		mistakes = append(mistakes, fmt.Errorf("%s.burst: %d would send nothing: write 1 or more, or leave it out", field, l.Burst))
	case l.Burst > 0 && l.PerSecond < 0:
		mistakes = append(mistakes, wrapField(field+".burst", errors.New("there is no burst without a limit: leave it out")))
	}
	return mistakes
}
