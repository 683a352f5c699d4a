// Package inside is the first process of the playground's namespaces: it arranges mounts and network, brings the cluster
// up, keeps its programs running, reaps, and answers requests from outside. All that it makes ends with it, since the
// kernel ends the namespaces of a process namespace's first process with it; so it needs no way to shut down in order.
package inside

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/cluster"
	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/process"
	"github.com/fairlead/fairlead/cmd/playground/table"
)

// Main is `playground init`; it returns only if it fails.
func Main() int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "playground init is what `playground up` starts in its namespaces, and nothing else")
		return 2
	}
	// Pipes of the launcher must not live on in programs that are started here.
	syscall.CloseOnExec(control.ConfigFD)
	syscall.CloseOnExec(control.EventsFD)
	events := control.NewEventWriter(os.NewFile(control.EventsFD, "events"))
	config := os.NewFile(control.ConfigFD, "config")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		os.Exit(128 + int(syscall.SIGTERM))
	}()
	if err := run(config, events); err != nil {
		events.Send(control.Event{Kind: control.Failed, Text: err.Error()})
		return 1
	}
	select {} // until the launcher ends, or a signal comes
}

func run(pipe *os.File, events *control.EventWriter) error {
	decoder := json.NewDecoder(pipe)
	var config control.Config
	if err := decoder.Decode(&config); err != nil {
		return fmt.Errorf("reading the launcher's configuration: %w", err)
	}
	go func() {
		// The launcher never writes again: the pipe ends when it does.
		_, _ = io.Copy(io.Discard, io.MultiReader(decoder.Buffered(), pipe))
		os.Exit(1)
	}()
	p := &playground{config: config, events: events}
	return p.up(context.Background())
}

type playground struct {
	config control.Config
	events *control.EventWriter

	network *network.Network
	cluster *cluster.Cluster
}

// step runs one step and reports how long it took.
func (p *playground) step(name string, do func() error) error {
	begun := time.Now()
	if err := do(); err != nil {
		return err
	}
	p.done(name, begun)
	return nil
}

func (p *playground) done(name string, begun time.Time) {
	p.events.Send(control.Event{Kind: control.StepDone, Name: name, Seconds: time.Since(begun).Seconds()})
}

// up brings everything up, in the order of what needs what.
func (p *playground) up(ctx context.Context) error {
	nodes := network.Nodes()
	processes, err := process.NewTable()
	if err != nil {
		return err
	}
	err = p.step("namespaces, links, routes", func() (err error) {
		if err := syscall.Sethostname([]byte("fairlead")); err != nil {
			return fmt.Errorf("naming the host: %w", err)
		}
		if err := mount(append(p.config.Keep, p.config.RunDir, p.config.Assets, p.config.Bin, p.config.Manifests, p.config.Images)); err != nil {
			return err
		}
		p.network, err = network.New(nodes)
		return err
	})
	if err != nil {
		return err
	}
	logs := filepath.Join(p.config.RunDir, cluster.LogDirName)
	programs := &cluster.Programs{LogDir: logs, Table: processes, Notice: func(text string) {
		p.events.Send(control.Event{Kind: control.Notice, Text: text})
	}}
	p.cluster = &cluster.Cluster{Config: p.config, Network: p.network, Nodes: nodes, Programs: programs}
	server := &server{table: processes, namespaces: map[string]*network.Namespace{}, list: p.cluster.Namespaces}
	for _, n := range p.network.All() {
		server.namespaces[n.Name] = n
	}
	if err := p.step("certificates", p.cluster.PreparePKI); err != nil {
		return err
	}
	if err := server.listen(p.config.RunDir); err != nil {
		return err
	}
	if err := p.startCluster(ctx); err != nil {
		return err
	}
	if !p.config.Demo {
		p.events.Send(control.Event{Kind: control.Ready})
		return nil
	}
	var targets []control.Target
	var clients []table.Client
	err = p.step("demonstration: Pods serve, balancers answer", func() (err error) {
		targets, clients, err = p.cluster.Demo(ctx)
		return err
	})
	if err != nil {
		return err
	}
	p.events.Send(control.Event{Kind: control.Ready, Services: targets})
	go table.Run(ctx, clients, func(rows []control.Row) {
		p.events.Send(control.Event{Kind: control.Traffic, Table: rows})
	})
	return nil
}

// startCluster starts everything as soon as what it needs is there, and waits for it in the order in which it comes up.
func (p *playground) startCluster(ctx context.Context) error {
	c := p.cluster
	type rendered struct {
		manifests cluster.Manifests
		err       error
	}
	rendering := make(chan rendered, 1)
	go func() {
		manifests, err := c.RenderManifests()
		rendering <- rendered{manifests, err}
	}()
	if err := c.StartRuntimes(ctx); err != nil {
		return err
	}
	c.StartCloud(ctx)
	if err := p.step("etcd and kube-apiserver", func() error { return c.StartAPIServer(ctx) }); err != nil {
		return err
	}
	nodes := time.Now()
	for _, start := range []func(context.Context) error{c.StartControllers, c.StartKubelets, c.RoutePods} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	err := p.step("Fairlead's kinds and roles", func() error {
		r := <-rendering
		if r.err != nil {
			return r.err
		}
		return c.Install(ctx, r.manifests)
	})
	if err != nil {
		return err
	}
	ours := time.Now()
	if err := c.StartFairlead(ctx); err != nil {
		return err
	}
	if err := c.AwaitNodes(ctx); err != nil {
		return err
	}
	p.done("controllers, scheduler, 3 kubelets ready", nodes)
	if err := c.AwaitFairlead(ctx); err != nil {
		return err
	}
	p.done("manager and 3 node agents ready", ours)
	return nil
}
