// Command loadbalancer measures the service controller of k8s.io/cloud-provider and Fairlead's manager, with its
// controller of load balancers alone, on the same fake cloud within the same limits, against the same real API server,
// one after the other: what they call and how long they take to serve many Services, to be started again, to follow a
// node, and to take all of it away.
//
// There are no kubelets and no packets: the program makes Nodes and Services and looks at the cloud. It is no test:
// nothing fails where a figure disappoints.
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

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/test/peers/process"
)

// options are what the command line says.
type options struct {
	assets, manager, peer, crds string
	page, json                  string
	runs, services, nodes       int
	peers                       []string
	keep                        bool
	// wide are the limits while Services are made and deleted, account those while a peer starts again and follows a node.
	wide, account cloud.Limits
}

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatal("loadbalancer: ", err)
	}
}

func parse(args []string) (options, error) {
	o := options{
		wide: cloud.Limits{Reads: cloud.Limit{PerSecond: 200, Burst: 20}, Writes: cloud.Limit{PerSecond: 200, Burst: 20}},
		// About what AWS lets an account do, but for the burst of writes, in which a node would be everywhere at once.
		account: cloud.Limits{Reads: cloud.Limit{PerSecond: 20, Burst: 40}, Writes: cloud.Limit{PerSecond: 5, Burst: 1}},
		peers:   []string{theirs, ours},
	}
	fs := flag.NewFlagSet("loadbalancer", flag.ContinueOnError)
	fs.StringVar(&o.assets, "assets", os.Getenv("KUBEBUILDER_ASSETS"), "`folder` of etcd and kube-apiserver")
	fs.StringVar(&o.manager, "manager", filepath.Join("bin", "manager"), "Fairlead's manager, a `file`")
	fs.StringVar(&o.peer, "peer", filepath.Join("bin", "servicecontroller"), "the service controller of test/peers/servicecontroller, a `file`")
	fs.StringVar(&o.crds, "crds", filepath.Join("config", "crd", "bases"), "`folder` of Fairlead's custom resources")
	fs.StringVar(&o.page, "page", "", "`file` for the page of figures, written when all was measured")
	fs.StringVar(&o.json, "json", "", "`file` for all that was measured; what is in it of the same size counts, too")
	fs.IntVar(&o.runs, "runs", 3, "measure so many times and print medians; the peers take turns in being first")
	fs.IntVar(&o.services, "services", 1000, "Services of one port each")
	fs.IntVar(&o.nodes, "nodes", 10, "Nodes before one is added")
	fs.Func("peers", "`list` of "+strings.Join(o.peers, ", "), func(value string) error {
		for name := range strings.SplitSeq(value, ",") {
			if !slices.Contains([]string{theirs, ours}, name) {
				return fmt.Errorf("there is no %q: choose from %s, %s", name, theirs, ours)
			}
		}
		o.peers = strings.Split(value, ",")
		return nil
	})
	quick := fs.Bool("quick", false, "a look in some 5 minutes: one run of 500 Services, and no page")
	fs.BoolVar(&o.keep, "keep", false, "keep the folder of logs")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		o.runs, o.services, o.page, o.json = 1, 500, "", ""
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag: flags begin with -", fs.Arg(0))
	case o.assets == "":
		return o, errors.New("there is no control plane: name its folder with -assets or KUBEBUILDER_ASSETS, or use make bench-loadbalancer")
	case o.runs < 1 || o.services < 1 || o.services > 2000 || o.nodes < 1 || o.nodes > 200:
		return o, errors.New("-runs must be positive, -services at most 2000, -nodes at most 200")
	}
	for _, file := range []string{o.manager, o.peer, filepath.Join(o.assets, "kube-apiserver"), filepath.Join(o.assets, "etcd")} {
		if _, err := os.Stat(file); err != nil {
			return o, fmt.Errorf("looking for the programs: %w: run make bench-loadbalancer", err)
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
	began := time.Now()
	b, err := start(ctx, o, dir)
	defer b.stop()
	if err != nil {
		return err
	}
	r := results{CPUs: runtime.NumCPU(), Services: o.services, Nodes: o.nodes, Wide: o.wide, Account: o.account}
	if err = r.read(o.json); err != nil {
		return err
	}
	if err = r.fill(ctx, b); err != nil {
		return err
	}
	r.Took += time.Since(began)
	if err = r.write(o.json); err != nil {
		return err
	}
	var page strings.Builder
	r.print(&page)
	if _, err = io.WriteString(out, page.String()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	if o.page != "" {
		if err = os.WriteFile(o.page, []byte(strings.TrimRight(page.String(), "\n")+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing the page: %w", err)
		}
	}
	return nil
}

// results are all that was measured.
type results struct {
	CPUs, Services, Nodes int
	Wide, Account         cloud.Limits
	Measurements          []Measurement
	Took                  time.Duration
}

// read goes on from what is in a file, if there is one, unless that was measured otherwise.
func (r *results) read(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	before := results{}
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil {
		return fmt.Errorf("reading earlier results: %w", err)
	}
	if before.CPUs == r.CPUs && before.Services == r.Services && before.Nodes == r.Nodes && before.Wide == r.Wide && before.Account == r.Account {
		r.Measurements, r.Took = before.Measurements, before.Took
	}
	return nil
}

func (r *results) write(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

func (r *results) fill(ctx context.Context, b *bench) error {
	for run := range b.runs {
		peers := slices.Clone(b.peers)
		if run%2 == 1 {
			slices.Reverse(peers)
		}
		for _, name := range peers {
			measured, err := b.life(ctx, name)
			r.Measurements = append(r.Measurements, measured...)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", name, run+1, err)
			}
		}
	}
	return nil
}
