package cri

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readLog returns the lines of a log without their times, which must be in order.
func readLog(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var last time.Time
	for line := range strings.Lines(string(data)) {
		stamp, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || at.Before(last) {
			t.Fatalf("time %q after %s: %v", stamp, last, err)
		}
		last = at
		lines = append(lines, rest)
	}
	return lines
}

func TestLogFormat(t *testing.T) {
	long := strings.Repeat("x", maxLogLine)
	for name, tc := range map[string]struct {
		reason, output string
		want           []string
	}{
		"lines":      {reason: "a line each", output: "one\ntwo\n", want: []string{"stdout F one", "stdout F two"}},
		"empty line": {reason: "kept", output: "\n", want: []string{"stdout F "}},
		"no end":     {reason: "the reader adds no newline to a part", output: "one\ntwo", want: []string{"stdout F one", "stdout P two"}},
		"longest":    {reason: "just fits", output: long + "\n", want: []string{"stdout F " + long}},
		"too long":   {reason: "cut, to be joined again", output: long + "y\n", want: []string{"stdout P " + long, "stdout F y"}},
		"nothing":    {reason: "no line at all"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pod", "0.log")
			l, err := openLog(path)
			if err != nil {
				t.Fatal(err)
			}
			var shown bytes.Buffer
			l.attach(&shown, nil)
			l.follow("stdout", strings.NewReader(tc.output))
			l.close()
			if diff := cmp.Diff(tc.want, readLog(t, path)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if shown.String() != tc.output {
				t.Errorf("attached readers saw %q", shown.String())
			}
		})
	}
}

func TestLogReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	l.follow("stderr", strings.NewReader("before\n"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.follow("stderr", strings.NewReader("between\n"))
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	l.follow("stderr", strings.NewReader("after\n"))
	l.close()
	got := fmt.Sprint(readLog(t, path+".1"), readLog(t, path))
	if want := "[stderr F before stderr F between] [stderr F after]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// broken is a reader who has left.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestAttachedReaderLeaves(t *testing.T) {
	l, err := openLog("")
	if err != nil {
		t.Fatal(err)
	}
	a := l.attach(broken{}, nil)
	l.follow("stdout", strings.NewReader("text\n"))
	select {
	case <-a.left:
	default:
		t.Error("nobody noticed")
	}
}
