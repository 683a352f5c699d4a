// Command node-agent programs one node's kernel so that packets to Services find their endpoints; it stands in for
// kube-proxy. This package is flags and wiring only: dataplane/sync watches, dataplane/model decides,
// dataplane/nftables writes, dataplane/health tells how it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/dataplane/health"
	"github.com/fairlead/fairlead/dataplane/nftables"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
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

type flags struct {
	kubeconfig, nodeName, config string
	cleanup                      bool
	verbosity                    int
}

// parseFlags reads the command line; help goes to out, and is the error flag.ErrHelp.
func parseFlags(args []string, out io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; default: the Pod's service account")
	set.StringVar(&f.nodeName, "node-name", "", "`name` of this node's Node object; default: the host name in lower case")
	set.StringVar(&f.config, "config", "", "`file` with a NodeAgentConfiguration; default: all its defaults")
	set.BoolVar(&f.cleanup, "cleanup", false, "remove our tables from the kernel, nothing else, and exit")
	set.IntVar(&f.verbosity, "v", 0, "log `level`; 1 tells of each write")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(out, "Usage: %s [flags]\n\nPrograms this node for Services. SIGTERM ends it and leaves the rules in place.\n\n", name)
			set.SetOutput(out)
			set.PrintDefaults()
		}
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; all options start with --", set.Arg(0))
	}
	if f.nodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("finding the host name (set --node-name instead): %w", err)
		}
		f.nodeName = strings.ToLower(strings.TrimSpace(host))
	}
	return f, nil
}

// run returns when the context ends, or at once with an error that says what to change.
func run(ctx context.Context, args []string, out io.Writer) error {
	f, err := parseFlags(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := newLogger(f.verbosity)
	if f.cleanup {
		err := nftables.Cleanup(nftables.Options{})
		if errors.Is(err, syscall.EPERM) {
			err = fmt.Errorf("removing our tables takes root or CAP_NET_ADMIN: %w", err)
		}
		return err
	}
	config, err := loadConfiguration(f.config)
	if err != nil {
		return err
	}
	restConfig, err := loadKubeconfig(f.kubeconfig)
	if err != nil {
		return err
	}
	source, err := dpsync.NewSource(restConfig, f.nodeName, config.coexist())
	if err != nil {
		return err
	}
	modelOptions, err := config.modelOptions(f.nodeName)
	if err != nil {
		return err
	}
	backend, err := nftables.New(nftables.Options{})
	if err != nil {
		return fmt.Errorf("opening the kernel's nftables: %w", err)
	}
	log.Info("Starting", "node", f.nodeName, "server", restConfig.Host, "mode", config.Mode)
	config.warn(log)
	ensureSysctls(log, "/proc/sys")
	serve(logr.NewContext(ctx, log), log, config, dpsync.Options{
		Model:        modelOptions,
		Source:       source,
		Addresses:    dpsync.MachineAddresses,
		Backend:      backend,
		MinInterval:  config.MinSyncPeriod.Duration,
		FullInterval: config.SyncPeriod.Duration,
	})
	log.Info("Stopped, leaving the rules in place")
	return backend.Close()
}

// serve runs the loop with its health and metrics servers until the context ends.
func serve(ctx context.Context, log logr.Logger, config *configuration, options dpsync.Options) {
	observer := health.New(log)
	defer observer.Close()
	options.Observer = observer
	var servers sync.WaitGroup
	defer servers.Wait()
	if address := *config.HealthzBindAddress; address != "" {
		servers.Go(func() { health.Serve(ctx, log, address, observer.Handler()) })
	}
	if address := *config.MetricsBindAddress; address != "" {
		servers.Go(func() { health.Serve(ctx, log, address, observer.MetricsHandler("nftables")) })
	}
	dpsync.New(options).Run(ctx)
}

// loadKubeconfig does not talk to the API server: one that cannot be reached is no error.
func loadKubeconfig(path string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if path == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("not running in a Pod: name a file with --kubeconfig")
		}
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the API server: %w", err)
	}
	config.UserAgent = "fairlead-node-agent"
	return config, nil
}

// newLogger sends klog, which client-go uses too, to stderr.
func newLogger(verbosity int) logr.Logger {
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	// Both flags exist in every klog.
	_ = set.Set("v", fmt.Sprint(verbosity))
	_ = set.Set("logtostderr", "true")
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{logUnlessTold}
	return klog.Background()
}

// logUnlessTold logs what client-go could not do, but for requests that never reached the API server: dataplane/sync
// tells of those once, for all watches together.
func logUnlessTold(ctx context.Context, err error, msg string, keysAndValues ...any) {
	if unreached := (*url.Error)(nil); errors.As(err, &unreached) {
		return
	}
	klog.FromContext(ctx).Error(err, msg, keysAndValues...)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
