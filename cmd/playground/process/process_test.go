package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// table is the one of this process: it reaps all children of the tests.
var table *Table

func TestMain(m *testing.M) {
	// Orphans below this process come to it, as they come to the first process of a namespace.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "becoming a reaper:", err)
		os.Exit(1)
	}
	var err error
	if table, err = NewTable(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, script string, files ...*os.File) *Process {
	t.Helper()
	p, err := table.Start(Spec{Args: []string{"/bin/sh", "-c", script}, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Signal(syscall.SIGKILL, true) })
	return p
}

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

func ended(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("process %d has not ended", p.Pid)
	}
}

func TestExitCode(t *testing.T) {
	for name, tc := range map[string]struct {
		script, describe string
		code             int
	}{
		"Fine":   {script: "exit 0", describe: "exited with code 0"},
		"Code":   {script: "exit 7", code: 7, describe: "exited with code 7"},
		"Signal": {script: "kill -TERM $$; sleep 10", code: 143, describe: "ended by signal terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			p := shell(t, tc.script)
			ended(t, p)
			if got := ExitCode(p.Status()); got != tc.code {
				t.Errorf("code %d, want %d", got, tc.code)
			}
			if got := Describe(p.Status()); got != tc.describe {
				t.Errorf("described as %q, want %q", got, tc.describe)
			}
		})
	}
}

func TestStartRefused(t *testing.T) {
	if _, err := table.Start(Spec{Args: []string{"/nonexistent"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
}

func TestFilesAndGroup(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := shell(t, "read nothing; echo out; echo err >&2; sleep 100 & wait", nil, w, w)
	_ = w.Close()
	buffer := make([]byte, 16)
	n, err := io.ReadFull(r, buffer[:8])
	if err != nil || string(buffer[:n]) != "out\nerr\n" {
		t.Fatalf("read %q, %v", buffer[:n], err)
	}
	// The sleep is in the shell's group and holds the pipe, too.
	p.Signal(syscall.SIGTERM, true)
	ended(t, p)
	if n, err := r.Read(buffer); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v, want the end", n, err)
	}
	p.Signal(syscall.SIGKILL, true) // of nobody: must not reach whoever has the number now
}

func TestOrphansAreReaped(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := shell(t, "(sleep 0.1) & echo $!", nil, w)
	_ = w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	orphan := strings.TrimSpace(string(out))
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + orphan); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %s is still there", orphan)
		}
	}
}

func TestSupervise(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	starts, ends := 0, 0
	Supervise(ctx, func() (*Process, error) {
		starts++
		if starts == 2 {
			return nil, errors.New("not now")
		}
		return table.Start(Spec{Args: []string{"/bin/true"}})
	}, func(p *Process, err error) {
		ends++
		if (p == nil) != (err != nil) {
			t.Errorf("end %d: process %v, error %v", ends, p, err)
		}
		if ends == 3 {
			cancel()
		}
	})
	if starts != 3 || ends != 3 {
		t.Errorf("%d starts and %d ends, want 3 of each", starts, ends)
	}
}
