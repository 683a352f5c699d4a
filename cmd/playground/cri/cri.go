// Package cri is the playground's container runtime: a small server of the Kubernetes Container Runtime Interface (CRI v1)
// that a real kubelet drives over a unix socket, inside one user namespace, with no privileges and no cgroups.
//
// A Pod sandbox is a network, a UTS and an IPC namespace that the server holds open (there is no pause process; the
// network namespace is visible as /run/netns/fl-pod-<id>, a link that dies with the server). A container is a process in a
// mount and a PID namespace of its own, under a small init (package guest). When the server ends, for whatever reason,
// the kernel ends all its containers and frees their namespaces and links with it.
//
// It is not a security boundary: every container runs as the user who started the playground, with no limits on memory
// or processor, no seccomp and no capabilities dropped. It is not a registry client either: images are local (see images.go).
package cri

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// Options are the settings of one node's runtime, one flag each.
type Options struct {
	// Socket is the path of the unix socket to serve on; the kubelet's containerRuntimeEndpoint is "unix://" + Socket.
	Socket string
	// Node and Zone are told to the built-in server, which says them in its answers. Node is also the host name of Pods
	// on the host network.
	Node, Zone string
	// NodeIPs are the node's own addresses, at most one of a family: the source of what the node itself sends to its
	// Pods. None means that the kernel chooses.
	NodeIPs []string
	// Root is the folder for the runtime's own state, made if it is missing and emptied at start.
	Root string
	// Images is the folder of root filesystems by image name; empty means that there are only the built-in images.
	Images string
	// EchoImages are more image names that the built-in server stands for, as in a Pod but without a tag.
	EchoImages []string
	// NetnsDir and NetnsPrefix name the links to the Pods' network namespaces: NetnsDir/NetnsPrefix<12 hex digits>.
	NetnsDir, NetnsPrefix string
}

// ParseOptions reads the flags of `playground cri`. Usage and errors go to out.
func ParseOptions(args []string, out io.Writer) (Options, error) {
	var o Options
	list := func(into *[]string) func(string) error {
		return func(value string) error {
			*into = append(*into, strings.Split(value, ",")...)
			return nil
		}
	}
	flags := flag.NewFlagSet("playground cri", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.Socket, "socket", "", "unix `path` to serve the CRI on")
	flags.StringVar(&o.Node, "node", "", "`name` of the node")
	flags.StringVar(&o.Zone, "zone", "", "`name` of the node's zone")
	flags.Func("node-ips", "the node's `addresses`, one of each family", list(&o.NodeIPs))
	flags.StringVar(&o.Root, "root", "", "`folder` for the runtime's state")
	flags.StringVar(&o.Images, "images", "", "`folder` of root filesystems by image name")
	flags.Func("echo-image", "more image `names` that the built-in server stands for", list(&o.EchoImages))
	flags.StringVar(&o.NetnsDir, "netns-dir", "/run/netns", "`folder` of named network namespaces")
	flags.StringVar(&o.NetnsPrefix, "netns-prefix", "fl-pod-", "`prefix` of the Pods' network namespaces")
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	if flags.NArg() > 0 {
		return Options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, o.validate()
}

func (o Options) validate() error {
	var errs []error
	if !filepath.IsAbs(o.Socket) {
		errs = append(errs, fmt.Errorf("--socket must be an absolute path, not %q", o.Socket))
	}
	if !filepath.IsAbs(o.Root) {
		errs = append(errs, fmt.Errorf("--root must be an absolute path, not %q", o.Root))
	}
	if o.Node == "" {
		errs = append(errs, errors.New("--node must be the node's name"))
	}
	return errors.Join(errs...)
}

// Main is `playground cri`: it serves until SIGTERM or SIGINT and returns the exit code. With "guest" as first argument it
// is a container's init instead.
func Main(args []string) int {
	if len(args) > 0 && args[0] == "guest" {
		return guest.Main(args[1:])
	}
	options, err := ParseOptions(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground cri:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := Serve(ctx, options, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "playground cri:", err)
		return 1
	}
	return 0
}

// Serve serves the CRI until ctx is done, then ends all containers. It is to run in the node's network namespace, and in the
// mount namespace that the node's kubelet mounts volumes in.
func Serve(ctx context.Context, options Options, log *slog.Logger) error {
	r, err := newRuntime(options, log)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.serveStreams(); err != nil {
		return err
	}
	listener, err := listenUnix(options.Socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(16<<20))
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	runtimeapi.RegisterImageServiceServer(server, r.images)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("Serving", "socket", options.Socket, "node", options.Node)
	select {
	case err = <-served:
		err = fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	server.Stop()
	return errors.Join(err, r.streams.Stop())
}

// serveStreams serves exec, attach and port-forward to the kubelet, on the node's loopback address. A token in the address,
// good for one minute and one use, is what lets a caller in.
func (r *Runtime) serveStreams() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for streams: %w", err)
	}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String()}
	if r.streams, err = streaming.NewServer(config, streamer{r}); err != nil {
		return fmt.Errorf("preparing streams: %w", err)
	}
	server := &http.Server{Handler: r.streams, ReadHeaderTimeout: time.Minute}
	go func() {
		if err := server.Serve(listener); err != nil {
			r.log.Error("Serving streams failed", "error", err)
		}
	}()
	return nil
}

// listenUnix listens on a path, where a socket of a predecessor may lie.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the socket's folder: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return listener, nil
}
