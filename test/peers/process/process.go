// Package process runs the programs that a benchmark compares, and tells what they use. It is no supervisor: a program
// that ends stays ended, and is an error where somebody asks.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that this one started. It ends with this one, however this one ends.
type Process struct {
	Name string
	PID  int

	log string // file of its output

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of its end, after ended
}

// Start runs a program with its output in dir/name.log.
func Start(dir, name string, args ...string) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer func() { _ = log.Close() }() // the program has its own descriptor
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A group of its own keeps Ctrl-C in a terminal from ending the programs before their order is known.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Stop asks the program to end, and makes it end after 20 s. What it had started ends with it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
	}
	p.Kill()
}

// Kill ends the program and what it had started without asking.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // all may have ended
	<-p.ended
}

// Alive is an error with the end of the program's log once it has ended.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s has ended (%w); its last lines:\n%s", p.Name, p.err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
}

// CPU is the CPU time that the program has used so far.
func (p *Process) CPU() (time.Duration, error) { return CPUOf(p.PID) }

// CPUOf reads the CPU clock of a process, which is utime and stime of /proc/PID/stat together, but in nanoseconds rather
// than in hundredths of a second.
func CPUOf(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &at); err != nil { //nolint:gosec // a process id fits
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

// Memory is the program's resident memory in bytes, now and at its highest since ResetPeak.
func (p *Process) Memory() (resident, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, 0, fmt.Errorf("reading memory: %w", err)
	}
	return parseStatus(text)
}

func parseStatus(text []byte) (resident, peak int64, err error) {
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &resident
		case "VmHWM":
			into = &peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("reading %s: %w", name, err)
		}
		*into = kib << 10
	}
	if resident == 0 || peak == 0 {
		return 0, 0, errors.New("reading memory: /proc/PID/status has no VmRSS or no VmHWM")
	}
	return resident, peak, nil
}

// ResetPeak makes what is resident now the peak.
func (p *Process) ResetPeak() error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID), []byte("5"), 0); err != nil {
		return fmt.Errorf("resetting the peak of memory: %w", err)
	}
	return nil
}

// userTick is the unit of CPU times in /proc. Linux shows them in hundredths of a second everywhere.
const userTick = 10 * time.Millisecond

// Machine is the CPU time that all programs on this machine have used so far, and what there was to use.
func Machine() (busy, all time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("reading the machine's CPU time: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("reading the machine's CPU time: %w", err)
		}
		if i > 7 { // guests are counted in the columns before
			break
		}
		all += time.Duration(n) * userTick
		if i != 3 && i != 4 { // idle, waiting for a disk
			busy += time.Duration(n) * userTick
		}
	}
	return busy, all, nil
}

// FreeAddress is an address of a host and a port on which nobody listens at the moment.
func FreeAddress(host string) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}
