package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// kernel stands where the node's nftables would be: it keeps the frontends that it is given. What a kernel does with
// them is tested with packets, elsewhere.
type kernel struct {
	mu        sync.Mutex
	frontends map[netip.AddrPort]int // endpoints behind an address
}

func (k *kernel) Sync(state *model.State, _ *model.Changes) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frontends = map[netip.AddrPort]int{}
	for key, frontend := range state.Frontends {
		if group := state.Groups[frontend.Internal]; group != nil {
			k.frontends[netip.AddrPortFrom(key.Addr, key.Port)] = len(group.Endpoints)
		}
	}
	return nil
}

func (k *kernel) endpointsAt(address netip.AddrPort) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.frontends[address]
}

// unobserved passes over what the loop tells of itself.
type unobserved struct{}

func (unobserved) Changed(dpsync.Kind)  {}
func (unobserved) Queued()              {}
func (unobserved) Synced(dpsync.Result) {}
func (unobserved) Node(*corev1.Node)    {}

// TestNodeAgent runs the agent's loop under the service account of config/rbac: its rights are enough, and none is too
// many. The slices that it sees are those that the manager wrote.
func TestNodeAgent(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	startManager(t)
	source, err := dpsync.NewSource(asAccount(t, "fairlead-node-agent", "fairlead-node-agent"), "node-a", false)
	if err != nil {
		t.Fatal(err)
	}
	backend := &kernel{}
	loop := dpsync.New(dpsync.Options{Model: model.Options{NodeName: "node-a"}, Source: source, Backend: backend, Observer: unobserved{}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { loop.Run(ctx) })
	defer running.Wait()
	defer cancel()

	a := applySample(t, "nginx-clusterip.yaml")
	address := netip.AddrPortFrom(netip.MustParseAddr(a.service.Spec.ClusterIP), 80)
	eventually(t, waitFor, fmt.Sprintf("%d endpoints at %s", len(a.pods), address), func() error {
		if n := backend.endpointsAt(address); n != len(a.pods) {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})

	// The manager's certificates are read when somebody asks for a report.
	reports := freeAddress(t)
	serveReports(t, reports, http.NotFoundHandler())
	refusesStrangers(t, reports)

	role := &rbacv1.ClusterRole{}
	get(t, "", "fairlead-node-agent", role)
	rights(t, "fairlead-node-agent:fairlead-node-agent", role.Rules)
}
