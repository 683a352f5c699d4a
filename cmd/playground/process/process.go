// Package process starts the playground's programs and reaps them, as the first process of a process namespace
// must: its children and every orphan below them. It is not os/exec, whose Wait would have to share the dead with
// the reaper.
package process

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Spec is a program to start. It starts in the namespaces of the calling thread.
type Spec struct {
	// Args are the program's path and arguments.
	Args []string
	// Env is its whole environment; nil means that of this process.
	Env []string
	// Dir is its working directory; empty means that of this process.
	Dir string
	// Files are its standard input, output and error, and further ones from descriptor 3 on. A nil or missing one
	// of the first three is /dev/null.
	Files []*os.File
	// Sys may be nil: then the program leads a process group of its own, so that Ctrl-C in a terminal does not
	// reach it.
	Sys *syscall.SysProcAttr
}

// Process is a started program.
type Process struct {
	Pid int

	table  *Table
	done   chan struct{}
	status syscall.WaitStatus
}

// Done is closed once the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status says how the process ended; it is meaningful after Done.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// Signal sends a signal to the process, or to its process group if group is set. A process that has ended is left
// alone, and so is whoever has its number now.
func (p *Process) Signal(sig syscall.Signal, group bool) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.table.running[p.Pid] != p {
		return
	}
	pid := p.Pid
	if group {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig) // it may have ended unreaped, which is what a signal is for
}

// Table knows the children of this process. There is one in a process.
type Table struct {
	null *os.File

	mu      sync.Mutex
	running map[int]*Process
}

// NewTable starts to reap: nothing else in this process may wait for children from now on.
func NewTable() (*Table, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the null device: %w", err)
	}
	t := &Table{null: null, running: map[int]*Process{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			t.reap()
		}
	}()
	return t, nil
}

// reap takes in all who have died. The lock keeps it from a child that Start has not entered yet.
func (t *Table) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if p, ok := t.running[pid]; ok { // else an orphan
			delete(t.running, pid)
			p.status = status
			close(p.done)
		}
	}
}

// Start starts a program.
func (t *Table) Start(s Spec) (*Process, error) {
	files := make([]uintptr, max(3, len(s.Files)))
	for i := range files {
		files[i] = t.null.Fd()
		if i < len(s.Files) && s.Files[i] != nil {
			files[i] = s.Files[i].Fd()
		}
	}
	sys := s.Sys
	if sys == nil {
		sys = &syscall.SysProcAttr{Setpgid: true}
	}
	env := s.Env
	if env == nil {
		env = os.Environ()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := syscall.ForkExec(s.Args[0], s.Args, &syscall.ProcAttr{Dir: s.Dir, Env: env, Files: files, Sys: sys})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Args[0], err)
	}
	p := &Process{Pid: pid, table: t, done: make(chan struct{})}
	t.running[pid] = p
	return p, nil
}

// ExitCode is how a shell would give a status: the exit code, or 128 and the signal's number.
func ExitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// Describe puts a status into words.
func Describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "ended by signal " + s.Signal().String()
	}
	return fmt.Sprintf("exited with code %d", s.ExitStatus())
}
