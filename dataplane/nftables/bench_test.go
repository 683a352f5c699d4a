package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// scaleState has n Services of three endpoints each, all different, of IPv4.
func scaleState(n int) cluster {
	c := newCluster()
	for i := range n {
		name := fmt.Sprint("svc", i)
		g := c.group(name, model.TCP, 4, model.Cluster, model.Reject)
		for e := range 3 {
			a := netip.AddrFrom4([4]byte{10, 128 + byte(e), byte(i >> 8), byte(i)})
			c.Groups[g].Endpoints = append(c.Groups[g].Endpoints, model.Endpoint{Addr: netip.AddrPortFrom(a, 8080)})
		}
		c.frontend(model.ClusterIP, netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(), 80, g, g, outsideOnly)
	}
	return c
}

var scales = []int{1000, 10000, 30000}

// BenchmarkColdSync builds the tables from nothing.
func BenchmarkColdSync(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			for b.Loop() {
				mustSync(b, w.backend(b), state.State, nil)
				b.StopTimer()
				if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRestart reads tables that need no change.
func BenchmarkRestart(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			mustSync(b, w.backend(b), state.State, nil)
			for b.Loop() {
				mustSync(b, w.backend(b), state.State, nil)
			}
		})
	}
}

// BenchmarkChange removes an endpoint of one Service, or adds it again.
func BenchmarkChange(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			backend := w.backend(b)
			mustSync(b, backend, state.State, nil)
			key := model.GroupKey{
				Port:   model.ServicePortName{Namespace: "default", Name: "svc7", Protocol: model.TCP},
				Family: 4, Scope: model.Cluster,
			}
			three := state.Groups[key]
			two := &model.Group{Key: key, Endpoints: three.Endpoints[:2]}
			i := 0
			for b.Loop() {
				g := three
				if i++; i%2 == 1 {
					g = two
				}
				state.Groups[key] = g
				mustSync(b, backend, state.State, &model.Changes{Groups: []*model.Group{g}})
			}
		})
	}
}
