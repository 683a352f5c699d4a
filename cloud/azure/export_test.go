package azure

import (
	"math"

	"github.com/fairlead/fairlead/cloud"
)

// For tests that put something in the way.
var (
	BalancerName = balancerName
	SecurityPart = securityPart
)

// Refuse has a change of the rules have been refused in a write for others.
func Refuse(p *Provider, rules cloud.Resource, err error) {
	w := p.writer(p.config.locate(rules.ID).balancer)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[changeKey(rules)] = err
}

// Unlimited has nodes have any number of rules.
func Unlimited(p *Provider) { Limit(p, math.MaxInt) }

// Limit has nodes have that many rules at most.
func Limit(p *Provider, rules int) { p.maxLoad = rules }
