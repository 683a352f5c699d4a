// Package app is the command manager, for programs that link more clouds into it than this repository has: each such
// package registers itself (cloud.Register, adapter.Register), and main calls Main. It only reads its configuration,
// connects and wires; what is decided is decided in endpoints/, topology/, portalloc/ and cloud/, and written by
// controllers/.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"
)

// Exit codes of the manager.
const (
	exitDone    = 0
	exitFailed  = 1 // it could not go on
	exitRefused = 2 // flags or the configuration file are wrong: starting again will not help
)

// The garbage collector runs when garbage is garbagePercent of what lives, unless GOGC says otherwise: with the caches of a
// large cluster, less than Go's 100 keeps the manager small. Ballast is memory that is never touched, and so never
// resident, but counts as live: the caches of a small cluster would let the collector run without a pause.
const (
	garbagePercent = 60
	ballast        = 40 << 20
)

// Main runs the manager with the arguments of the process, and ends the process.
func Main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	untouched := make([]byte, ballast)
	code := run(ctrl.SetupSignalHandler(), os.Args[1:], os.Stdout, os.Stderr)
	runtime.KeepAlive(untouched)
	os.Exit(code)
}

// run is main but for the process around it: it returns the exit code. Mistakes go to stderr, all of them on one line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	settings, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		complain(stderr, err)
		return exitRefused
	case settings == nil: // --version
		return exitDone
	}
	log := setLogger(stderr, settings.logFormat, settings.verbosity)
	if err := start(ctx, log, settings.configuration); err != nil {
		complain(stderr, err)
		return exitFailed
	}
	return exitDone
}

// complain prints an error behind the program's name, on one line, however many mistakes it names.
func complain(w io.Writer, err error) {
	mistakes := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for i, mistake := range mistakes {
		mistakes[i] = strings.TrimSpace(mistake)
	}
	fmt.Fprintf(w, "manager: %s\n", strings.Join(mistakes, "; "))
}
