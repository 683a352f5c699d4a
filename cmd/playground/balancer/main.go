// Package balancer is the playground's clouds as a process of their own, in the namespace of the clouds' router: the fake
// cloud's API, an emulated AWS beside it, and the hardware of both, which forwards for real. Every balancer address is one of
// the router's; what comes in for a listener is sent on to the node port of a healthy target by destination NAT, in nftables.
// The source address stays the client's, since the answers come back through the router. Health checks are made from the
// router.
//
// It is not a proxy (no byte of a connection passes through this process) and not part of any production setup.
package balancer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
	"github.com/fairlead/fairlead/cloud/fake"
)

// settings are what the flags say.
type settings struct {
	listen, socket string
	pools          []fake.Pool
	// amazon is where the emulated AWS listens; empty: there is none. machines are its instances.
	amazon   string
	machines []machine
}

// Main runs until it is told to end by SIGINT or SIGTERM, and returns the exit code: 2 for wrong flags, 1 for a failure.
func Main(args []string) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloud:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "cloud:", err)
		return 1
	}
	return 0
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("cloud", flag.ContinueOnError)
	flags.StringVar(&s.listen, "listen", "", "`address:port` of the cloud's API over HTTP")
	flags.StringVar(&s.socket, "socket", "", "`path` of a unix socket for the cloud's API")
	flags.Func("pool", "`name=range` that balancer addresses come from; repeatable (default default=198.51.100.0/24)", func(text string) error {
		name, cidr, ok := strings.Cut(text, "=")
		if !ok {
			name, cidr = "default", text
		}
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil || prefix != prefix.Masked() || name == "" {
			return errors.New("write it as name=range, such as default=198.51.100.0/24")
		}
		s.pools = append(s.pools, fake.Pool{Name: name, Prefix: prefix})
		return nil
	})
	flags.StringVar(&s.amazon, "aws", "", "`address:port` of an emulated AWS: its API, its instances' metadata, and the names of its balancers")
	flags.Func("machine", "`id=zone=address[=address]` of an instance of the emulated AWS, the second of IPv6; repeatable", func(text string) error {
		m, err := parseMachine(text)
		s.machines = append(s.machines, m)
		return err
	})
	flags.SetOutput(io.Discard) // errors are one line, written by Main
	flags.Usage = func() {}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return s, err
	} else if err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case s.amazon != "" && len(s.machines) == 0:
		return s, errors.New("an emulated AWS needs a machine: set --machine")
	case s.amazon == "" && len(s.machines) > 0:
		return s, errors.New("machines are those of an emulated AWS: set --aws")
	}
	if s.listen == "" && s.socket == "" {
		return s, errors.New("nowhere to listen: set --listen, --socket or both")
	}
	return s, nil
}

func run(ctx context.Context, s settings) error {
	c := fake.New(fake.Options{Pools: s.pools})
	hw, err := newForwarder()
	if err != nil {
		return err
	}
	defer hw.close()
	clouds := []hardware.Cloud{c}
	handlers := map[net.Listener]http.Handler{}
	if s.listen != "" {
		l, err := net.Listen("tcp", s.listen)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		handlers[l] = fake.Handler(c)
	}
	if s.socket != "" {
		l, err := listenUnix(s.socket)
		if err != nil {
			return err
		}
		handlers[l] = fake.Handler(c)
	}
	if s.amazon != "" {
		l, err := net.Listen("tcp", s.amazon)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		account := newAmazon(s.machines)
		clouds = append(clouds, account)
		handlers[l] = account.Site()
	}
	for _, one := range clouds {
		one.SetHardware(hw)
	}
	ended := make(chan error, len(handlers))
	var servers []*http.Server
	for l, handler := range handlers {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		servers = append(servers, server)
		go func() { ended <- server.Serve(l) }()
	}
	programming, stop := context.WithCancel(ctx)
	programmed := make(chan struct{})
	go func() {
		defer close(programmed)
		hardware.Run(programming, hw, func(err error) { fmt.Fprintln(os.Stderr, "cloud: programming the balancers:", err) }, clouds...)
	}()
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, server := range servers {
		_ = server.Shutdown(shutdown) // what does not end in time ends with the process
	}
	stop()
	<-programmed
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// listenUnix listens on a path, in the place of a socket that an earlier process left there.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the old socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}
