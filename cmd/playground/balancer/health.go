package balancer

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// probe is one health check of one machine. Listeners that ask the same of a machine share it.
type probe struct {
	protocol  string
	address   netip.AddrPort
	path      string
	interval  time.Duration
	threshold int
}

func probeOf(l hardware.Listener, target netip.AddrPort) probe {
	c := l.HealthCheck
	port := c.Port
	if port == 0 {
		port = target.Port()
	}
	return probe{protocol: c.Protocol, address: netip.AddrPortFrom(target.Addr(), port), path: c.Path,
		interval: c.Interval, threshold: c.Threshold}
}

func probesOf(balancers []hardware.Balancer) map[probe]bool {
	probes := map[probe]bool{}
	for _, b := range balancers {
		for _, l := range b.Listeners {
			for _, t := range l.Targets {
				probes[probeOf(l, t)] = true
			}
		}
	}
	return probes
}

// maxTimeout bounds the wait for one answer.
const maxTimeout = time.Second

// checker probes, each probe in a goroutine of its own, and calls changed after each change of a verdict.
type checker struct {
	changed func()

	mu      sync.Mutex
	running map[probe]context.CancelFunc
	good    map[probe]bool
	wg      sync.WaitGroup
}

func newChecker(changed func()) *checker {
	return &checker{changed: changed, running: map[probe]context.CancelFunc{}, good: map[probe]bool{}}
}

// healthy is the verdict of the moment. A machine is not healthy before its first good answer.
func (c *checker) healthy(p probe) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.good[p]
}

// failed reports whether the machine did not answer. Before the first answer it has neither failed nor is it healthy.
func (c *checker) failed(p probe) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	good, asked := c.good[p]
	return asked && !good
}

// watch starts the probes that are new and ends those that are not wanted any more; with none it waits for their end.
func (c *checker) watch(wanted map[probe]bool) {
	c.mu.Lock()
	for p, cancel := range c.running {
		if !wanted[p] {
			cancel()
			delete(c.running, p)
			delete(c.good, p)
		}
	}
	for p := range wanted {
		if c.running[p] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		c.running[p] = cancel
		c.wg.Go(func() { c.run(ctx, p) })
	}
	c.mu.Unlock()
	if len(wanted) == 0 {
		c.wg.Wait()
	}
}

// run probes until the context ends. The first answer decides at once, so that a new machine is used as soon as it
// answers; later it takes threshold answers in a row to change the verdict.
func (c *checker) run(ctx context.Context, p probe) {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	first, verdict, against := true, false, 0
	for {
		answer := ask(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if answer == verdict && !first {
			against = 0
		} else {
			against++
		}
		if first || against >= p.threshold {
			verdict, against = answer, 0
			c.set(ctx, p, verdict)
		}
		first = false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *checker) set(ctx context.Context, p probe, verdict bool) {
	c.mu.Lock()
	if ctx.Err() != nil { // ended by watch meanwhile
		c.mu.Unlock()
		return
	}
	c.good[p] = verdict
	c.mu.Unlock()
	c.changed()
}

// ask makes one probe.
func ask(ctx context.Context, p probe) bool {
	ctx, cancel := context.WithTimeout(ctx, min(p.interval, maxTimeout))
	defer cancel()
	if p.protocol == "TCP" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address.String())
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address.String()+p.path, nil)
	if err != nil {
		return false
	}
	request.Header.Set("User-Agent", "fairlead-fake-cloud")
	response, err := probeClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	// Its end tells nothing that the status does not.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
	return response.StatusCode == http.StatusOK
}

// probeClient opens a connection for every probe: that a machine takes new ones is what is asked.
var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
