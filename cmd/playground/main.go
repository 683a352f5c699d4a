// Command playground brings up a real Kubernetes cluster with Fairlead's programs on this machine, without root: a
// control plane, three nodes in two zones, a cloud's load balancers and the internet, all as namespaces of one process.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/buildinfo"
	"github.com/fairlead/fairlead/cmd/playground/applet"
	"github.com/fairlead/fairlead/cmd/playground/balancer"
	"github.com/fairlead/fairlead/cmd/playground/cri"
	"github.com/fairlead/fairlead/cmd/playground/echo"
	"github.com/fairlead/fairlead/cmd/playground/inside"
	"github.com/fairlead/fairlead/cmd/playground/launch"
)

const usage = `Usage: playground [command] [flags]

  up                        bring a playground up; Ctrl-C ends it (the default)
  up --run 'command'        run a shell command inside, exit with its code
  down [id]                 end one playground of this user, or all
  list                      list this user's running playgrounds and their namespaces
  exec NAMESPACE -- COMMAND run a command in a namespace: fl-root, fl-n1, fl-cloud, fl-internet, fl-pod-...
  version                   print the version; --version does the same

Run 'playground up -h' for the flags.
`

func init() {
	// The namespaces live as long as the thread that made them: the main one, which lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	if code, ok := applet.Main(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	command := "up"
	if len(args) > 0 && (args[0] == "--version" || args[0] == "-version") {
		command = "version"
	} else if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	var code int
	var err error
	switch command {
	case "up":
		code, err = up(args)
	case "down":
		code, err = down(args)
	case "list":
		code, err = list(args)
	case "exec":
		code, err = execute(args)
	case "version":
		fmt.Println(buildinfo.Line("playground"))
	case "init": // the rest is what a playground starts itself as
		return inside.Main()
	case "cri":
		return cri.Main(args)
	case "echo":
		return echo.Main(args)
	case "cloud":
		return balancer.Main(args)
	default:
		fmt.Fprintf(os.Stderr, "playground: there is no command %q\n\n%s", command, usage)
		return 2
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground:", err)
	}
	return code
}

// signals are those that end a playground. A reader of our output that ends first, as tee does on Ctrl-C, must not kill
// us before we have cleaned up: SIGPIPE is caught, and not ignored, which children would inherit.
func signals() <-chan os.Signal {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return c
}

// folders are the flags that say where programs are.
type folders struct{ assets, bin string }

func (f *folders) register(flags *flag.FlagSet) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	flags.StringVar(&f.assets, "assets", os.Getenv("FAIRLEAD_ASSETS"), "`folder` of etcd, kube-apiserver and the other programs "+
		"of Kubernetes (default $FAIRLEAD_ASSETS)")
	flags.StringVar(&f.bin, "bin", filepath.Dir(self), "`folder` of manager and node-agent")
	return nil
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet("playground "+name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "%s\nFlags of %s:\n", usage, name)
		flags.PrintDefaults()
	}
	return flags
}

func up(args []string) (int, error) {
	flags := newFlags("up")
	var f folders
	if err := f.register(flags); err != nil {
		return 1, err
	}
	o := launch.Options{Out: os.Stdout, Progress: os.Stderr}
	flags.StringVar(&o.Manifests, "config-dir", "config", "`folder` of Fairlead's manifests")
	flags.StringVar(&o.Images, "images", "", "`folder` of root filesystems by image name, beside the built-in images")
	flags.StringVar(&o.Command, "run", "", "shell `command` to run inside instead of waiting for Ctrl-C")
	demo := flags.Bool("demo", true, "deploy the demonstration (without --run)")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if flags.NArg() > 0 {
		return 2, fmt.Errorf("up takes no argument %q; a command goes into --run '...'", flags.Arg(0))
	}
	o.Assets, o.Bin = f.assets, f.bin
	o.Demo = *demo && o.Command == ""
	return launch.Up(o, signals())
}

func down(args []string) (int, error) {
	flags := newFlags("down")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	running, err := launch.Running()
	if err != nil {
		return 1, err
	}
	ids := flags.Args()
	if len(ids) == 0 {
		for _, dir := range running {
			ids = append(ids, filepath.Base(dir))
		}
	}
	for _, id := range ids {
		dir, err := find(running, id)
		if err != nil {
			return 1, err
		}
		if err := launch.Down(dir); err != nil {
			return 1, err
		}
		fmt.Println("ended", id)
	}
	if len(ids) == 0 {
		fmt.Println("no playground of yours is running")
	}
	return 0, nil
}

// find returns the run folder of an id; an empty id stands for the only one.
func find(running []string, id string) (string, error) {
	var names []string
	for _, dir := range running {
		if id == filepath.Base(dir) || id == "" && len(running) == 1 {
			return dir, nil
		}
		names = append(names, filepath.Base(dir))
	}
	switch {
	case len(running) == 0:
		return "", errors.New("no playground of yours is running: start one with `make playground`")
	case id == "":
		return "", fmt.Errorf("%d playgrounds are running, choose one by --id: %s", len(running), strings.Join(names, ", "))
	}
	return "", fmt.Errorf("there is no playground %q, only %s", id, strings.Join(names, ", "))
}

func list(args []string) (int, error) {
	flags := newFlags("list")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	running, err := launch.Running()
	if err != nil {
		return 1, err
	}
	for _, dir := range running {
		fmt.Printf("%s  KUBECONFIG=%s\n", filepath.Base(dir), filepath.Join(dir, "kubeconfig"))
		namespaces, err := launch.Namespaces(dir)
		if err != nil {
			fmt.Printf("  not up yet, or about to end: %v\n", err)
		}
		for _, n := range namespaces {
			fmt.Printf("  %-20s  %s\n", n.Name, n.What)
		}
	}
	return 0, nil
}

func execute(args []string) (int, error) {
	flags := newFlags("exec")
	var f folders
	if err := f.register(flags); err != nil {
		return 1, err
	}
	id := flags.String("id", "", "`id` of the playground, if several are running")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	rest := flags.Args()
	if len(rest) > 1 && rest[1] == "--" {
		rest = append(rest[:1:1], rest[2:]...)
	}
	if len(rest) < 2 {
		return 2, errors.New("exec needs a namespace and a command: playground exec fl-n1 -- ip address")
	}
	running, err := launch.Running()
	if err != nil {
		return 1, err
	}
	dir, err := find(running, *id)
	if err != nil {
		return 1, err
	}
	return launch.Exec(dir, rest[0], rest[1:], f.assets, f.bin, signals())
}
