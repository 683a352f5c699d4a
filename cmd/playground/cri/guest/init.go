package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlFD is the socket to the runtime, the first file after the standard ones.
const controlFD = 3

// defaultPath is where commands are looked for if the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Main is the init of one container: `playground cri guest SPEC-FILE` with the control socket as file 3. It returns the
// exit code of the container's process.
func Main(args []string) int {
	// All signals are taken before anything else, so that none ends the init; which ones are passed on, forward decides.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	// Deaths have a channel of their own: one that waits there stands for all, so that none is lost while others fill theirs.
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, unix.SIGCHLD)
	unix.CloseOnExec(controlFD)
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // should the runtime die while we do not listen
	spec, conn, err := open(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground cri guest:", err)
		return 1
	}
	g := &guest{spec: spec, conn: conn, commands: map[int]uint64{}}
	if err := g.prepare(); err != nil {
		_ = Send(conn, Reply{Event: "failed", Error: err.Error()})
		return 1
	}
	if err := Send(conn, Reply{Event: "ready"}); err != nil {
		return 1
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.serve()
	}()
	for {
		select {
		case <-ended: // the runtime is gone, and with it whoever wants this container
			return 1
		case <-deaths:
			if code, done := g.reap(); done {
				return code
			}
		case s := <-signals:
			g.forward(s)
		}
	}
}

func open(args []string) (Spec, *net.UnixConn, error) {
	var spec Spec
	if len(args) != 1 {
		return spec, nil, errors.New("it is started by the runtime, with the file of one container's settings")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return spec, nil, fmt.Errorf("reading settings: %w", err)
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return spec, nil, fmt.Errorf("reading settings: %w", err)
	}
	file := os.NewFile(controlFD, "control")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return spec, nil, fmt.Errorf("opening the control socket: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return spec, nil, errors.New("opening the control socket: file 3 is not a unix socket")
	}
	return spec, unixConn, nil
}

// guest is the state of the init.
type guest struct {
	spec Spec
	conn *net.UnixConn

	// mu is held from before a command is started until it is known here and its start was told: or reap could meet a child
	// that it does not know, or tell of the end of one before its start.
	mu       sync.Mutex
	commands map[int]uint64 // by process id
	main     int            // process id of the container's own process; 0 before it is started
}

func (g *guest) prepare() error {
	if g.spec.SharedPID {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("adopting orphans: %w", err)
		}
	}
	if g.spec.Pause {
		return nil
	}
	return g.spec.enter()
}

// serve follows the runtime's orders until the conversation ends. The thread is kept, since commands are told to die with
// the thread that started them: where the PID namespace is shared, nothing else would end them with the init.
func (g *guest) serve() {
	runtime.LockOSThread()
	for {
		var r Request
		files, err := Receive(g.conn, &r)
		if err != nil {
			return
		}
		switch r.Op {
		case "run":
			g.run(r, files)
		case "kill":
			g.kill(r.ID)
		}
		CloseAll(files)
	}
}

func (g *guest) run(r Request, files []*os.File) {
	if r.Terminal {
		master, slave, err := openTerminal()
		if err != nil {
			_ = Send(g.conn, Reply{Event: "failed", ID: r.ID, Error: err.Error()})
			return
		}
		defer func() { _ = master.Close() }()
		defer func() { _ = slave.Close() }()
		if err := g.start(r, []*os.File{slave, slave, slave}, master); err != nil {
			_ = Send(g.conn, Reply{Event: "failed", ID: r.ID, Error: err.Error()})
		}
		return
	}
	if len(files) != 3 {
		_ = Send(g.conn, Reply{Event: "failed", ID: r.ID, Error: fmt.Sprintf("%d standard files instead of 3", len(files))})
		return
	}
	if err := g.start(r, files); err != nil {
		_ = Send(g.conn, Reply{Event: "failed", ID: r.ID, Error: err.Error()})
	}
}

// start runs one command and says so, with the open files in along. It does not wait for it: reap does.
func (g *guest) start(r Request, files []*os.File, along ...*os.File) error {
	if len(r.Argv) == 0 {
		return errors.New("no command: neither the image nor the Pod names one")
	}
	env := g.spec.Env
	if r.Terminal && lookupEnv(env, "TERM") == "" {
		env = append(env[:len(env):len(env)], "TERM=xterm")
	}
	path, err := lookPath(r.Argv[0], lookupEnv(env, "PATH"), g.spec.Dir)
	if err != nil {
		return err
	}
	attributes := &syscall.ProcAttr{
		Dir: g.spec.Dir, Env: env,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: r.Terminal, Pdeathsig: unix.SIGKILL},
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Main && g.main != 0 {
		return errors.New("the container's process runs already")
	}
	pid, err := syscall.ForkExec(path, r.Argv, attributes)
	if err != nil {
		return fmt.Errorf("starting %s: %w", path, err)
	}
	g.commands[pid] = r.ID
	if r.Main {
		g.main = pid
	}
	_ = Send(g.conn, Reply{Event: "started", ID: r.ID}, along...)
	return nil
}

func (g *guest) kill(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for pid, known := range g.commands {
		if known == id {
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
	}
}

// forward passes a signal on to the container's process.
func (g *guest) forward(s os.Signal) {
	number, ok := s.(syscall.Signal)
	// SIGCHLD is for reap; SIGURG is Go's own, to interrupt its threads.
	if !ok || number == unix.SIGCHLD || number == unix.SIGPIPE || number == unix.SIGURG {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.main != 0 {
		_ = unix.Kill(g.main, number)
	}
}

// reap collects what has died. done says that the container's own process is among it, and code how it ended.
func (g *guest) reap() (code int, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return code, done
		}
		id, ours := g.commands[pid]
		if !ours {
			continue
		}
		delete(g.commands, pid)
		ended := status.ExitStatus()
		if status.Signaled() {
			ended = 128 + int(status.Signal())
		}
		_ = Send(g.conn, Reply{Event: "exited", ID: id, Code: ended})
		if pid == g.main {
			code, done = ended, true
		}
	}
}

func lookupEnv(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// lookPath finds the file of a command the way execvp does, with the container's own PATH.
func lookPath(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if path == "" {
		path = defaultPath
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		file := filepath.Join(folder, name)
		info, err := os.Stat(file)
		if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("command %q is not in the container's PATH %s: %w", name, path, fs.ErrNotExist)
}

// openTerminal opens a terminal of the container's own: master is for whoever types, slave for the command.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	return master, slave, nil
}
