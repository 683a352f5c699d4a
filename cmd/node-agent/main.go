// Command node-agent programs one node's kernel so that packets to Services find their endpoints; it stands in for
// kube-proxy. This package is flags and wiring only: dataplane/sync watches, dataplane/model decides,
// dataplane/nftables writes, dataplane/health tells how it is, dataplane/listeners who is in the way,
// dataplane/report tells the manager that, and dataplane/sysctl sets up the kernel.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/buildinfo"
	"github.com/fairlead/fairlead/dataplane/health"
	"github.com/fairlead/fairlead/dataplane/listeners"
	"github.com/fairlead/fairlead/dataplane/nftables"
	"github.com/fairlead/fairlead/dataplane/report"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
	"github.com/fairlead/fairlead/dataplane/sysctl"
)

const name = "node-agent"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, oneLine(err))
		os.Exit(1)
	}
}

// run returns when the context ends, or at once with an error that says what to change.
func run(ctx context.Context, args []string, out io.Writer) error {
	f, err := parseFlags(args, out)
	if errors.Is(err, errAnswered) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.cleanup {
		return cleanup()
	}
	config, err := loadConfiguration(f.config)
	if err != nil {
		return err
	}
	if err := f.lay(config); err != nil {
		return err
	}
	log := newLogger(config.Verbosity)
	restConfig, err := loadKubeconfig(config.ClientConnection)
	if err != nil {
		return err
	}
	source, err := dpsync.NewSource(restConfig, config.NodeName, config.coexist())
	if err != nil {
		return err
	}
	modelOptions, err := config.modelOptions(config.NodeName)
	if err != nil {
		return err
	}
	release, err := takeClaim(ctx, log)
	if err != nil || release == nil {
		return err
	}
	defer release()
	backend, err := nftables.New(nftables.Options{MasqueradeMark: 1 << *config.MasqueradeBit})
	if err != nil {
		return fmt.Errorf("opening the kernel's nftables: %w", err)
	}
	log.Info("Starting", "version", buildinfo.Line(name), "node", config.NodeName, "server", restConfig.Host, "mode", config.Mode)
	damage, err := backend.Watch(ctx)
	if err != nil {
		log.Error(err, "Changes that others make to our rules are repaired late", "after", config.SyncPeriod.Duration)
	}
	config.warn(log)
	// After the backend, whose first look makes the kernel load what tracks connections.
	sysctl.AdviseIPv6(log, f.sysctls)
	sysctl.Apply(log, f.sysctls, append(sysctl.Forwarding(), config.conntrack().Settings(sysctl.Cores())...))
	adjustOOMScore(log, config.OOMScoreAdj)
	err = serve(logr.NewContext(ctx, log), log, f.sysctls, config, restConfig, dpsync.Options{
		Model:        modelOptions,
		Source:       source,
		Addresses:    dpsync.MachineAddresses,
		Backend:      backend,
		Damage:       damage,
		MinInterval:  config.MinSyncPeriod.Duration,
		FullInterval: config.SyncPeriod.Duration,
	})
	log.Info("Stopped, leaving the rules in place")
	return errors.Join(err, backend.Close())
}

// observer tells health, listeners and memory what the loop does.
type observer struct {
	*health.Health
	clashes *listeners.Watcher
	memory  *memory
}

var _ dpsync.Observer = observer{}

// Synced is a dpsync.Observer's.
func (o observer) Synced(r dpsync.Result) {
	o.Health.Synced(r)
	o.clashes.Synced(r)
	o.memory.Synced(r)
}

// serve runs the loop with all that stands beside it until the context ends. The error is that of a server that
// cannot listen, and only where the configuration makes that fatal.
func serve(ctx context.Context, log logr.Logger, sysctls string, config *configuration, restConfig *rest.Config, options dpsync.Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	o := observer{Health: health.New(log, options.MinInterval), clashes: listeners.New(log), memory: &memory{}}
	defer o.Close()
	options.Observer = o
	table := sysctl.NewTable(sysctls)
	o.Register(o.clashes, table)
	loopback, err := o.MetricsHandler(health.Loopback{
		Mode: "nftables", Configz: config.configz(), NodePorts: o.clashes, Profiling: config.EnableProfiling,
	})
	if err != nil {
		return fmt.Errorf("encoding the configuration for /configz: %w", err)
	}
	servers := []health.Server{{Address: *config.HealthzBindAddress, Handler: o.Handler()}, {Address: *config.MetricsBindAddress, Handler: loopback}}
	if config.ReportBindAddress != "" {
		reports, err := reportServer(log, restConfig, config.ReportBindAddress, o.clashes)
		if err != nil {
			return err
		}
		servers = append(servers, reports)
	}
	var beside sync.WaitGroup
	failures := make([]error, len(servers))
	for i, server := range servers {
		if server.Address == "" {
			continue
		}
		server.HardFail = config.BindAddressHardFail
		beside.Go(func() {
			if failures[i] = server.Serve(ctx, log); failures[i] != nil {
				stop()
			}
		})
	}
	beside.Go(func() { o.clashes.Run(ctx) })
	beside.Go(func() { table.Watch(ctx, log) })
	cleaner := newCleaner(log, config, o.Health)
	if cleaner != nil {
		options.Flows = cleaner
	}
	loop := dpsync.New(options)
	if cleaner != nil {
		beside.Go(func() { cleaner.Run(ctx, loop) })
	}
	loop.Run(ctx)
	beside.Wait()
	return errors.Join(failures...)
}

// reportServer serves /nodeports to the manager.
func reportServer(log logr.Logger, config *rest.Config, address string, nodePorts http.Handler) (health.Server, error) {
	trust, err := report.NewTrust(log, config, configv1alpha1.WebhookConfigurationName)
	if err != nil {
		return health.Server{}, err
	}
	secure, err := trust.TLS()
	if err != nil {
		return health.Server{}, fmt.Errorf("preparing to tell the manager of node ports: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/nodeports", nodePorts)
	return health.Server{Address: address, Handler: mux, Over: func(l net.Listener) net.Listener {
		return tls.NewListener(report.Bound(l), secure)
	}}, nil
}

// adjustOOMScore is best effort: lowering it takes CAP_SYS_RESOURCE.
func adjustOOMScore(log logr.Logger, score *int32) {
	if score == nil {
		return
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(fmt.Sprint(*score)), 0o644); err != nil {
		log.Info("Cannot set oomScoreAdj", "to", *score, "error", err.Error(),
			"remedy", "give the Pod the priority class system-node-critical in its place")
	}
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
