// Package table finds out where connections to a Service end up, by making them: each client connects again and again
// from its own namespace, and the built-in server that answers says which Pod it is and whom it saw.
package table

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/echo"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// Client connects to one address from one namespace.
type Client struct {
	// Name is who it is, to people; Namespace is where it connects from.
	Name, Namespace string
	// Via says what kind of address Address is.
	Via, Address string
}

// Each client makes first connections as fast as they are answered, so that the first table says something, and then one
// every interval. The table is about its last connections, so that a change shows soon.
const (
	first    = 40
	last     = 200
	interval = 100 * time.Millisecond
	limit    = 5 * time.Second
)

// Run makes connections until ctx ends, and shows all rows, in the clients' order, once each has made its first
// connections and then every second.
func Run(ctx context.Context, clients []Client, show func([]control.Row)) {
	histories := make([]history, len(clients))
	var begun sync.WaitGroup
	for i, c := range clients {
		begun.Add(1)
		go func() {
			for range first {
				histories[i].add(ask(ctx, c))
			}
			begun.Done()
			for ticker := time.NewTicker(interval); ctx.Err() == nil; {
				select {
				case <-ticker.C:
					histories[i].add(ask(ctx, c))
				case <-ctx.Done():
				}
			}
		}()
	}
	begun.Wait()
	for ticker := time.NewTicker(time.Second); ctx.Err() == nil; {
		rows := make([]control.Row, len(clients))
		for i, c := range clients {
			rows[i] = Summarise(c, histories[i].results())
		}
		show(rows)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// Result is how one connection went: an answer, or an error.
type Result struct {
	Answer echo.Answer
	Err    error
}

// history holds a client's last results.
type history struct {
	mu  sync.Mutex
	all []Result
}

func (h *history) add(a echo.Answer, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, Result{a, err})
	h.all = h.all[max(0, len(h.all)-last):]
}

func (h *history) results() []Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// Summarise counts results by the Pod that answered, sorted by node and Pod.
func Summarise(c Client, results []Result) control.Row {
	row := control.Row{Client: c.Name, Via: c.Via, Address: c.Address}
	for _, r := range results {
		if r.Err != nil {
			row.Failed++
			row.LastError = r.Err.Error()
			continue
		}
		at, found := slices.BinarySearchFunc(row.Endpoints, r.Answer, func(e control.Endpoint, a echo.Answer) int {
			return strings.Compare(e.Node+"/"+e.Pod, a.Node+"/"+a.Pod)
		})
		if !found {
			e := control.Endpoint{Pod: r.Answer.Pod, Node: r.Answer.Node, Zone: r.Answer.Zone}
			row.Endpoints = slices.Insert(row.Endpoints, at, e)
		}
		row.Endpoints[at].Count++
		seen := host(r.Answer.Client)
		if at, found := slices.BinarySearch(row.Seen, seen); !found {
			row.Seen = slices.Insert(row.Seen, at, seen)
		}
	}
	return row
}

// host is an address without its port, which is another each time.
func host(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// ask makes one connection and reads who answers.
func ask(ctx context.Context, c Client) (echo.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var answer echo.Answer
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Address+"/", nil)
	if err != nil {
		return answer, fmt.Errorf("asking %s: %w", c.Address, err)
	}
	response, err := network.Transport(c.Namespace).RoundTrip(request)
	if err != nil {
		return answer, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer, fmt.Errorf("reading the answer of %s: %w", c.Address, err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("reading the answer of %s: %w", c.Address, err)
	}
	return answer, nil
}
