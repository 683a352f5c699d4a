package azure

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file is about pools of network interfaces, and who is in them. Azure has private link services only for balancers with such
// pools, so Services that ask for one are on a balancer of that kind (schemeLinked). There is one for the cluster, since Azure lets an
// interface be in pools of one internal balancer only. Targets are addresses of nodes there, too, so that a Service that is held
// between the two kinds has the same. members.go has how they change.

// interfacesAge is for how long interfaces count as known. What is written of them carries the ETag that was read.
const interfacesAge = 5 * time.Minute

// interfacesRest is for how long they are not listed again, whatever is missing there.
const interfacesRest = 30 * time.Second

// machine is a node's: one with interfaces of its own, or one of a uniform scale set, whose are part of it.
type machine struct{ subscription, group, set, name string }

var machinePattern = regexp.MustCompile(`^(?i)/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Compute/(?:virtualMachineScaleSets/([^/]+)/)?virtualMachines/([^/]+)$`)

func parseMachine(id string) (machine, bool) {
	m := machinePattern.FindStringSubmatch(id)
	if m == nil {
		return machine{}, false
	}
	return machine{m[1], m[2], m[3], m[4]}, true
}

// machineID is the folded id of a node's machine; empty: it has none in the subscription.
func (c Config) machineID(node cloud.Node) string {
	id, ok := strings.CutPrefix(folded(node.ProviderID), "azure://")
	if m, is := parseMachine(id); ok && is && same(m.subscription, c.SubscriptionID) {
		return id
	}
	return ""
}

// scope is what interfaces are listed by: a resource group, or, of those of a uniform scale set's machines, the set. Folded.
type scope struct{ group, set string }

// scopeOf is that of a machine, an interface or an IP configuration of one, by the id.
func scopeOf(id string) scope {
	parts := strings.Split(folded(id), "/")
	if len(parts) < 9 {
		return scope{}
	}
	if parts[7] == "virtualmachinescalesets" {
		return scope{parts[4], parts[8]}
	}
	return scope{group: parts[4]}
}

// interfaces are those of a scope. Not changed once others have it.
type interfaces struct {
	at       time.Time                        // of reading
	byID     map[string]*armnetwork.Interface // folded; without those that Azure works on, which have another ETag afterwards
	outdated int                              // how many byID is without
	address  map[string]string                // by the folded id of an IP configuration
	config   map[string]string                // the id of that, by its machine's folded id, a space and the address
}

func newInterfaces(at time.Time, list []*armnetwork.Interface) *interfaces {
	i := &interfaces{at: at, byID: map[string]*armnetwork.Interface{}, address: map[string]string{}, config: map[string]string{}}
	for _, nic := range list {
		p := value(nic.Properties)
		if stateOf(p.ProvisioningState) != cloud.StatePending {
			i.byID[folded(value(nic.ID))] = nic
		} else {
			i.outdated++
		}
		for _, ip := range p.IPConfigurations {
			if address := canonical(value(value(ip.Properties).PrivateIPAddress)); address != "" {
				i.address[folded(value(ip.ID))] = address
				i.config[folded(value(value(p.VirtualMachine).ID))+" "+address] = value(ip.ID)
			}
		}
	}
	return i
}

// of are the interfaces of the scope of an id; where they are not known, none.
func (v *view) of(id string) *interfaces {
	if known := v.interfaces[scopeOf(id)]; known != nil {
		return known
	}
	return &interfaces{}
}

// member is the address of an IP configuration, or else its folded id.
func (v *view) member(config string) string {
	if address := v.of(config).address[folded(config)]; address != "" {
		return address
	}
	return folded(config)
}

// members of a pool, which may be nil, as targets.
func (v *view) members(pool *armnetwork.BackendAddressPool) []cloud.Target {
	var all []cloud.Target
	for _, config := range configsIn(pool) {
		all = append(all, cloud.Target{ID: v.member(config)})
	}
	return sortedTargets(all)
}

// configsIn are the ids of the IP configurations in a pool, which may be nil.
func configsIn(pool *armnetwork.BackendAddressPool) []string {
	if pool == nil || pool.Properties == nil {
		return nil
	}
	var ids []string
	for _, ip := range pool.Properties.BackendIPConfigurations {
		ids = append(ids, value(ip.ID))
	}
	return ids
}

// youngInterfaces are those that are known and count.
func (p *Provider) youngInterfaces() map[scope]*interfaces {
	p.mu.Lock()
	defer p.mu.Unlock()
	young := map[scope]*interfaces{}
	if p.memory.current != nil {
		maps.Copy(young, p.memory.current.interfaces)
	}
	maps.DeleteFunc(young, func(_ scope, i *interfaces) bool { return time.Since(i.at) >= interfacesAge })
	return young
}

// readMembers has a new view know the members of pools of the clusters that are asked for. Where interfaces cannot be read their
// Services will be told, and others go on, with what was known before. Its error is the context's.
func (p *Provider) readMembers(ctx context.Context, v *view) error {
	var configs []string
	for _, name := range sortedNames(v.balancers) {
		if lb := v.balancers[name]; isLinked(name) && p.serves(tag(lb.Tags, tagCluster)) {
			for _, pool := range lb.Properties.BackendAddressPools {
				configs = append(configs, configsIn(pool)...)
			}
		}
	}
	failed := p.readConfigs(ctx, v, configs)
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range failed {
		if p.memory.current != nil && p.memory.current.interfaces[s] != nil {
			v.interfaces[s] = p.memory.current.interfaces[s]
		}
	}
	return ctx.Err()
}

func (p *Provider) serves(clusterID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clusters[clusterID]
}

// readConfigs has a view that nobody else has yet know the IP configurations. It returns why scopes of some could not be read.
func (p *Provider) readConfigs(ctx context.Context, v *view, configs []string) map[scope]error {
	missing := map[scope]bool{}
	for _, config := range configs {
		if s := scopeOf(config); s.group != "" && (v.of(config).address[folded(config)] == "" || v.of(config).outdated > fewReads) {
			missing[s] = true
		}
	}
	return p.readScopes(ctx, v, missing)
}

// readScopes reads the interfaces of those scopes that are missing, and returns why some could not be. Once the account's limits are
// exceeded no more are.
func (p *Provider) readScopes(ctx context.Context, v *view, missing map[scope]bool) map[scope]error {
	failed := map[scope]error{}
	var over error
	for _, s := range sortedScopes(missing) {
		err := over
		if err == nil {
			err = p.unlistedYet(v, s)
		}
		if err == nil {
			if err = p.readScope(ctx, v, s); ends(ctx, err) {
				over = err
			}
		}
		if err != nil {
			failed[s] = err
		}
	}
	return failed
}

func sortedScopes[T any](scopes map[scope]T) []scope {
	return slices.SortedFunc(maps.Keys(scopes), func(a, b scope) int { return strings.Compare(a.group+"/"+a.set, b.group+"/"+b.set) })
}

// unlisted is a scope that could not be listed, and is not to be until then.
type unlisted struct {
	until time.Time
	err   error
}

// unlistedYet is why a scope is not to be listed now; nil: it may be.
func (p *Provider) unlistedYet(v *view, s scope) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.unlisted[s]; time.Now().Before(u.until) {
		return &cloud.Error{Class: classified(u.err).Class, After: time.Until(u.until), Err: u.err}
	}
	if known := v.interfaces[s]; known != nil && time.Since(known.at) < interfacesRest {
		return &cloud.Error{Class: cloud.Pending, After: interfacesRest - time.Since(known.at), Err: errListed}
	}
	return nil
}

var errListed = errors.New("the network interfaces were listed a moment ago, without some that are in the pool")

func (p *Provider) readScope(ctx context.Context, v *view, s scope) error {
	begin := time.Now()
	list, err := p.network.Interfaces(ctx, s.group, s.set)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unlisted[s] = unlisted{begin.Add(classified(err).After), err}
		return err
	}
	read := newInterfaces(begin, list)
	v.interfaces[s] = read
	p.note(func(noted *view) { noted.interfaces[s] = read })
	return nil
}

// knownStrangers are the targets of pools of network interfaces that are no machines, and so are in no such pool, by folded name of the
// balancer.
func (p *Provider) knownStrangers() map[string][]cloud.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.current == nil {
		return map[string][]cloud.Target{}
	}
	return maps.Clone(p.memory.current.strangers)
}

// meet has nodes that have turned out to have machines be strangers no longer.
func (p *Provider) meet(nodes []cloud.Node) {
	met := map[cloud.Target]bool{}
	for _, list := range p.knownStrangers() {
		for _, node := range nodes {
			if t := (cloud.Target{ID: canonical(node.Address(cloud.IPv4))}); p.config.machineID(node) != "" && slices.Contains(list, t) {
				met[t] = true
			}
		}
	}
	if len(met) > 0 {
		p.note(func(v *view) {
			for name, list := range v.strangers {
				v.strangers[name] = slices.DeleteFunc(slices.Clone(list), func(t cloud.Target) bool { return met[t] })
			}
		})
	}
}

// strangersOf are those of a pool, which have nothing to be written, and so count as done.
func (v *view) strangersOf(lb *armnetwork.LoadBalancer, pool string) []cloud.Target {
	if poolOf(lb, pool) == nil || pool != poolName(familyKey(cloud.IPv4)) {
		return nil
	}
	return v.strangers[folded(value(lb.Name))]
}
