package model

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Changes brings State up to date with everything set and deleted since the last call, and says what differs.
//
//  1. The node's facts. If its zone, addresses or Pod ranges differ, every Service is looked at, since they decide
//     hints, source ranges and masquerading.
//  2. Per changed Service: its frontends are claimed anew if the Service itself changed, its groups are built anew.
//  3. Per claimed or released address and port: who comes first has it.
//
// The result is never nil; its Empty method tells whether anything differs.
func (t *Tracker) Changes() *Changes {
	c := &Changes{}
	if t.nodeDirty {
		t.updateNode(c)
	}
	contested := map[FrontendKey]struct{}{}
	for key, e := range t.dirty {
		if e.serviceDirty {
			t.updateClaims(e, contested)
			e.serviceDirty = false
		}
		t.updateGroups(e, c)
		if e.service == nil && len(e.slices) == 0 {
			delete(t.services, key)
		}
	}
	// Not cleared: that would cost as much as the largest change there ever was.
	t.dirty = map[types.NamespacedName]*entry{}
	t.settle(contested, c)
	t.giveBack()

	slices.SortFunc(c.Frontends, func(a, b *Frontend) int { return compareFrontendKeys(a.Key, b.Key) })
	slices.SortFunc(c.FrontendsGone, compareFrontendKeys)
	slices.SortFunc(c.Groups, func(a, b *Group) int { return compareGroupKeys(a.Key, b.Key) })
	slices.SortFunc(c.GroupsGone, compareGroupKeys)
	slices.SortFunc(c.Conflicts, func(a, b Conflict) int { return compareFrontendKeys(a.Key, b.Key) })
	slices.SortFunc(c.ClusterIPs, netip.Addr.Compare)
	slices.SortFunc(c.ClusterIPsGone, netip.Addr.Compare)
	return c
}

// giveBack frees the memory that was taken for far more than there is now: Go's maps keep it when their elements go.
func (t *Tracker) giveBack() {
	t.services = fit(t.services, &t.peaks.services)
	t.sliceOwner = fit(t.sliceOwner, &t.peaks.sliceOwner)
	t.claims = fit(t.claims, &t.peaks.claims)
	t.state.Frontends = fit(t.state.Frontends, &t.peaks.frontends)
	t.state.Groups = fit(t.state.Groups, &t.peaks.groups)
	t.state.ClusterIPs = fit(t.state.ClusterIPs, &t.peaks.clusterIPs)
}

// fit returns a map, a copy if it holds less than a quarter of what it held at its peak. Each element that went pays for at
// most one third of a copy, so that changes cost what they did.
func fit[K comparable, V any](m map[K]V, peak *int) map[K]V {
	const small = 1024 // not worth it
	*peak = max(*peak, len(m))
	if *peak < small || len(m) > *peak/4 {
		return m
	}
	*peak = len(m)
	fitting := make(map[K]V, len(m))
	maps.Copy(fitting, m)
	return fitting
}

func (t *Tracker) updateNode(c *Changes) {
	t.nodeDirty = false
	node := buildNode(t.opts, t.node, t.machine, t.cidrs)
	c.Node = !node.equal(&t.state.Node)
	t.state.Node = node
	if !t.allDirty {
		return
	}
	t.allDirty = false
	for key, e := range t.services {
		e.serviceDirty = true
		t.dirty[key] = e
	}
}

// updateClaims replaces the claims of a Service, noting the keys on which another may now come first.
func (t *Tracker) updateClaims(e *entry, contested map[FrontendKey]struct{}) {
	for _, key := range e.claims {
		left := slices.DeleteFunc(t.claims[key], func(f *Frontend) bool {
			return f.Port.Namespace == e.key.Namespace && f.Port.Name == e.key.Name
		})
		if len(left) == 0 {
			delete(t.claims, key)
		} else {
			t.claims[key] = left
		}
		contested[key] = struct{}{}
	}
	e.claims = nil
	if e.service == nil {
		return
	}
	for _, f := range e.service.frontends(&t.state.Node, t.node.addresses, t.opts.MasqueradeAll) {
		claims := t.claims[f.Key]
		i, _ := slices.BinarySearchFunc(claims, f, (*Frontend).before)
		t.claims[f.Key] = slices.Insert(claims, i, f)
		e.claims = append(e.claims, f.Key)
		contested[f.Key] = struct{}{}
	}
}

// settle gives each contested key to its first claimant, and keeps count of the cluster IPs in service.
func (t *Tracker) settle(contested map[FrontendKey]struct{}, c *Changes) {
	served := map[netip.Addr]bool{} // cluster IPs touched, and whether they were served before
	count := func(f *Frontend, by int) {
		if f == nil || f.Kind != ClusterIP {
			return
		}
		if _, ok := served[f.Key.Addr]; !ok {
			served[f.Key.Addr] = t.state.ClusterIPs[f.Key.Addr] > 0
		}
		t.state.ClusterIPs[f.Key.Addr] += by
	}
	for key := range contested {
		t.noteConflict(key, c)
		old := t.state.Frontends[key]
		claims := t.claims[key]
		switch {
		case len(claims) == 0 && old == nil:
		case len(claims) == 0:
			delete(t.state.Frontends, key)
			t.suspectFrontend(old, nil)
			c.FrontendsGone = append(c.FrontendsGone, key)
			count(old, -1)
		case old == nil || !old.equal(claims[0]):
			t.state.Frontends[key] = claims[0]
			t.suspectFrontend(old, claims[0])
			c.Frontends = append(c.Frontends, claims[0])
			count(old, -1)
			count(claims[0], +1)
		}
	}
	for addr, before := range served {
		now := t.state.ClusterIPs[addr] > 0
		if !now {
			delete(t.state.ClusterIPs, addr)
		}
		switch {
		case now && !before:
			c.ClusterIPs = append(c.ClusterIPs, addr)
		case before && !now:
			c.ClusterIPsGone = append(c.ClusterIPsGone, addr)
		}
	}
}

// updateGroups builds the groups of a Service anew, and with them the counts that come from its endpoints.
func (t *Tracker) updateGroups(e *entry, c *Changes) {
	old := e.groups
	e.groups = nil
	var unserved [2]Unserved
	var checks []HealthCheck
	if e.service != nil {
		sorted := e.sortedSlices()
		for _, f := range e.service.families() {
			localReady := map[netip.Addr]bool{}
			for _, p := range e.service.ports {
				all := gather(sorted, p.name, f)
				addLocalReady(localReady, all)
				unserved[familyIndex(f)].add(e.service, p, f, all)
				t.suspectEndpoints(e, p.name, f, all)
				for _, scope := range e.service.scopes(p, f) {
					key := GroupKey{Port: p.name, Family: f, Scope: scope}
					// Two ports of one name and protocol, which the API forbids, would be one group.
					if !slices.Contains(e.groups, key) {
						e.groups = append(e.groups, key)
						t.setGroup(buildGroup(key, all, t.node.zone), c)
					}
				}
			}
			if e.service.healthPort != 0 {
				checks = append(checks, HealthCheck{
					Service: e.key, Family: f, Port: e.service.healthPort, LocalEndpoints: len(localReady),
				})
			}
		}
	}
	e.replaced = nil
	for _, key := range old {
		if !slices.Contains(e.groups, key) {
			delete(t.state.Groups, key)
			c.GroupsGone = append(c.GroupsGone, key)
		}
	}
	t.count(e, unserved)
	if !slices.Equal(checks, e.checks) {
		e.checks = checks
		t.checksStale = true
	}
}

func (t *Tracker) setGroup(g *Group, c *Changes) {
	if old, ok := t.state.Groups[g.Key]; !ok || !old.equal(g) {
		t.state.Groups[g.Key] = g
		c.Groups = append(c.Groups, g)
	}
}

func (e *entry) sortedSlices() []*slice {
	names := make([]string, 0, len(e.slices))
	for name := range e.slices {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	sorted := make([]*slice, 0, len(names))
	for _, name := range names {
		sorted = append(sorted, e.slices[name])
	}
	return sorted
}

// HealthCheck is what a node says of a Service with a healthCheckNodePort, to one family of clients.
type HealthCheck struct {
	Service types.NamespacedName
	// Family is 4 or 6.
	Family uint8
	Port   uint16
	// LocalEndpoints counts the distinct addresses of this node's ready endpoints, over all ports of the Service.
	// Terminating ones do not count, even while traffic falls back to them: the load balancer is to look elsewhere.
	LocalEndpoints int
}

// HealthChecks lists the health checks as of the last Changes, sorted by Service and family. It must not be changed.
func (t *Tracker) HealthChecks() []HealthCheck {
	if t.checksStale {
		t.checksStale = false
		t.checks = nil
		for _, e := range t.services {
			t.checks = append(t.checks, e.checks...)
		}
		slices.SortStableFunc(t.checks, func(a, b HealthCheck) int {
			if c := strings.Compare(a.Service.Namespace, b.Service.Namespace); c != 0 {
				return c
			}
			return strings.Compare(a.Service.Name, b.Service.Name)
		})
	}
	return t.checks
}

// Unserved counts Service ports of a family that have endpoints elsewhere but, by a Local traffic policy, none
// that this node may use.
type Unserved struct {
	Internal, External int
}

func (u *Unserved) add(s *service, p servicePort, f uint8, all []candidate) {
	if !s.internalLocal && !s.externalLocal || len(chooseLocal(all)) > 0 || !usable(all) {
		return
	}
	if s.internalLocal {
		u.Internal++
	}
	if s.externalLocal && s.external(p, f) {
		u.External++
	}
}

// Unserved counts for a family (4 or 6), as of the last Changes.
func (t *Tracker) Unserved(f uint8) Unserved { return t.unserved[familyIndex(f)] }

func (t *Tracker) count(e *entry, now [2]Unserved) {
	for i := range now {
		t.unserved[i].Internal += now[i].Internal - e.unserved[i].Internal
		t.unserved[i].External += now[i].External - e.unserved[i].External
	}
	e.unserved = now
}

func familyIndex(f uint8) int {
	if f == 4 {
		return 0
	}
	return 1
}
