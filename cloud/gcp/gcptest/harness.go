package gcptest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
)

// UserAddress is reserved by somebody else, under the name user-address, in clouds of Harness.
const UserAddress = "203.0.113.200"

// Config of a provider for a cloud.
func Config() gcp.Config {
	return gcp.Config{Project: Project, Region: Region, Network: Network, NodeTags: []string{"node"}}
}

// Provider makes a provider for the cloud, without a socket.
func (c *Cloud) Provider(edits ...func(*cloud.Capabilities)) *gcp.Provider {
	p, err := gcp.NewProvider(context.Background(), Config(), c.Client(), edits...)
	if err != nil {
		panic(err) // the configuration is right
	}
	return p
}

// Harness is that of the suite for an empty cloud.
func (c *Cloud) Harness(edits ...func(*cloud.Capabilities)) *cloudtest.Harness {
	c.ReserveAddress("user-address", UserAddress)
	return &cloudtest.Harness{
		New:           func() cloud.Provider { return c.Provider(edits...) },
		SetHook:       c.SetHook,
		Snapshot:      c.Snapshot,
		PlantForeign:  c.plantForeign,
		PlantBalancer: c.plantBalancer,
		Replacements:  map[string]map[string]string{"another scheme": {"networking.gke.io/load-balancer-type": "Internal"}},
		Refused: map[string]map[string]string{
			"an address that there is not":   {"networking.gke.io/load-balancer-ip-addresses": "user-address-1"},
			"an address of the other scheme": {"networking.gke.io/load-balancer-type": "Internal", "networking.gke.io/load-balancer-ip-addresses": "user-address"},
		},
		RefusedAddress: "203.0.113.99",
		Throttled:      func(after time.Duration) error { return Throttled(after) },
		Address:        UserAddress,
		Adapt:          Adapt,
	}
}

// Adapt gives the suite's nodes the machines of the cloud.
func Adapt(spec cloud.Spec) cloud.Spec {
	spec.Nodes = slices.Clone(spec.Nodes)
	for i := range spec.Nodes {
		spec.Nodes[i].Zone = Zone(i)
		spec.Nodes[i].ProviderID = "gce://" + Project + "/" + Zone(i) + "/" + InstanceName(i)
	}
	return spec
}

// volatile members differ from one run to the next.
var volatile = []string{"id", "creationTimestamp", "selfLink", "kind", "fingerprint", "labelFingerprint", "IPAddress", "address", "size"}

// Snapshot describes everything that was not there at first.
func (c *Cloud) Snapshot() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(time.Now())
	var vips []string // balancers' addresses, the longest first
	for _, o := range c.objects {
		if o.collection == "forwardingRules" {
			vips = append(vips, strings.TrimSuffix(o.body["IPAddress"].(string), "/96"))
		}
	}
	slices.SortFunc(vips, func(a, b string) int { return len(b) - len(a) })
	var lines []string
	for path, o := range c.objects {
		if o.given {
			continue
		}
		body := clone(o.body)
		maps.DeleteFunc(body, func(name string, _ any) bool { return slices.Contains(volatile, name) })
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		line := strings.ReplaceAll(string(text), host, "")
		for _, vip := range vips {
			line = strings.ReplaceAll(line, vip+"/", "vip/")
		}
		lines = append(lines, fmt.Sprintf("%s %s %v", path, line, slices.Sorted(maps.Keys(o.instances))))
	}
	slices.Sort(lines)
	return lines
}

// Has reports whether there is something at a path below the project.
func (c *Cloud) Has(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[path] != nil
}

// Patch changes, as by hand, the first thing whose path has the part.
func (c *Cloud) Patch(part, body string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(c.objects)) {
		if o := c.objects[path]; strings.Contains(path, part) && !o.given {
			var patch map[string]any
			if err := json.Unmarshal([]byte(body), &patch); err != nil {
				return err
			}
			merge(o.body, patch)
			c.fingerprint(o)
			return nil
		}
	}
	return fmt.Errorf("nothing has %s in its path", part)
}
