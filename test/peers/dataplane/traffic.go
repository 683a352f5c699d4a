package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// What the endpoints answer at, on all of their addresses, and the ports of Services that lead there.
const (
	servicePort, targetPort      = 80, 8080   // TCP: accepts, closes
	streamPort, streamTargetPort = 5201, 8081 // TCP: reads whatever comes
	udpPort, udpTargetPort       = 53, 5353   // UDP: probes
	metricsPort                  = 10249

	// threads accept at each port, and as many connect.
	threads      = 2
	connectLimit = 1 // s
	// A stream is measured once it has run for a while, and writes and reads so much at once.
	warmUp       = 300 * time.Millisecond
	streamBuffer = 256 << 10
)

// streamed counts what arrived by streams, in bytes.
var streamed atomic.Int64

// serve starts the endpoints' TCP servers. They are threads and system calls: what is measured is the kernel.
func (s *stage) serve() error {
	for port, answer := range map[int]func(fd int){targetPort: func(int) {}, streamTargetPort: drain} {
		var listener int
		err := s.endpoints.do(func() (err error) {
			if listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Port: port}), unix.Listen(listener, 4096))
		})
		if err != nil {
			return fmt.Errorf("listening on port %d: %w", port, err)
		}
		s.listeners = append(s.listeners, listener)
		accept := func() error {
			for {
				fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				switch {
				case err == nil:
					answer(fd)
					_ = unix.Close(fd)
				case errors.Is(err, unix.EINVAL): // shut down
					return nil
				}
			}
		}
		for range threads {
			s.acceptors = append(s.acceptors, s.endpoints.thread(accept))
		}
	}
	return nil
}

func drain(fd int) {
	buffer := make([]byte, streamBuffer)
	for {
		n, err := unix.Read(fd, buffer)
		if n <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
		streamed.Add(int64(max(n, 0)))
	}
}

// connect makes a TCP connection and tells how long that took. It belongs on a thread of the client. The caller closes.
func connect(to netip.AddrPort) (fd int, took time.Duration, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("opening a socket: %w", err)
	}
	// Closed by a reset: tens of thousands of connections in TIME_WAIT would use up the ports.
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: connectLimit}))
	if err == nil {
		address := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		begin := time.Now()
		if err = unix.Connect(fd, address); errors.Is(err, unix.EINTR) {
			err = connected(fd) // the runtime's signals interrupt it, but it goes on
		}
		took = time.Since(begin)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	return fd, took, nil
}

// connected waits for the end of a connect that was interrupted.
func connected(fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, connectLimit*1000) //nolint:gosec // a descriptor fits
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}

// reachable waits until a connection can be made.
func (s *stage) reachable(to netip.AddrPort) error {
	const tries = 10 // of connectLimit each
	var fd int
	var err error
	for range tries {
		err = <-s.client.thread(func() (err error) {
			fd, _, err = connect(to)
			return err
		})
		if err == nil {
			return unix.Close(fd)
		}
	}
	return err
}

// newBareStage makes a stage without a peer on which the target can be reached. Links of one that was just made drop
// everything now and then, for a second or for good; then another is made.
func newBareStage(target netip.AddrPort) (*stage, error) {
	const stages = 3
	var err error
	for range stages {
		var s *stage
		if s, err = newStage(nil); err == nil {
			err = s.reachable(target)
		}
		if err == nil {
			return s, nil
		}
		s.close()
	}
	return nil, err
}

// connections makes them one after the other on each of some threads, as fast as it goes, and returns how many it made a
// second.
func (s *stage) connections(lasting time.Duration, to netip.AddrPort) (float64, error) {
	var made atomic.Int64
	end := time.Now().Add(lasting)
	var all []<-chan error
	for range threads {
		all = append(all, s.client.thread(func() error {
			for time.Now().Before(end) {
				fd, _, err := connect(to)
				if err != nil {
					return err
				}
				_ = unix.Close(fd)
				made.Add(1)
			}
			return nil
		}))
	}
	var err error
	for _, thread := range all {
		err = errors.Join(err, <-thread)
	}
	return float64(made.Load()) / lasting.Seconds(), err
}

// throughput is what one stream carries, in bytes a second.
func (s *stage) throughput(lasting time.Duration, to netip.AddrPort) (float64, error) {
	var ended atomic.Bool
	done := s.client.thread(func() error {
		fd, _, err := connect(to)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		buffer := make([]byte, streamBuffer)
		for !ended.Load() {
			if _, err := unix.Write(fd, buffer); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("writing to %s: %w", to, err)
			}
		}
		return nil
	})
	time.Sleep(warmUp)
	before, begin := streamed.Load(), time.Now()
	time.Sleep(lasting)
	rate := float64(streamed.Load()-before) / time.Since(begin).Seconds()
	ended.Store(true)
	return rate, <-done
}

// firstPackets connects to targets chosen at random, one after the other, and tells how long each takes: a SYN there, and
// its answer back.
func (s *stage) firstPackets(tries int, target func(n int) netip.AddrPort, of int) (figures.Latency, error) {
	random := rand.New(rand.NewPCG(1, 0))
	all := make([]time.Duration, 0, tries)
	err := <-s.client.thread(func() error {
		for range tries {
			fd, took, err := connect(target(random.IntN(of)))
			if err != nil {
				return err
			}
			_ = unix.Close(fd)
			all = append(all, took)
		}
		return nil
	})
	return figures.Summarize(all), err
}

// Losses are connections that were tried while something else went on.
type Losses struct{ Tried, Failed int }

// knock connects at a steady rate, to targets chosen at random, until ctx ends; then the result tells how that went.
func (s *stage) knock(ctx context.Context, perSecond int, target func(n int) netip.AddrPort, of int) func() (Losses, error) {
	var l Losses
	random := rand.New(rand.NewPCG(2, 0))
	done := s.client.thread(func() error {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			l.Tried++
			fd, _, err := connect(target(random.IntN(of)))
			if err != nil {
				l.Failed++
				continue
			}
			_ = unix.Close(fd)
		}
		return nil
	})
	return func() (Losses, error) {
		err := <-done
		return l, err
	}
}
