package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/fairlead/fairlead/cmd/playground/control"
)

func shellPath() (string, error) {
	path, err := exec.LookPath("sh")
	if err != nil {
		return "", fmt.Errorf("finding a shell: %w", err)
	}
	return path, nil
}

// execute has a command run inside, with this process's standard input, output and error, and returns its exit code.
// Signals from the channel are passed on; when ctx ends the command is killed.
func execute(ctx context.Context, dir string, e control.Exec, signals <-chan os.Signal, files ...*os.File) (int, error) {
	if e.Dir == "" {
		if wd, err := os.Getwd(); err == nil {
			e.Dir = wd
		}
	}
	if len(files) == 0 {
		files = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	}
	c, err := request(dir, control.Request{Exec: &e}, files...)
	if err != nil {
		return 1, err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.CloseWrite() })
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				if number, ok := s.(syscall.Signal); ok {
					_ = control.WriteFrame(c, control.Signal{Number: int(number)}) // if it fails the reply does, too
				}
			case <-ended:
				return
			}
		}
	}()
	r, err := reply(c)
	if err != nil {
		return 1, err
	}
	return r.Code, nil
}

// Namespaces asks the playground in dir for its namespaces.
func Namespaces(dir string) ([]control.Namespace, error) {
	c, err := request(dir, control.Request{List: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	r, err := reply(c)
	return r.Namespaces, err
}

// findCommand looks for a command of this machine in PATH and then in the folders. nft and ip are often where PATH leads root
// alone.
func findCommand(name string, folders ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if strings.Contains(name, "/") {
		folders = nil
	}
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	// The first error is told: the others name files that nobody asked for.
	return "", fmt.Errorf("finding the command: %w", err)
}

// Exec runs a command in a namespace of the playground in dir. A terminal becomes the command's own.
func Exec(dir, namespace string, args []string, assets, bin string, signals <-chan os.Signal) (int, error) {
	path, err := findCommand(args[0], bin, assets, "/usr/sbin", "/sbin")
	if err != nil {
		return 127, err
	}
	e := control.Exec{
		Namespace: namespace, Args: append([]string{path}, args[1:]...), Env: Environment(dir, assets, bin),
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return execute(context.Background(), dir, e, signals)
	}
	return onTerminal(dir, e)
}

// onTerminal runs a command on a new pseudo terminal that shows in this one, so that job control works there.
func onTerminal(dir string, e control.Exec) (int, error) {
	master, slave, err := openPTY()
	if err != nil {
		return 1, err
	}
	defer func() { _ = master.Close() }()
	here := int(os.Stdin.Fd())
	resize := func() {
		if size, err := unix.IoctlGetWinsize(here, unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	go func() {
		for range changes {
			resize()
		}
	}()
	state, err := term.MakeRaw(here)
	if err != nil {
		_ = slave.Close()
		return 1, fmt.Errorf("preparing the terminal: %w", err)
	}
	defer func() { _ = term.Restore(here, state) }()
	go func() { _, _ = io.Copy(master, os.Stdin) }()
	shown := make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stdout, master) // ends with an error once the last holder of the other side is gone
		close(shown)
	}()
	e.TTY = true
	code, err := execute(context.Background(), dir, e, nil, slave, slave, slave)
	_ = slave.Close()
	if err == nil {
		<-shown
	}
	return code, err
}

// openPTY makes a pseudo terminal.
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a terminal: %w", err)
	}
	fd := int(master.Fd())
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	var number int
	if err == nil {
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("making a terminal: %w", err), master.Close())
	}
	return master, slave, nil
}
