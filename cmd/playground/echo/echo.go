// Package echo is the playground's built-in server, which stands for the images of samples: on every port that its
// container declares it answers HTTP, plain TCP or UDP with who it is (Pod, namespace, node, zone) and whom it saw (the
// client's address), so that one request shows where a packet went and what happened to it on its way.
//
// It is not a web server: it serves no files and keeps nothing.
package echo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The environment in which the container runtime tells the server who it is.
const (
	EnvNode      = "FAIRLEAD_NODE"
	EnvZone      = "FAIRLEAD_ZONE"
	EnvPod       = "FAIRLEAD_POD"
	EnvNamespace = "FAIRLEAD_NAMESPACE"
	EnvContainer = "FAIRLEAD_CONTAINER"
	// EnvPorts are the ports to listen on, as in "80/tcp,53/udp".
	EnvPorts = "FAIRLEAD_PORTS"
)

// defaultPorts is what the server listens on if nobody says anything.
const defaultPorts = "8080/tcp"

// Identity is who the server says it is.
type Identity struct {
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Container string `json:"container,omitempty"`
	Node      string `json:"node"`
	Zone      string `json:"zone"`
	// Text is what --text says, and empty otherwise.
	Text string `json:"text,omitempty"`
}

// Answer is what the server says to every request, as one line of JSON or, if the client asks for it, of text.
type Answer struct {
	Identity
	// Protocol is http, tcp or udp.
	Protocol string `json:"protocol"`
	// Client is the peer's address and port as the socket has them.
	Client string `json:"client"`
	// Local is the address and port that the request arrived at: the Pod's own, after any translation.
	Local string `json:"local"`
	// Port is the port of Local.
	Port int `json:"port"`
	// Host is the Host header of an HTTP request, and empty otherwise.
	Host string `json:"host,omitempty"`
}

// String is the answer as a line of text, without its end.
func (a Answer) String() string {
	line := fmt.Sprintf("pod %s/%s on node %s in zone %s saw %s by %s at %s", a.Namespace, a.Pod, a.Node, a.Zone, a.Client, a.Protocol, a.Local)
	if a.Text != "" {
		line += ": " + a.Text
	}
	return line
}

func newAnswer(id Identity, protocol string, client, local net.Addr) Answer {
	a := Answer{Identity: id, Protocol: protocol, Client: client.String(), Local: local.String()}
	if _, port, err := net.SplitHostPort(a.Local); err == nil {
		a.Port, _ = strconv.Atoi(port) // the kernel's own text
	}
	return a
}

// Options are the server's settings, one flag each.
type Options struct {
	Identity
	// Ports are declared ports, as in "80/tcp": on those for TCP both HTTP and plain lines are answered.
	Ports []string
	// HTTP, TCP and UDP are addresses to listen on for one protocol only. On TCP the server speaks first.
	HTTP, TCP, UDP []string
	// Delay is waited before each answer.
	Delay time.Duration
	// NotReady starts the server unready, ReadyAfter makes it ready after a while, ReadyFile only while the file exists.
	NotReady   bool
	ReadyAfter time.Duration
	ReadyFile  string
	// Drain is how long new connections are accepted after SIGTERM, Grace how long accepted ones are then served.
	Drain, Grace time.Duration
	// Quiet logs no requests.
	Quiet bool
}

// ParseOptions reads flags, whose defaults come from the environment. Usage and errors go to out.
func ParseOptions(args []string, getenv func(string) string, out io.Writer) (Options, error) {
	var o Options
	list := func(into *[]string) func(string) error {
		return func(value string) error {
			*into = append(*into, strings.Split(value, ",")...)
			return nil
		}
	}
	flags := flag.NewFlagSet("playground echo", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.Pod, "pod", getenv(EnvPod), "`name` of the Pod")
	flags.StringVar(&o.Namespace, "namespace", getenv(EnvNamespace), "`name` of the Pod's namespace")
	flags.StringVar(&o.Container, "container", getenv(EnvContainer), "`name` of the container")
	flags.StringVar(&o.Node, "node", getenv(EnvNode), "`name` of the node")
	flags.StringVar(&o.Zone, "zone", getenv(EnvZone), "`name` of the zone")
	flags.StringVar(&o.Text, "text", "", "`text` to add to each answer")
	flags.Func("ports", "`ports` to listen on, as in 80/tcp,53/udp", list(&o.Ports))
	flags.Func("http", "`addresses` to answer only HTTP on, as in :8080", list(&o.HTTP))
	flags.Func("listen", "the same as --http", list(&o.HTTP))
	flags.Func("tcp", "`addresses` to greet TCP connections on", list(&o.TCP))
	flags.Func("udp", "`addresses` to answer UDP on", list(&o.UDP))
	flags.DurationVar(&o.Delay, "delay", 0, "`time` to wait before each answer")
	flags.BoolVar(&o.NotReady, "not-ready", false, "start unready (/ready answers 503 until POST /ready?ok=true)")
	flags.DurationVar(&o.ReadyAfter, "ready-after", 0, "be ready only after a `time`")
	flags.StringVar(&o.ReadyFile, "ready-file", "", "be ready only while a `file` exists")
	flags.DurationVar(&o.Drain, "drain", time.Second, "`time` to accept new connections for after SIGTERM")
	flags.DurationVar(&o.Grace, "grace", 10*time.Second, "`time` to serve accepted connections for after that")
	flags.BoolVar(&o.Quiet, "quiet", false, "log no requests")
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	if flags.NArg() > 0 {
		return Options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if len(o.Ports)+len(o.HTTP)+len(o.TCP)+len(o.UDP) == 0 {
		ports := getenv(EnvPorts)
		if ports == "" {
			ports = defaultPorts
		}
		o.Ports = strings.Split(ports, ",")
	}
	for _, port := range o.Ports {
		if _, _, err := parsePort(port); err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

// parsePort reads a port like 80/tcp.
func parsePort(text string) (protocol, address string, err error) {
	number, protocol, _ := strings.Cut(text, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return "", "", fmt.Errorf("port %q is not like 80/tcp", text)
	}
	switch protocol {
	case "", "tcp":
		protocol = "tcp"
	case "udp":
	case "sctp": // declared, but there is nothing to answer it with
	default:
		return "", "", fmt.Errorf("port %q has an unknown protocol: it must be tcp, udp or sctp", text)
	}
	return protocol, ":" + number, nil
}

// Main is `playground echo`: it serves until SIGTERM, then ends gracefully, and returns the exit code.
func Main(args []string) int {
	options, err := ParseOptions(args, os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground echo:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := Serve(ctx, options, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "playground echo:", err)
		return 1
	}
	return 0
}
