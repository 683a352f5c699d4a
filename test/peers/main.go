// Command peers measures kube-controller-manager and Fairlead's manager, each with its controllers of EndpointSlices,
// Endpoints and mirroring and no others, against the same real API server, one after the other, and prints Markdown
// tables of requests, CPU time, memory and latency.
//
// There are no kubelets: the program itself creates Nodes, Services and Pods and writes the Pods' statuses, the same ones
// in the same order for both. Writes are counted in the API server's audit log; a counting proxy would see as much, but
// its CPU time would be taken from the one that is measured. It is no test: nothing fails where a figure disappoints.
//
// It needs the programs of a control plane (see test/controlplane), Linux, and loopback, and no rights. What it starts
// ends with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
)

// options are what the command line says.
type options struct {
	assets, manager, crds, controllers string
	runs                               int
	workloads, peers                   []string
	scale                              float64
	// knobs are the settings for the curves, by peer.
	knobs          map[string][]knob
	memory         bool
	pods, services int
	json           string
	keep           bool
}

// curveName is the curves' name in -workloads.
const curveName = "curve"

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatal("peers: ", err)
	}
}

func parse(args []string) (options, error) {
	var o options
	o.workloads = []string{curveName}
	for _, g := range groups(1) {
		o.workloads = append(o.workloads, g.name)
	}
	known := slices.Clone(o.workloads)
	o.peers = []string{theirs, ours}
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	list := func(into *[]string, known []string) func(string) error {
		return func(value string) error {
			*into = strings.Split(value, ",")
			for _, v := range *into {
				if !slices.Contains(known, v) {
					return fmt.Errorf("there is no %q: choose from %s", v, strings.Join(known, ", "))
				}
			}
			return nil
		}
	}
	fs.StringVar(&o.assets, "assets", os.Getenv("KUBEBUILDER_ASSETS"), "`folder` of etcd, kube-apiserver and kube-controller-manager")
	fs.StringVar(&o.manager, "manager", filepath.Join("bin", "manager"), "Fairlead's manager, a `file`")
	fs.StringVar(&o.crds, "crds", filepath.Join("config", "crd", "bases"), "`folder` of Fairlead's custom resources")
	fs.StringVar(&o.controllers, "controllers", "endpointslice,endpoints,mirroring", "`list` of controllers of Fairlead's manager to run")
	fs.IntVar(&o.runs, "runs", 3, "measure so many times and print medians; the peers take turns in being first")
	fs.Func("workloads", "`list` of "+strings.Join(known, ", "), list(&o.workloads, known))
	fs.Func("peers", "`list` of "+strings.Join(o.peers, ", "), list(&o.peers, []string{theirs, ours}))
	fs.Float64Var(&o.scale, "scale", 1, "multiplies the numbers of Pods and flips")
	// Theirs is the delay itself. Ours is its bound: after writes of one slice a fifth of it.
	delays := map[string]*string{
		theirs: fs.String("delays", "0s,100ms,500ms,1s", "`list` of kube-controller-manager's batch delays for the curves"),
		ours:   fs.String("own-delays", "200ms,500ms,2s,4s", "`list` of as many batch delays of Fairlead's manager"),
	}
	quick := fs.Bool("quick", false, "a look in under 2 minutes: one run, 50x40 and 1x1000 at a quarter of their size")
	fs.BoolVar(&o.memory, "memory", false, "measure memory with many Pods, and nothing else")
	fs.IntVar(&o.pods, "pods", 100_000, "Pods for -memory")
	fs.IntVar(&o.services, "services", 10_000, "Services for -memory")
	fs.StringVar(&o.json, "json", "", "`file` for all that was measured")
	fs.BoolVar(&o.keep, "keep", false, "keep the folder of logs")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.knobs = map[string][]knob{}
	for peer, list := range delays {
		for delay := range strings.SplitSeq(*list, ",") {
			d, err := time.ParseDuration(delay)
			if err != nil || d < 0 {
				return o, fmt.Errorf("-delays, -own-delays: %q is not a delay: write some such as 100ms", delay)
			}
			o.knobs[peer] = append(o.knobs[peer], knob(d))
		}
	}
	if len(o.knobs[theirs]) != len(o.knobs[ours]) {
		return o, errors.New("-delays and -own-delays must be of equal length: the peers take turns")
	}
	if *quick {
		o.runs, o.scale, o.workloads = 1, 0.25, []string{"50x40", "1x1000"}
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag: flags begin with -", fs.Arg(0))
	case o.assets == "":
		return o, errors.New("there is no control plane: name its folder with -assets or KUBEBUILDER_ASSETS, or use make bench-endpoints")
	case o.runs < 1 || o.scale <= 0 || o.scale > 10:
		return o, errors.New("-runs must be positive, and -scale too and at most 10")
	case o.services < 1 || o.pods < o.services || o.pods > 1<<23 || o.pods%o.services != 0:
		return o, errors.New("-pods must be a multiple of -services, and at most 8388608")
	}
	for _, file := range []string{o.manager, filepath.Join(o.assets, "kube-apiserver"), filepath.Join(o.assets, theirs)} {
		if _, err := os.Stat(file); err != nil {
			return o, fmt.Errorf("looking for the programs: %w: run make build and make controlplane", err)
		}
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, remove, err := process.Folder(ctx, o.keep)
	if err != nil {
		return err
	}
	defer func() { err = remove(err) }()
	begin := time.Now()
	b := &bench{
		programs:    programs{theirs: filepath.Join(o.assets, theirs), ours: o.manager},
		controllers: o.controllers, tracker: newTracker(), nodes: 60, patience: time.Minute,
	}
	services := 200
	if o.memory {
		b.nodes, services, b.patience = max(10, o.pods/100), o.services, 30*time.Minute
	}
	versions, err := b.programs.versions()
	if err != nil {
		return err
	}
	// Writes are counted at the one place where both peers' are seen the same way, at a cost that is the API server's.
	b.plane, err = controlplane.Start(ctx, controlplane.Options{
		Dir: dir, Assets: o.assets, Address: "127.0.0.1", Audited: []string{userTheirs, userOurs}, ServiceRange: "10.0.0.0/12",
	})
	defer b.plane.Stop()
	if err == nil {
		err = b.plane.AddKinds(o.crds)
	}
	if err != nil {
		return err
	}
	b.audit = controlplane.NewAuditReader(filepath.Join(dir, controlplane.AuditLog))
	// A watch that stays open would keep the API server from ending.
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.prepare(ctx, services); err != nil {
		return err
	}
	if err := b.tracker.run(watching, b.plane.Client); err != nil {
		return err
	}
	r := results{Began: begin, CPUs: runtime.NumCPU(), Versions: versions, Runs: o.runs, Scale: o.scale}
	err = r.fill(ctx, b, o)
	r.Seconds = time.Since(begin).Seconds()
	r.print(out)
	if o.json != "" {
		err = errors.Join(err, r.write(o.json))
	}
	return err
}

// results are all that was measured.
type results struct {
	Began        time.Time
	CPUs         int
	Versions     []string
	Runs         int
	Scale        float64
	Measurements []Measurement `json:",omitempty"`
	Curves       []Measurement `json:",omitempty"`
	Footprints   []Footprint   `json:",omitempty"`
	Seconds      float64
}

// fill measures what was asked for. What was measured before an error stays.
func (r *results) fill(ctx context.Context, b *bench, o options) (err error) {
	if o.memory {
		r.Footprints, err = b.footprints(ctx, o.peers, o.services, o.pods)
		return err
	}
	for run := range o.runs {
		peers := slices.Clone(o.peers)
		if run%2 == 1 {
			slices.Reverse(peers)
		}
		for _, g := range groups(o.scale) {
			if !slices.Contains(o.workloads, g.name) {
				continue
			}
			for _, name := range peers {
				measured, err := b.runGroup(ctx, name, atDefault, g, run+1)
				r.Measurements = append(r.Measurements, measured...)
				if err != nil {
					return err
				}
			}
		}
	}
	if !slices.Contains(o.workloads, curveName) {
		return nil
	}
	for run := range o.runs {
		for i := range o.knobs[theirs] {
			for _, name := range o.peers { // by turns, so that a busy minute of the machine hits both
				measured, err := b.runGroup(ctx, name, o.knobs[name][i], curve(o.scale), run+1)
				r.Curves = append(r.Curves, measured...)
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *results) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

func (r *results) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%d CPUs; %s; median of %d, scale %g; measured in %s.\n\n", r.CPUs, strings.Join(r.Versions, "; "), r.Runs, r.Scale,
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	if len(r.Measurements) > 0 {
		overview(w, r.Measurements)
		if musts(w, r.Measurements, r.Scale) {
			_, _ = fmt.Fprintln(w, "All of it is kept.")
		}
	}
	if len(r.Curves) > 0 && curves(w, r.Curves) {
		_, _ = fmt.Fprintln(w, "Ours lies below theirs everywhere.")
	}
	if len(r.Footprints) > 0 {
		footprintTable(w, r.Footprints)
	}
}
