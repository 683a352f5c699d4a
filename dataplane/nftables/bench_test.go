package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

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

// BenchmarkChange removes an endpoint of one Service after the other, then adds it again.
func BenchmarkChange(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			backend := w.backend(b)
			mustSync(b, backend, state.State, nil)
			i := 0
			var took []time.Duration
			for b.Loop() {
				const stride = 7919 // a prime: neighbours in time are none in memory
				key := model.GroupKey{
					Port:   model.ServicePortName{Namespace: "default", Name: fmt.Sprint("svc", i*stride%n), Protocol: model.TCP},
					Family: 4, Scope: model.Cluster,
				}
				g := *state.Groups[key]
				g.Endpoints = g.Endpoints[:3-(i/n+1)%2]
				i++
				state.Groups[key] = &g
				begin := time.Now()
				mustSync(b, backend, state.State, &model.Changes{Groups: []*model.Group{&g}})
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
