package applet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	builtin "github.com/fairlead/fairlead/cmd/playground/echo"
)

// kill sends SIGTERM, or another signal (-9, -KILL, -s KILL), to processes.
func kill(args []string, _ stdio) error {
	number := unix.SIGTERM
	if len(args) > 1 && args[0] == "-s" {
		args = append([]string{"-" + args[1]}, args[2:]...)
	}
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		var err error
		if number, err = parseSignal(args[0][1:]); err != nil {
			return err
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("which process? (kill [-SIGNAL] PID...)")
	}
	var errs []error
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err == nil {
			err = unix.Kill(pid, number)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func parseSignal(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("unknown signal %q", name)
}

// ps lists the processes of the PID namespace.
func ps(_ []string, std stdio) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	fmt.Fprintln(std.out, "  PID COMMAND")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil {
			continue
		}
		fmt.Fprintf(std.out, "%5d %s\n", pid, bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	}
	return nil
}

// nginx is the built-in server, for Pods that start it by this name; `nginx -s quit` ends it, as hooks do.
func nginx(args []string, _ stdio) error {
	if len(args) == 2 && args[0] == "-s" && (args[1] == "quit" || args[1] == "stop") {
		return unix.Kill(1, unix.SIGTERM) // the container's init passes it on
	}
	if code := builtin.Main(nil); code != 0 {
		return exitCode(code)
	}
	return nil
}
