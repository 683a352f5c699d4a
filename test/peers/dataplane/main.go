// Command dataplane measures kube-proxy, in mode nftables, and Fairlead's node agent on the same objects, served by the
// same real API server: how long each takes to write all rules and to follow a change, what it costs, and what becomes of
// packets. It prints Markdown tables and draws plots.
//
// The peers take turns, each on a node of its own made of network namespaces, with a client on one side and endpoints on
// the other. What a peer says of itself is read from its metrics, which bear the same names; all else is measured with
// packets and clocks. It is no test: nothing fails where a figure disappoints. What was measured is kept in a file, and a
// run that was cut goes on from there.
//
// It needs the programs of a control plane and kube-proxy (see test/controlplane), nft, which kube-proxy calls, Linux, and
// root or user namespaces. It changes nothing outside of namespaces that it makes, and what it starts ends with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
)

// options are what the command line says.
type options struct {
	assets, agent, results, plots string
	plan                          []planned
	peers                         []string
	loadAt                        Size
	effort                        effort
	lasting                       time.Duration
	reportOnly, keep              bool
}

// planned is a size and how often it is measured.
type planned struct {
	size Size
	runs int
}

const (
	fullPlan  = "1000x3:3,10000x3:3,30000x3:3,5000x3:1,10000x1:1,10000x10:1"
	quickPlan = "1000x3:1"
	// packetsPlan is of -packets, whose results are in a file of their own.
	packetsPlan = "1000x3:3,10000x3:3"
)

func main() {
	log.SetFlags(log.Ltime)
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil && !inside() && !o.reportOnly {
		var code int
		if code, err = reexecute(); err == nil {
			os.Exit(code)
		}
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = run(ctx, o, os.Stdout)
		stop()
	}
	if err != nil {
		log.Fatal("dataplane: ", err)
	}
}

func parse(args []string) (options, error) {
	o := options{peers: []string{theirs, ours}}
	fs := flag.NewFlagSet("dataplane", flag.ContinueOnError)
	fs.StringVar(&o.assets, "assets", os.Getenv("KUBEBUILDER_ASSETS"), "`folder` of etcd, kube-apiserver and kube-proxy")
	fs.StringVar(&o.agent, "agent", filepath.Join("bin", "node-agent"), "Fairlead's node agent, a `file`")
	fs.StringVar(&o.results, "results", filepath.Join("bin", "bench-dataplane.json"), "`file` of what was measured; a run goes on from what it has")
	fs.StringVar(&o.plots, "plots", "", "`folder` for the plots; none are drawn without")
	plan := fs.String("plan", fullPlan, "`list` of what to measure: Services x endpoints, and how many times")
	loadAt := fs.String("load-at", "10000x3", "`size` at which changes go on for a while")
	fs.Func("peers", "`list` of "+strings.Join(o.peers, ", "), func(value string) error {
		o.peers = strings.Split(value, ",")
		for _, p := range o.peers {
			if p != theirs && p != ours {
				return fmt.Errorf("there is no %q", p)
			}
		}
		return nil
	})
	fs.DurationVar(&o.lasting, "for", 0, "begin nothing more after this time; 0: go on to the end")
	fs.IntVar(&o.effort.Changes, "changes", 34, "single changes in each run")
	fs.IntVar(&o.effort.FirstPackets, "first-packets", 3000, "connections of which each is timed, in each run")
	fs.DurationVar(&o.effort.Lasting, "lasting", 2*time.Second, "how long connections are made, and a stream runs, in each run")
	fs.DurationVar(&o.effort.Load, "load", 30*time.Second, "how long changes go on at the size of -load-at")
	quick := fs.Bool("quick", false, "a look in 2 minutes: 1000x3 once, 10 changes, 5 s of load; the results are not kept")
	packets := fs.Bool("packets", false, "what becomes of packets alone, and four times as long: 1000x3 and 10000x3 three times; the results are kept apart")
	fs.BoolVar(&o.reportOnly, "report", false, "measure nothing: print what the results file has")
	fs.BoolVar(&o.keep, "keep", false, "keep the folder of logs")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		*plan, *loadAt, o.results = quickPlan, "1000x3", ""
		o.effort = effort{Changes: 10, FirstPackets: 1000, Lasting: time.Second, Load: 5 * time.Second}
	}
	if *packets {
		*plan, o.results, o.effort.PacketsOnly = packetsPlan, filepath.Join("bin", "bench-packets.json"), true
		o.effort.Lasting *= 4
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag: flags begin with -", fs.Arg(0))
	}
	if o.effort.Changes < 1 || o.effort.FirstPackets < 1 || o.effort.Lasting <= 0 || o.effort.Load < 2*time.Second {
		return o, errors.New("-changes, -first-packets and -lasting must be positive, and -load at least 2s")
	}
	for part := range strings.SplitSeq(*plan, ",") {
		var p planned
		if _, err := fmt.Sscanf(part, "%dx%d:%d", &p.size.Services, &p.size.Endpoints, &p.runs); err != nil || !fits(p.size) || p.runs < 1 {
			return o, fmt.Errorf("-plan: %q is not a size and a number of runs such as 10000x3:3", part)
		}
		o.plan = append(o.plan, p)
	}
	if _, err := fmt.Sscanf(*loadAt, "%dx%d", &o.loadAt.Services, &o.loadAt.Endpoints); err != nil {
		return o, fmt.Errorf("-load-at: %q is not a size such as 10000x3", *loadAt)
	}
	return o, nil
}

// fits tells whether there are addresses enough.
func fits(s Size) bool {
	return s.Services > 0 && s.Endpoints > 0 && s.Services <= 100_000 && s.Services*s.Endpoints <= 400_000
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	p := programs{theirs: filepath.Join(o.assets, theirs), ours: o.agent}
	if o.reportOnly {
		r := results{file: o.results}
		return errors.Join(r.read(), r.print(out, o.plots))
	}
	for _, file := range []string{p.theirs, p.ours, filepath.Join(o.assets, "kube-apiserver")} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("looking for the programs: %w: use make bench-dataplane", err)
		}
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return fmt.Errorf("kube-proxy calls nft, of the package nftables: %w", err)
	}
	if err := settleIn(); err != nil {
		return err
	}
	versions, err := p.versions()
	if err != nil {
		return err
	}
	r := results{Programs: versions, CPUs: runtime.NumCPU(), Kernel: release(), Effort: o.effort, file: o.results}
	if err := r.load(); err != nil {
		return err
	}
	err = r.fill(ctx, p, o)
	return errors.Join(err, r.print(out, o.plots))
}

// release is the kernel's.
func release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil { // it fails for a bad address alone
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}

// fill measures what is planned and not done yet. What was measured before an error stays.
func (r *results) fill(ctx context.Context, p programs, o options) error {
	begin := time.Now()
	control, err := newNamespace("control", false)
	if err != nil {
		return err
	}
	defer control.close()
	if err := control.up("lo", controlAddress+"/32"); err != nil {
		return err
	}
	over := func() bool { return ctx.Err() != nil || o.lasting > 0 && time.Since(begin) > o.lasting }
	for _, planned := range o.plan {
		b := &bench{control: control, programs: p, effort: o.effort}
		if over() || !r.missing(planned, o.peers) {
			continue
		}
		if err := r.fillSize(ctx, b, o, planned, over); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// missing tells whether anything of a plan is not done yet.
func (r *results) missing(p planned, peers []string) bool {
	for run := range p.runs {
		for _, peer := range peers {
			if !r.done(p.size, run+1, peer) {
				return true
			}
		}
	}
	return false
}

// fillSize measures what is missing at one size, against one API server.
func (r *results) fillSize(ctx context.Context, b *bench, o options, p planned, over func() bool) (err error) {
	dir, remove, err := process.Folder(ctx, o.keep)
	if err != nil {
		return err
	}
	defer func() { err = remove(err) }()
	err = b.control.do(func() (err error) { // its programs are killed when the thread that starts them ends
		b.plane, err = controlplane.Start(ctx, controlplane.Options{Dir: dir, Assets: o.assets, Address: controlAddress, ServiceRange: serviceRange})
		return err
	})
	defer b.plane.Stop()
	if err != nil {
		return err
	}
	b.fleet = &fleet{client: b.plane.Client, etcd: b.plane.EtcdURL, size: p.size, moved: map[int]bool{}}
	began := time.Now()
	if err := b.fleet.create(ctx); err != nil {
		return err
	}
	log.Printf("%s: created in %s", p.size, time.Since(began).Round(time.Second))
	for run := range p.runs {
		peers := slices.Clone(o.peers)
		if run%2 == 1 {
			slices.Reverse(peers)
		}
		for _, peer := range peers {
			if over() || r.done(p.size, run+1, peer) {
				continue
			}
			u, err := b.run(ctx, peer, p.size == o.loadAt)
			if err != nil {
				return err
			}
			u.Run = run + 1
			if err := r.add(u); err != nil {
				return err
			}
		}
	}
	return nil
}
