// Package listeners finds programs of the node that listen where a Service has a node port. The Service gets the
// packets, whoever listens: a program that seems to run well is not reached, and kube-proxies since Kubernetes 1.27 say
// nothing of it. It looks when node ports change and now and then, beside the path that writes rules, and tells:
// in the log, once for each clash, by a metric and by a list. It closes nothing and reserves nothing.
package listeners

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

const (
	// lookEvery is the time between looks when no node port changes: programs start at any time.
	lookEvery = time.Minute
	// settle is the time from a change to the look, in which further changes join in.
	settle = time.Second
)

// Watcher is made by New. Its methods can be called from several goroutines.
type Watcher struct {
	log       logr.Logger
	sockets   func() ([]Socket, error)
	own       func() map[uint32]bool
	processes func(map[uint32]bool) map[uint32]string
	wake      chan struct{} // of capacity 1
	gauge     prometheus.Gauge

	mu     sync.Mutex
	uses   []dpsync.NodePort
	checks []model.HealthCheck
	on     model.NodePortAddresses
	report report
	known  map[place]Clash
	failed string // last logged
}

// report is the body of /nodeports.
type report struct {
	// Checked is when the node was last looked at; zero: not yet.
	Checked time.Time `json:"checked"`
	// NodePorts counts what was looked for, in both families.
	NodePorts int          `json:"nodePorts"`
	Clashes   []clashEntry `json:"clashes"`
}

type clashEntry struct {
	Namespace   string `json:"namespace"`
	Service     string `json:"service"`
	Protocol    string `json:"protocol"`
	Port        uint16 `json:"port"`
	HealthCheck bool   `json:"healthCheckNodePort,omitempty"`
	Listener    string `json:"listener"`
	UID         uint32 `json:"uid"`
	Process     string `json:"process,omitempty"`
}

var (
	_ prometheus.Collector = (*Watcher)(nil)
	_ http.Handler         = (*Watcher)(nil)
)

// New makes a Watcher of the network namespace in which it runs.
func New(log logr.Logger) *Watcher {
	return &Watcher{
		log: log, sockets: Sockets, own: own, processes: processes,
		wake: make(chan struct{}, 1),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_node_nodeport_clashes",
			Help: "Sockets of programs on the node that listen where a node port or healthCheckNodePort is served.",
		}),
		report: report{Clashes: []clashEntry{}},
		known:  map[place]Clash{},
	}
}

// Describe is a Collector's.
func (w *Watcher) Describe(out chan<- *prometheus.Desc) { w.gauge.Describe(out) }

// Collect is a Collector's.
func (w *Watcher) Collect(out chan<- prometheus.Metric) { w.gauge.Collect(out) }

// Synced takes what a loop has just written. It does not block.
func (w *Watcher) Synced(r dpsync.Result) {
	if r.Err != nil {
		return
	}
	w.mu.Lock()
	changed := r.NodePortUse != nil || !sameChecks(w.checks, r.HealthChecks) || !sameAddresses(w.on, r.NodePorts)
	if r.NodePortUse != nil {
		w.uses = r.NodePortUse
	}
	w.checks, w.on = r.HealthChecks, r.NodePorts
	w.mu.Unlock()
	if changed {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Run looks until the context ends.
func (w *Watcher) Run(ctx context.Context) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			timer.Reset(settle)
			continue
		case <-timer.C:
		}
		w.look(time.Now())
		timer.Reset(lookEvery)
	}
}

// look compares the node's sockets with the node ports, and tells of what is new and what is over.
func (w *Watcher) look(now time.Time) {
	w.mu.Lock()
	uses, checks, on := w.uses, w.checks, w.on
	w.mu.Unlock()
	var sockets []Socket
	if len(uses)+len(checks) > 0 {
		var err error
		// The agent's own sockets are listed last: one that it opened meanwhile is not taken for another's.
		if sockets, err = w.sockets(); err != nil {
			w.fail(err)
			return
		}
	}
	clashes := Clashes(uses, checks, on, sockets, w.own())

	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = ""
	w.name(clashes)
	now = now.UTC()
	w.report = report{Checked: now, NodePorts: len(uses) + len(checks), Clashes: make([]clashEntry, 0, len(clashes))}
	current := map[place]Clash{}
	for _, c := range clashes {
		current[c.place()] = c
		w.report.Clashes = append(w.report.Clashes, clashEntry{c.Service.Namespace, c.Service.Name, c.Protocol, c.Port,
			c.HealthCheck, c.Listener.String(), c.UID, c.Process})
		if _, known := w.known[c.place()]; !known {
			w.tell("A program listens on a Service's node port and is not reached there", c)
		}
	}
	for _, c := range sortedGone(w.known, current) {
		w.tell("No clash with a program on a node port any more", c)
	}
	w.known = current
	w.gauge.Set(float64(len(clashes)))
}

// name finds the processes of clashes that are new, and keeps those of the others.
func (w *Watcher) name(clashes []Clash) {
	asked := map[uint32]bool{}
	for i := range clashes {
		c := &clashes[i]
		if known, ok := w.known[c.place()]; ok && known.inode == c.inode {
			c.Process = known.Process
		} else {
			asked[c.inode] = true
		}
	}
	if len(asked) == 0 {
		return
	}
	names := w.processes(asked)
	for i := range clashes {
		if asked[clashes[i].inode] {
			clashes[i].Process = names[clashes[i].inode]
		}
	}
}

func (w *Watcher) tell(message string, c Clash) {
	process := c.Process
	if process == "" {
		process = "unknown"
	}
	w.log.Info(message, "service", c.Service, "protocol", c.Protocol, "port", c.Port, "healthCheckNodePort", c.HealthCheck,
		"listener", c.Listener, "process", process, "uid", c.UID)
}

func (w *Watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != err.Error() {
		w.failed = err.Error()
		w.log.Error(err, "Cannot look for programs that listen on node ports")
	}
}

// ServeHTTP answers with the last look, as JSON.
func (w *Watcher) ServeHTTP(out http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	body, err := json.MarshalIndent(w.report, "", "  ")
	w.mu.Unlock()
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "application/json")
	out.Header().Set("X-Content-Type-Options", "nosniff")
	// A client that has gone cannot be told.
	_, _ = out.Write(append(body, '\n'))
}
