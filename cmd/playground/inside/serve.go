package inside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/process"
)

// server answers requests on the control socket. Whoever can open the socket, which lies in the user's own run folder,
// may do here what the user may do.
type server struct {
	table *process.Table
	// namespaces that have a thread; others are entered by name.
	namespaces map[string]*network.Namespace
	// list names the namespaces.
	list func() ([]control.Namespace, error)
}

func (s *server) listen(dir string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, control.SocketName), Net: "unix"})
	if err != nil {
		return fmt.Errorf("listening on the control socket: %w", err)
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return // the process ends
			}
			go s.serve(c)
		}
	}()
	return nil
}

func (s *server) serve(c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	request, files, err := control.ReceiveRequest(c)
	defer control.CloseAll(files)
	var reply control.Reply
	switch {
	case err != nil:
	case request.Exec != nil:
		reply.Code, err = s.exec(c, *request.Exec, files)
	case request.Dial != nil:
		err = s.dial(c, *request.Dial)
		if err == nil {
			return
		}
	case request.List:
		reply.Namespaces, err = s.list()
	default:
		err = errors.New("an empty request")
	}
	if err != nil {
		reply.Error = err.Error()
	}
	_ = control.WriteFrame(c, reply) // a client that is gone needs no answer
}

// in runs f on a thread in the namespace of that name.
func (s *server) in(namespace string, f func() error) error {
	if n, ok := s.namespaces[namespace]; ok {
		return n.Do(f)
	}
	return network.Enter(namespace, f)
}

// exec runs a command and returns its exit code.
func (s *server) exec(c *net.UnixConn, e control.Exec, files []*os.File) (int, error) {
	if len(e.Args) == 0 || len(files) != 3 {
		return 0, errors.New("a command and three descriptors are needed")
	}
	var p *process.Process
	err := s.in(e.Namespace, func() (err error) {
		p, err = s.table.Start(process.Spec{
			Args: e.Args, Env: e.Env, Dir: e.Dir, Files: files,
			Sys: &syscall.SysProcAttr{Setsid: true, Setctty: e.TTY},
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	control.CloseAll(files) // else a pipe's reader would wait for this copy
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var signal control.Signal
			if err := control.ReadFrame(c, &signal); err != nil {
				return
			}
			p.Signal(syscall.Signal(signal.Number), true)
		}
	}()
	select {
	case <-p.Done():
	case <-gone:
		p.Signal(syscall.SIGKILL, true)
		<-p.Done()
	}
	return process.ExitCode(p.Status()), nil
}

// dialLimit is how long a connection from outside may take to come about.
const dialLimit = 10 * time.Second

// dial connects from within a namespace and copies until both directions have ended.
func (s *server) dial(c *net.UnixConn, d control.Dial) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	remote, err := network.Dial(ctx, d.Namespace, d.Address)
	if err != nil {
		return err
	}
	if err := control.WriteFrame(c, control.Reply{}); err != nil {
		_ = remote.Close()
		return nil
	}
	control.Splice(c, remote.(*net.TCPConn))
	return nil
}
