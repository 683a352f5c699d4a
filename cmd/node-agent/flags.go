package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-logr/logr"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/buildinfo"
	"github.com/fairlead/fairlead/dataplane/sysctl"
)

// errAnswered is that of a command line that asks for help or the version, and has got it.
var errAnswered = flag.ErrHelp

type flags struct {
	kubeconfig, nodeName, config, sysctls string
	cleanup                               bool
	verbosity                             int
	given                                 map[string]bool
}

// parseFlags reads the command line; help and the version go to out, with the error errAnswered.
func parseFlags(args []string, out io.Writer) (*flags, error) {
	f := &flags{given: map[string]bool{}}
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; default: the Pod's service account")
	set.StringVar(&f.nodeName, "node-name", "", "`name` of this node's Node object; default: the host name in lower case")
	set.StringVar(&f.nodeName, "hostname-override", "", "another `name` of --node-name, as kube-proxy has it")
	set.StringVar(&f.config, "config", "", "`file` with a NodeAgentConfiguration, or a KubeProxyConfiguration as kube-proxy reads it; default: all defaults of the former")
	set.StringVar(&f.sysctls, "sysctls", sysctl.Root, "`folder` of the kernel's settings, where "+sysctl.Root+" cannot be written to")
	set.BoolVar(&f.cleanup, "cleanup", false, "remove our tables from the kernel, nothing else, and exit")
	version := set.Bool("version", false, "print the version and exit")
	set.IntVar(&f.verbosity, "v", 0, "log `level`; 1 tells of each write")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, errAnswered) {
			fmt.Fprintf(out, "Usage: %s [flags]\n\nPrograms this node for Services. SIGTERM ends it and leaves the rules in place.\n"+
				"A flag comes before what the configuration says.\n\n", name)
			set.SetOutput(out)
			set.PrintDefaults()
			return nil, err
		}
		return nil, fmt.Errorf("%w: see --help", err)
	}
	if *version {
		fmt.Fprintln(out, buildinfo.Line(name))
		return nil, errAnswered
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag: flags begin with --, see --help", set.Arg(0))
	}
	set.Visit(func(g *flag.Flag) { f.given[g.Name] = true })
	return f, nil
}

// lay puts the flags over a configuration, and the host name under it.
func (f *flags) lay(c *configuration) error {
	if f.kubeconfig != "" {
		c.ClientConnection.Kubeconfig = f.kubeconfig
	}
	if f.given["v"] {
		c.Verbosity = int32(min(f.verbosity, 100))
	}
	if name := strings.ToLower(strings.TrimSpace(f.nodeName)); name != "" {
		c.NodeName = name
	}
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding the host name (set --node-name instead): %w", err)
		}
		c.NodeName = strings.ToLower(strings.TrimSpace(host))
	}
	if len(validation.IsDNS1123Subdomain(c.NodeName)) > 0 {
		return fmt.Errorf("%q cannot name a Node: set --node-name to the name of this machine's", c.NodeName)
	}
	return nil
}

// loadKubeconfig does not talk to the API server: one that cannot be reached is no error.
func loadKubeconfig(client configv1alpha1.ClientConnection) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if client.Kubeconfig == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("not running in a Pod: name a file with --kubeconfig")
		}
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", client.Kubeconfig)
		if clientcmd.IsEmptyConfig(err) {
			err = fmt.Errorf("%s names no cluster: write one, with a user and a current-context", client.Kubeconfig)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the API server: %w", err)
	}
	config.UserAgent = "fairlead-node-agent"
	if client.QPS != nil {
		config.QPS = *client.QPS
	}
	if client.Burst != nil {
		config.Burst = int(*client.Burst)
	}
	return config, nil
}

// newLogger sends klog, which client-go uses too, to stderr.
func newLogger(verbosity int32) logr.Logger {
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	// Both flags exist in every klog.
	_ = set.Set("v", fmt.Sprint(verbosity))
	_ = set.Set("logtostderr", "true")
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{(&refusals{}).log}
	return klog.Background()
}
