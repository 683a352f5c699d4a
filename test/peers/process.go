package main

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

// process is a program that this one started. It ends with this one, however this one ends.
type process struct {
	name string
	pid  int
	log  string // file of its output

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of its end, after ended
}

// start runs a program with its output in dir/name.log.
func start(dir, name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
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
	p.pid = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop asks the program to end, and makes it end after 20 s.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return
	case <-time.After(20 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// alive is an error with the end of the program's log once it has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s has ended (%w); its last lines:\n%s", p.name, p.err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
}

// cpu is the CPU time that the program has used so far.
func (p *process) cpu() (time.Duration, error) { return cpuOf(p.pid) }

// cpuOf reads the CPU clock of a process, which is utime and stime of /proc/PID/stat together, but in nanoseconds rather
// than in hundredths of a second.
func cpuOf(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &at); err != nil { //nolint:gosec // a process id fits
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

// memory is the program's resident memory in bytes, now and at its highest since resetPeak.
func (p *process) memory() (resident, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
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

// resetPeak makes what is resident now the peak.
func (p *process) resetPeak() error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("resetting the peak of memory: %w", err)
	}
	return nil
}

// userTick is the unit of CPU times in /proc. Linux shows them in hundredths of a second everywhere.
const userTick = 10 * time.Millisecond

// machine is the CPU time that all programs on this machine have used so far, and what there was to use.
func machine() (busy, all time.Duration, err error) {
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

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress() (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// errTimeout is of a wait that was in vain.
var errTimeout = errors.New("not in time")

// poll calls done at once and then every interval until it says so, returns an error, or time runs out, which is an
// errTimeout; the last error of unfinished then says what was missing.
func poll(ctx context.Context, interval, limit time.Duration, what string, done func() (ok bool, unfinished, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, unfinished, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waiting %s for %s: %w: %w", limit, what, errTimeout, unfinished)
			}
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(interval):
		}
	}
}
