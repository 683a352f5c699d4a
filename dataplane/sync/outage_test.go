package sync

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/client-go/rest"
)

// TestOutageRemedy: an address that never answered may be the wrong one; one that did is right.
func TestOutageRemedy(t *testing.T) {
	var lines []string
	o := &outage{server: "https://10.96.0.1:443", log: funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})}
	now := time.Now()
	for _, tc := range []struct {
		after  time.Duration
		err    error
		remedy bool
	}{
		{0, syscall.ETIMEDOUT, true},
		{sayAgain, syscall.ETIMEDOUT, true},
		{2 * sayAgain, nil, false},
		{3 * sayAgain, syscall.ETIMEDOUT, false},
	} {
		lines = nil
		o.note(now.Add(tc.after), tc.err)
		if len(lines) != 1 || strings.Contains(lines[0], "fairlead-api-server") != tc.remedy {
			t.Errorf("after %v, with error %v: logged %q, want one line, with a remedy: %v", tc.after, tc.err, lines, tc.remedy)
		}
	}
}

// TestEndsWhileRefused: between two tries at an API server that is away, the loop ends with its context all the same.
func TestEndsWhileRefused(t *testing.T) {
	var tries atomic.Int32
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	source, err := NewSource(&rest.Config{Host: "http://192.0.2.1", Dial: func(context.Context, string, string) (net.Conn, error) {
		tries.Add(1)
		return nil, refused
	}}, "n1", false)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(Options{Source: source, Backend: r, Observer: r, FullInterval: time.Hour}).Run(ctx)
		}()
		// Each of the four watches waits for 2 s and more after its third try.
		r.eventually(t, "three tries of four watches", func() bool { return tries.Load() >= 12 })
		cancel()
		begin := time.Now()
		<-done
		if took := time.Since(begin); took > 0 { // virtual time
			t.Errorf("it waits for the next try for %v after the end", took)
		}
	})
}
