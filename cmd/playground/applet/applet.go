// Package applet holds the few commands of the built-in image (sh, sleep, cat, wget, nc and others), chosen by the name
// that the playground's binary is called by, so that hooks, probes and `kubectl exec` have something to run.
//
// They are what samples and a curious hand need, not a replacement of a distribution's tools.
package applet

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// stdio is what a command reads and writes. in is a file and no other reader: from one, the interpreter of `sh` would read
// ahead for the script's commands what its parser has yet to see.
type stdio struct {
	in       *os.File
	out, err io.Writer
}

// command is one applet. args are without its name; an error is printed after the name and means exit code 1, unless it
// is an exitCode.
type command func(args []string, std stdio) error

// exitCode is an error that only says how to end.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Names are the names that the built-in image has links for, sorted.
func Names() []string { return slices.Sorted(maps.Keys(commands())) }

// Main runs the applet that argv[0] names. ok is false if it names none (the binary was called by its own name): the
// caller then goes on as `playground`. cmd/playground calls it first of all.
func Main(argv []string) (code int, ok bool) {
	if len(argv) == 0 {
		return 0, false
	}
	name := filepath.Base(argv[0])
	run, ok := commands()[name]
	if !ok {
		return 0, false
	}
	err := run(argv[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	if err == nil {
		return 0, true
	}
	if code := exitCode(0); errors.As(err, &code) {
		return int(code), true
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1, true
}
