package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// maxSyncOutput is how much of each stream of a probe's command is kept; the rest is read and dropped (CVE-2022-1708).
const maxSyncOutput = 16 << 20

// Exec, Attach and PortForward only prepare: the kubelet then connects to the address that they answer with.

// Exec prepares a command in a running container.
func (r *Runtime) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.runningContainer(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streams.GetExec(request)
}

// Attach prepares a connection to a running container's own process.
func (r *Runtime) Attach(_ context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.runningContainer(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streams.GetAttach(request)
}

// PortForward prepares connections to ports of a Pod.
func (r *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if _, err := r.readySandbox(request.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return r.streams.GetPortForward(request)
}

func (r *Runtime) runningContainer(id string) (*container, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	if r.running(c) == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s does not run", id)
	}
	return c, nil
}

func (r *Runtime) readySandbox(id string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.sandboxes[id]
	if !known {
		return nil, status.Errorf(codes.NotFound, "sandbox %s does not exist", id)
	}
	if !s.ready {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s is stopped", id)
	}
	return s, nil
}

// ExecSync runs a command to its end, as probes and hooks do.
func (r *Runtime) ExecSync(ctx context.Context, request *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	c, err := r.runningContainer(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if request.GetTimeout() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(request.GetTimeout())*time.Second)
		defer cancel()
	}
	var stdout, stderr limitedBuffer
	err = runPiped(ctx, c.process, request.GetCmd(), nil, &stdout, &stderr)
	var exit utilexec.CodeExitError
	switch {
	case ctx.Err() != nil:
		return nil, status.Errorf(codes.DeadlineExceeded, "command %q did not end within %d seconds", request.GetCmd(), request.GetTimeout())
	case errors.As(err, &exit):
	case err != nil:
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitCode: int32(exit.Code)}, nil
}

// limitedBuffer keeps the first maxSyncOutput bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxSyncOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// runPiped runs a command without a terminal to its end, or until ctx is done. An exit code other than 0 is a
// utilexec.CodeExitError.
func runPiped(ctx context.Context, p *process, argv []string, in io.Reader, stdout, stderr io.Writer) error {
	ours, theirs, err := newPipes()
	if err != nil {
		return err
	}
	defer ours.close()
	c, err := p.run(argv, false, theirs...)
	guest.CloseAll(theirs)
	if err != nil {
		return err
	}
	go func() {
		if in != nil {
			_, _ = io.Copy(ours.in, in)
		}
		_ = ours.in.Close()
	}()
	copied := make(chan struct{}, 2)
	for _, stream := range []struct {
		to   io.Writer
		from *os.File
	}{{stdout, ours.out}, {stderr, ours.err}} {
		go func() {
			defer func() { copied <- struct{}{} }()
			if stream.to == nil {
				stream.to = io.Discard
			}
			_, _ = io.Copy(stream.to, stream.from)
		}()
	}
	err = c.wait(ctx, p)
	// A child that the command left behind may hold its output open for ever.
	deadline := time.Now().Add(drainTime)
	_, _ = ours.out.SetReadDeadline(deadline), ours.err.SetReadDeadline(deadline)
	<-copied
	<-copied
	return err
}

// runTerminal runs a command on a terminal of its own to its end, or until ctx is done.
func runTerminal(ctx context.Context, p *process, argv []string, in io.Reader, out io.Writer, sizes <-chan remotecommand.TerminalSize) error {
	c, err := p.run(argv, true)
	if err != nil {
		return err
	}
	defer func() { _ = c.terminal.Close() }()
	stop := make(chan struct{})
	defer close(stop)
	go c.followSizes(sizes, stop)
	if in != nil {
		go func() { _, _ = io.Copy(c.terminal, in) }()
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, c.terminal)
	}()
	err = c.wait(ctx, p)
	_ = c.terminal.SetReadDeadline(time.Now().Add(drainTime))
	<-copied
	return err
}

func (c *runningCommand) followSizes(sizes <-chan remotecommand.TerminalSize, stop <-chan struct{}) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			c.resize(size.Height, size.Width)
		case <-stop:
			return
		}
	}
}

// wait waits for the command, and kills it if ctx is done first.
func (c *runningCommand) wait(ctx context.Context, p *process) error {
	var code int
	var ok bool
	select {
	case code, ok = <-c.exited:
	case <-ctx.Done():
		p.kill(c)
		<-c.exited
		return ctx.Err()
	}
	if !ok {
		return errContainerGone
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
	}
	return nil
}

// streamer is what the streaming server calls when the kubelet has connected.
type streamer struct{ *Runtime }

// Exec runs a command with the streams of whoever asked for it.
func (s streamer) Exec(ctx context.Context, id string, argv []string, in io.Reader, out, err io.WriteCloser, tty bool, sizes <-chan remotecommand.TerminalSize) error {
	c, problem := s.runningContainer(id)
	if problem != nil {
		return problem
	}
	if tty {
		return runTerminal(ctx, c.process, argv, in, out, sizes)
	}
	return runPiped(ctx, c.process, argv, in, writer(out), writer(err))
}

// Attach connects the streams to the container's own process until it ends or the reader leaves.
func (s streamer) Attach(ctx context.Context, id string, in io.Reader, out, err io.WriteCloser, tty bool, sizes <-chan remotecommand.TerminalSize) error {
	c, problem := s.runningContainer(id)
	if problem != nil {
		return problem
	}
	a := c.log.attach(writer(out), writer(err))
	defer c.log.detach(a)
	if tty {
		go c.main.followSizes(sizes, a.left)
	}
	if in != nil && c.stdin != nil {
		go func() {
			_, failed := io.Copy(c.stdin, in)
			if c.config.GetStdinOnce() && !tty {
				_ = c.stdin.Close()
			}
			if failed != nil { // the reader's connection, or the process
				a.leave()
			}
		}()
	}
	select {
	case <-c.ended:
	case <-a.left:
	case <-ctx.Done():
	}
	return nil
}

// writer makes a missing stream a missing interface.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// PortForward connects the stream to a port on the Pod's loopback address.
func (s streamer) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	pod, err := s.readySandbox(id)
	if err != nil {
		return err
	}
	conn, err := s.dialPod(pod, int(port))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(stream, conn)
	// The Pod has said all it will; what the other side still sends has nowhere to go.
	_ = stream.Close()
	<-sent
	return nil
}

// dialPod connects from inside the Pod's network namespace. A socket belongs to the namespace that it was made in, so that
// only this is done there.
func (r *Runtime) dialPod(s *sandbox, port int) (net.Conn, error) {
	r.mu.Lock()
	visit := namespaces{}
	if ns := s.namespaces["net"]; ns != nil {
		visit["net"] = ns
	}
	r.mu.Unlock()
	var errs []error
	for _, to := range []struct {
		family  int
		address unix.Sockaddr
	}{
		{unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}},
		{unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}},
	} {
		var fd int
		err := r.thread.in(visit, func() (err error) {
			fd, err = unix.Socket(to.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return err
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		socket := os.NewFile(uintptr(fd), "port-forward")
		if err := connect(fd, to.address); err != nil {
			_ = socket.Close()
			errs = append(errs, err)
			continue
		}
		conn, err := net.FileConn(socket)
		_ = socket.Close()
		return conn, err
	}
	return nil, fmt.Errorf("connecting to port %d of the Pod: %w", port, errors.Join(errs...))
}

func connect(fd int, address unix.Sockaddr) error {
	// A connection attempt is bounded by the time to send.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	if err := unix.Connect(fd, address); err != nil {
		return err
	}
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{})
}
