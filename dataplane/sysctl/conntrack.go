package sysctl

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// The table counts as about to be full above warnAt percent, and as well again below calmAt, so that one that stays
// near the line is not mentioned all the time.
const (
	warnAt    = 80
	calmAt    = 70
	lookEvery = 10 * time.Second
	// sayAgain is how often a table that stays full is mentioned.
	sayAgain = 10 * time.Minute
)

// Table is the kernel's table of connections as one network namespace sees it: its entries are the namespace's own,
// its limit holds for each namespace.
type Table struct {
	root    string
	entries prometheus.GaugeFunc
	limit   prometheus.GaugeFunc
}

var _ prometheus.Collector = (*Table)(nil)

// NewTable reads under root.
func NewTable(root string) *Table {
	gauge := func(metric, help, setting string) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metric, Help: help}, func() float64 {
			// A kernel that does not track connections has none.
			value, _ := Read(root, setting)
			return float64(value)
		})
	}
	return &Table{
		root:    root,
		entries: gauge("fairlead_node_conntrack_entries", "Connections in the kernel's table.", conntrackCount),
		limit:   gauge("fairlead_node_conntrack_limit", "Connections that the kernel's table may hold.", conntrackMax),
	}
}

// Describe is a Collector's.
func (t *Table) Describe(out chan<- *prometheus.Desc) {
	t.entries.Describe(out)
	t.limit.Describe(out)
}

// Collect is a Collector's.
func (t *Table) Collect(out chan<- prometheus.Metric) {
	t.entries.Collect(out)
	t.limit.Collect(out)
}

// Watch says when the table is about to be full, and that it is well again, until the context ends.
func (t *Table) Watch(ctx context.Context, log logr.Logger) {
	var w fullness
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		entries, err := Read(t.root, conntrackCount)
		limit, limitErr := Read(t.root, conntrackMax)
		if err == nil && limitErr == nil {
			w.look(log, time.Now(), entries, limit)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// fullness remembers what was said.
type fullness struct {
	warned time.Time // zero: all is well
}

func (f *fullness) look(log logr.Logger, now time.Time, entries, limit int) {
	if limit <= 0 {
		return
	}
	percent := entries * 100 / limit
	switch {
	case percent >= warnAt && (f.warned.IsZero() || now.Sub(f.warned) >= sayAgain):
		f.warned = now
		log.Info("The table of connections is almost full; when it is, new connections are dropped", "entries", entries, "limit", limit,
			"remedy", "raise conntrack.min in the configuration, or lower its timeouts")
	case percent < calmAt && !f.warned.IsZero():
		f.warned = time.Time{}
		log.Info("The table of connections has room again", "entries", entries, "limit", limit)
	}
}
