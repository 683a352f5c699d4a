package azure

import (
	"context"
	"maps"
	"net/http"
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

// onMachines are the nodes that have a machine. Others have no interface that Azure knows.
func (c Config) onMachines(nodes []cloud.Node) []cloud.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(node cloud.Node) bool { return c.machineID(node) == "" })
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
	at      time.Time                        // of reading; zero: Azure worked on one, which has another ETag afterwards
	byID    map[string]*armnetwork.Interface // folded
	address map[string]string                // by the folded id of an IP configuration
	config  map[string]string                // the id of that, by its machine's folded id, a space and the address
}

func newInterfaces(at time.Time, list []*armnetwork.Interface) *interfaces {
	i := &interfaces{at: at, byID: map[string]*armnetwork.Interface{}, address: map[string]string{}, config: map[string]string{}}
	for _, nic := range list {
		p := value(nic.Properties)
		if stateOf(p.ProvisioningState) == cloud.StatePending {
			i.at = time.Time{}
		}
		i.byID[folded(value(nic.ID))] = nic
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

// readMembers has a new view know the members of pools of ours. Where interfaces may not be read their Services will be told, and
// others go on.
func (p *Provider) readMembers(ctx context.Context, v *view) error {
	for _, name := range sortedNames(v.balancers) {
		if lb := v.balancers[name]; isLinked(name) && tag(lb.Tags, tagCluster) != "" {
			for _, pool := range lb.Properties.BackendAddressPools {
				err := p.readConfigs(ctx, v, configsIn(pool))
				if err != nil && !hasStatus(err, http.StatusForbidden) && !hasStatus(err, http.StatusNotFound) {
					return err
				}
			}
		}
	}
	return nil
}

// readConfigs has a view that nobody else has yet know the IP configurations.
func (p *Provider) readConfigs(ctx context.Context, v *view, configs []string) error {
	missing := map[scope]bool{}
	for _, config := range configs {
		if s := scopeOf(config); s.group != "" && v.of(config).address[folded(config)] == "" {
			missing[s] = true
		}
	}
	return p.readScopes(ctx, v, missing)
}

// readScopes reads the interfaces of those scopes that are missing.
func (p *Provider) readScopes(ctx context.Context, v *view, missing map[scope]bool) error {
	for _, s := range slices.SortedFunc(maps.Keys(missing), func(a, b scope) int { return strings.Compare(a.group+"/"+a.set, b.group+"/"+b.set) }) {
		begin := time.Now()
		list, err := p.network.Interfaces(ctx, s.group, s.set)
		if err != nil {
			return err
		}
		read := newInterfaces(begin, list)
		v.interfaces[s] = read
		p.note(func(noted *view) { noted.interfaces[s] = read })
	}
	return nil
}
