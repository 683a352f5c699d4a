package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// portsReport is what `ports -o json` prints.
type portsReport struct {
	// Pools in the order in which they have the say; the last, without a name, is what they leave.
	Pools []poolEntry `json:"pools"`
	// Ports that somebody has or that are kept, by number.
	Ports []portEntry `json:"ports"`
	// Clashes are the Services in whose way programs on nodes are, by name.
	Clashes []clashEntry `json:"clashes,omitempty"`
}

type poolEntry struct {
	Name   string `json:"name"`
	Ranges string `json:"ranges"`
	Size   int    `json:"size"`
	Used   int    `json:"used"`
	Kept   int    `json:"reserved"`
	Free   int    `json:"free"`
	// FreeRanges are the ports that nobody has and that are kept for nobody.
	FreeRanges string `json:"freeRanges"`
}

type portEntry struct {
	Port int    `json:"port"`
	Pool string `json:"pool"`
	// Service as namespace/name.
	Service string   `json:"service"`
	Uses    []string `json:"uses"`
	// KeptUntil is set where the Service was deleted.
	KeptUntil *time.Time `json:"keptUntil,omitempty"`
	// DuplicateOf is the Service that keeps the port which this one has, too.
	DuplicateOf string `json:"duplicateOf,omitempty"`
}

// clashEntry is what the manager says of a Service on whose ports programs listen.
type clashEntry struct {
	// Service as namespace/name.
	Service string    `json:"service"`
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
}

// ports is the command of that name.
func ports(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kubectl fairlead ports", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var at cluster
	at.flags(flags)
	pool := flags.String("pool", "", "only this NodePortPool; empty: all, and what they leave")
	format := flags.String("o", "table", "table or json")
	text := flags.String("node-port-range", portalloc.DefaultRange.String(), "the API server's --service-node-port-range, which it does not tell")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitFine
	case err != nil:
		return exitFailed
	}
	report, err := lookAtPorts(ctx, at, *text, *format, flags.Args())
	if err == nil {
		report, err = report.only(*pool)
	}
	if err == nil {
		err = report.print(stdout, *format)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kubectl fairlead ports: %v\n", err)
		return exitFailed
	}
	if len(report.Clashes) > 0 || slices.ContainsFunc(report.Ports, func(p portEntry) bool { return p.DuplicateOf != "" }) {
		return exitFindings
	}
	return exitFine
}

func lookAtPorts(ctx context.Context, at cluster, text, format string, rest []string) (*portsReport, error) {
	server, err := portalloc.ParseRange(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--node-port-range: %w", err)
	case format != "table" && format != "json":
		return nil, fmt.Errorf("-o: %q is neither table nor json", format)
	case len(rest) > 0:
		return nil, fmt.Errorf("%q is not understood: there are only flags", rest[0])
	}
	c, err := at.connect()
	if err != nil {
		return nil, err
	}
	services, pools, err := portObjects(ctx, c)
	if err != nil {
		return nil, err
	}
	return reportPorts(server, services, pools, time.Now()), nil
}

// reportPorts counts. Neither Services nor pools are changed.
func reportPorts(server portalloc.Range, services []*corev1.Service, pools []*v1alpha1.NodePortPool, now time.Time) *portsReport {
	var shares []portalloc.Pool
	var holds []portalloc.Hold
	for _, p := range portalloc.ByAge(pools) {
		shares = append(shares, portalloc.ReadPool(p))
		holds = append(holds, portalloc.ReadHolds(p)...)
	}
	ledger := portalloc.Rebuild(server, shares, services, holds, now)
	report := &portsReport{}
	for _, s := range ledger.Shares() {
		u := ledger.Usage(s.Pool.Name)
		report.Pools = append(report.Pools, poolEntry{Name: s.Pool.Name, Ranges: s.Ranges.String(), Size: u.Size, Used: u.Used, Kept: u.Kept,
			Free: u.Free, FreeRanges: ledger.Free(s.Pool.Name).String()})
	}
	byKey := map[portalloc.Key]*corev1.Service{}
	for _, svc := range services {
		byKey[portalloc.KeyOf(svc)] = svc
	}
	for _, claim := range ledger.Claims() {
		for i, key := range claim.Services {
			entry := portEntry{Port: claim.Port, Pool: ledger.PoolOf(claim.Port), Service: key.String(), Uses: portalloc.UsesOf(byKey[key], claim.Port)}
			if i > 0 {
				entry.DuplicateOf = claim.Services[0].String()
			}
			report.Ports = append(report.Ports, entry)
		}
	}
	for _, h := range ledger.Holds() {
		report.Ports = append(report.Ports, portEntry{Port: h.Port, Pool: ledger.PoolOf(h.Port), Service: h.Service.String(), Uses: h.Uses, KeptUntil: new(h.Until.UTC())})
	}
	slices.SortStableFunc(report.Ports, func(a, b portEntry) int { return cmp.Compare(a.Port, b.Port) })
	for _, svc := range services {
		c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsClear)
		if c != nil && c.Status == metav1.ConditionFalse {
			report.Clashes = append(report.Clashes, clashEntry{portalloc.KeyOf(svc).String(), c.LastTransitionTime.UTC(), c.Message})
		}
	}
	slices.SortFunc(report.Clashes, func(a, b clashEntry) int { return cmp.Compare(a.Service, b.Service) })
	return report
}

// only is the report of one pool; "": of all.
func (r *portsReport) only(pool string) (*portsReport, error) {
	if pool == "" {
		return r, nil
	}
	part := &portsReport{}
	var names []string
	for _, p := range r.Pools {
		if p.Name == pool {
			part.Pools = append(part.Pools, p)
		}
		if p.Name != "" {
			names = append(names, p.Name)
		}
	}
	if len(part.Pools) == 0 {
		return nil, fmt.Errorf("no NodePortPool is called %q: there are %s", pool, cmp.Or(strings.Join(names, ", "), "none"))
	}
	has := map[string]bool{}
	for _, p := range r.Ports {
		if p.Pool == pool {
			part.Ports = append(part.Ports, p)
			has[p.Service] = true
		}
	}
	for _, c := range r.Clashes {
		if has[c.Service] {
			part.Clashes = append(part.Clashes, c)
		}
	}
	return part, nil
}

func (r *portsReport) print(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POOL\tRANGES\tPORTS\tUSED\tRESERVED\tFREE\tFREE RANGES")
	for _, p := range r.Pools {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", cmp.Or(p.Name, "-"), p.Ranges, p.Size, p.Used, p.Kept, p.Free, p.FreeRanges)
	}
	// An empty line ends a table: each has columns of its own width.
	if len(r.Ports) > 0 {
		fmt.Fprintln(table, "\nPORT\tPOOL\tSERVICE\tFOR\tNOTE")
	}
	for _, p := range r.Ports {
		note := ""
		switch {
		case p.KeptUntil != nil:
			note = "deleted, kept until " + p.KeptUntil.Format(time.RFC3339)
		case p.DuplicateOf != "":
			note = "DUPLICATE: " + p.DuplicateOf + " has it"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", p.Port, cmp.Or(p.Pool, "-"), p.Service, strings.Join(p.Uses, ","), note)
	}
	if len(r.Clashes) > 0 {
		fmt.Fprintln(table, "\nSERVICE\tSINCE\tIN THE WAY")
	}
	for _, c := range r.Clashes {
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.Service, c.Since.Format(time.RFC3339), c.Message)
	}
	return table.Flush()
}
