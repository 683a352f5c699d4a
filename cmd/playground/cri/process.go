package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// mainCommand is the id of the container's own process in the conversation with its init; all others count up from it.
const mainCommand uint64 = 1

// process is a container's init and the conversation with it.
type process struct {
	init *os.Process
	conn *net.UnixConn
	// done is closed when the init is gone and all commands with it.
	done chan struct{}

	mu       sync.Mutex
	next     uint64
	commands map[uint64]*runningCommand
}

// runningCommand is a command that runs under the init: the container's own process, a probe or an exec.
type runningCommand struct {
	id uint64
	// terminal is the other end of the command's terminal, the caller's to close; nil if it has none.
	terminal *os.File
	// exited gets the exit code, once; it is closed without one if the init ends first.
	exited chan int

	started chan error
}

// errContainerGone means that the container ended before, or while, it was asked to do something.
var errContainerGone = errors.New("the container has ended")

// startProcess starts the init of a container (or of a Pod's shared PID namespace) in its namespaces and waits until the
// file system is built. dir is the container's own folder. newPID says whether it gets a PID namespace of its own.
func startProcess(t *thread, binary, dir string, spec guest.Spec, visit namespaces, newPID bool) (*process, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encoding settings: %w", err)
	}
	file := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, fmt.Errorf("writing settings: %w", err)
	}
	conn, remote, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	cmd := exec.Command(binary, "cri", "guest", file)
	cmd.Dir, cmd.Env, cmd.Stderr, cmd.ExtraFiles = "/", []string{}, os.Stderr, []*os.File{remote}
	// Pdeathsig would not do: Go then has the child check its parent's id, which does not exist in another PID namespace.
	// The init asks for the signal itself, and ends with the conversation anyway.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Setsid: true}
	if newPID {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	err = t.in(visit, cmd.Start)
	_ = remote.Close() // or the conversation would not end with the init
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("starting the container's init: %w", err)
	}
	p := &process{init: cmd.Process, conn: conn, done: make(chan struct{}), next: mainCommand, commands: map[uint64]*runningCommand{}}
	if err := p.awaitReady(); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = conn.Close()
		return nil, err
	}
	go p.attend(cmd)
	return p, nil
}

// socketPair makes the control socket: messages keep their bounds and carry open files.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, remote := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = remote.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), remote, nil
}

func (p *process) awaitReady() error {
	var reply guest.Reply
	if _, err := guest.Receive(p.conn, &reply); err != nil {
		return fmt.Errorf("waiting for the container's init: %w", err)
	}
	if reply.Event != "ready" {
		return errors.New(reply.Error)
	}
	return nil
}

// attend reads what the init says until it ends.
func (p *process) attend(cmd *exec.Cmd) {
	for {
		var reply guest.Reply
		files, err := guest.Receive(p.conn, &reply)
		if err != nil {
			break
		}
		p.handle(reply, files)
	}
	// The conversation ends with the init, or it is of no more use.
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, c := range p.commands {
		select {
		case c.started <- errContainerGone:
		default:
		}
		close(c.exited)
		delete(p.commands, id)
	}
	close(p.done)
}

func (p *process) handle(reply guest.Reply, files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, known := p.commands[reply.ID]
	if !known {
		guest.CloseAll(files)
		return
	}
	switch reply.Event {
	case "started":
		if len(files) == 1 {
			c.terminal = files[0]
		}
		c.started <- nil
	case "failed":
		delete(p.commands, reply.ID)
		c.started <- errors.New(reply.Error)
	case "exited":
		delete(p.commands, reply.ID)
		c.exited <- reply.Code
		close(c.exited)
	}
}

// run starts a command with these standard files, or with a terminal, and returns when it runs.
func (p *process) run(argv []string, terminal bool, files ...*os.File) (*runningCommand, error) {
	c := &runningCommand{exited: make(chan int, 1), started: make(chan error, 1)}
	p.mu.Lock()
	select {
	case <-p.done:
		p.mu.Unlock()
		return nil, errContainerGone
	default:
	}
	c.id = p.next
	p.next++
	p.commands[c.id] = c
	p.mu.Unlock()
	request := guest.Request{Op: "run", ID: c.id, Main: c.id == mainCommand, Argv: argv, Terminal: terminal}
	if err := guest.Send(p.conn, request, files...); err != nil {
		p.mu.Lock()
		delete(p.commands, c.id)
		p.mu.Unlock()
		return nil, fmt.Errorf("asking the container's init: %w", err)
	}
	if err := <-c.started; err != nil {
		return nil, err
	}
	if c.terminal != nil {
		return c, c.pollTerminal()
	}
	return c, nil
}

// pollTerminal lets reads of the terminal be interrupted by closing it.
func (c *runningCommand) pollTerminal() error {
	fd, err := unix.FcntlInt(c.terminal.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	_ = c.terminal.Close()
	if err != nil {
		return fmt.Errorf("opening the terminal: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("opening the terminal: %w", err)
	}
	c.terminal = os.NewFile(uintptr(fd), "terminal")
	return nil
}

// resize tells the command the size of its terminal.
func (c *runningCommand) resize(height, width uint16) {
	// Not by Fd, which would make the terminal's reads uninterruptible again.
	if raw, err := c.terminal.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
		})
	}
}

// kill ends a command and its process group; one that has ended already is fine.
func (p *process) kill(c *runningCommand) {
	_ = guest.Send(p.conn, guest.Request{Op: "kill", ID: c.id})
}

// signal sends a signal to the init, which forwards it, unless it is one that nobody can forward.
func (p *process) signal(s syscall.Signal) {
	_ = p.init.Signal(s) // an init that is gone needs none
}

// pipes are our ends of the pipes to a command without a terminal.
type pipes struct{ in, out, err *os.File }

func (p pipes) close() { guest.CloseAll([]*os.File{p.in, p.out, p.err}) }

// newPipes makes pipes and the command's ends of them, which are to be closed once it runs.
func newPipes() (ours pipes, theirs []*os.File, err error) {
	var files [6]*os.File
	for i := 0; i < len(files); i += 2 {
		files[i], files[i+1], err = os.Pipe()
		if err != nil {
			guest.CloseAll(files[:i])
			return pipes{}, nil, fmt.Errorf("making pipes: %w", err)
		}
	}
	return pipes{in: files[1], out: files[2], err: files[4]}, []*os.File{files[0], files[3], files[5]}, nil
}
