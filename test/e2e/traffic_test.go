//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/echo"
)

// clientAddr is the source address that the server saw.
func clientAddr(t *testing.T, a echo.Answer) netip.Addr {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.Client)
	if err != nil {
		t.Fatalf("the server saw client %q: %v", a.Client, err)
	}
	return ap.Addr().Unmap()
}

// get makes one new connection and one HTTP request on it, without any retry.
func get(ns string, to netip.AddrPort) (echo.Answer, error) {
	conn, err := dial(ns, "tcp", to)
	if err != nil {
		return echo.Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	return ask(conn)
}

// ask makes one HTTP request on a connection and leaves it open.
func ask(conn net.Conn) (echo.Answer, error) {
	var a echo.Answer
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return a, err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: e2e\r\nAccept: application/json\r\n\r\n"); err != nil {
		return a, fmt.Errorf("asking: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return a, fmt.Errorf("reading the answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %s", resp.Status)
	}
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// spread makes n connections, 16 at a time, and counts the Pods that answered. Any failure is an error.
func spread(t *testing.T, ns string, to netip.AddrPort, n int) map[string]int {
	t.Helper()
	var (
		mu       sync.Mutex
		counts   = map[string]int{}
		problems []error
		work     = make(chan struct{})
		all      sync.WaitGroup
	)
	for range 16 {
		all.Go(func() {
			for range work {
				a, err := get(ns, to)
				mu.Lock()
				if err != nil {
					problems = append(problems, err)
				} else {
					counts[a.Pod]++
				}
				mu.Unlock()
			}
		})
	}
	failed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(problems) > 0
	}
	for i := 0; i < n && !failed(); i++ { // one is enough, and each may take its time to fail
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	if len(problems) > 0 {
		t.Fatalf("%d of %d connections from %s to %s failed, the first by: %v", len(problems), n, ns, to, problems[0])
	}
	return counts
}

// even makes n connections and fails where a chi-square test says that the counts are not from equal chances: p below
// 1e-6. Before, it waits until that client has reached as many Pods: slices that are complete say nothing about the
// node's rules. From the first answer on, no connection may fail, nor be refused once all have answered. The number of Pods
// must be odd: for an even number of degrees of freedom the distribution has a closed form.
func even(t *testing.T, ns string, to netip.AddrPort, n, pods int) map[string]int {
	t.Helper()
	reached := map[string]bool{served(t, ns, to).Pod: true}
	eventually(t, fmt.Sprintf("answers of %d Pods from %s to %s", pods, to, ns), func() error {
		a, err := get(ns, to)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return err // a Pod without a probe is ready before it listens
		case err != nil:
			t.Fatal(err)
		}
		if reached[a.Pod] = true; len(reached) < pods {
			return fmt.Errorf("%d answered", len(reached))
		}
		return nil
	})
	counts := spread(t, ns, to, n)
	if len(counts) != pods {
		t.Fatalf("%d Pods answered, want %d: %v", len(counts), pods, counts)
	}
	p := chiSquare(counts)
	t.Logf("counts %v, p = %.3g", counts, p)
	if p < 1e-6 {
		t.Errorf("not even: %v, p = %.3g", counts, p)
	}
	return counts
}

// chiSquare returns the probability of counts at least this uneven where all chances are equal.
func chiSquare(counts map[string]int) float64 {
	if len(counts)%2 == 0 {
		panic("chiSquare takes an odd number of counts")
	}
	total := 0
	for _, c := range counts {
		total += c
	}
	want, x := float64(total)/float64(len(counts)), 0.0
	for _, c := range counts {
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	// Survival function for 2m degrees of freedom: exp(-x/2) * sum of (x/2)^i / i!, i < m.
	sum, term := 0.0, 1.0
	for i := range (len(counts) - 1) / 2 {
		if i > 0 {
			term *= x / 2 / float64(i)
		}
		sum += term
	}
	return math.Exp(-x/2) * sum
}

// load makes new connections at a steady rate until stop is called, and reports those that failed.
type load struct {
	mu       sync.Mutex
	made     int
	failures []failure
	pods     map[string]int
	quit     chan struct{}
	done     sync.WaitGroup
	began    time.Time
	took     time.Duration
}

// reached says whether a Pod has answered.
func (l *load) reached(pod string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[pod] > 0
}

// failure is a connection that was lost, and when it began.
type failure struct {
	at  time.Time
	err error
}

// source is where a load comes from and goes to.
type source struct {
	ns string
	to netip.AddrPort
}

// begin starts rate connections a second, taken in turn from the sources. A connection that is due is made, however
// late the machine lets us be, so that the rate holds on average.
func begin(rate int, sources ...source) *load {
	l := &load{pods: map[string]int{}, quit: make(chan struct{}), began: time.Now()}
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for made := 0; ; {
			select {
			case <-l.quit:
				return
			case <-tick.C:
			}
			for due := int(time.Since(l.began).Seconds() * float64(rate)); made < due; made++ {
				from := sources[made%len(sources)]
				l.done.Go(func() { l.one(from) })
			}
		}
	})
	return l
}

// reach waits until the load has made n connections.
func (l *load) reach(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections", n), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.made < n {
			return fmt.Errorf("%d so far", l.made)
		}
		return nil
	})
}

// soFar is how many connections the load has made.
func (l *load) soFar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

func (l *load) one(from source) {
	start := time.Now()
	a, err := get(from.ns, from.to)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	if err != nil {
		l.failures = append(l.failures, failure{start, fmt.Errorf("from %s to %s, %s after the start, given up after %s: %w",
			from.ns, from.to, start.Sub(l.began).Round(time.Millisecond), time.Since(start).Round(time.Millisecond), err)})
		return
	}
	l.pods[a.Pod]++
}

// end stops the load, waits for the connections under way, and returns how many were made a second and what failed.
func (l *load) end() (rate float64, err error) {
	l.took = time.Since(l.began)
	close(l.quit)
	l.done.Wait()
	for _, f := range l.failures {
		err = errors.Join(err, f.err)
	}
	return float64(l.made) / l.took.Seconds(), err
}

// httpOK wants status 200. The connection is made by this very thread, so that it is in the thread's namespace.
func httpOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", req.URL.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
