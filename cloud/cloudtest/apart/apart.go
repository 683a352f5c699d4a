// Package apart runs a test of the calling package in a process of its own, where cases of it are meant to be skipped or
// to fail: the suite of package cloudtest on a provider that does not declare everything, or that has a defect.
package apart

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Outcome is what became of a test.
type Outcome struct {
	// Output is all that it printed, with -test.v.
	Output string
	// Passed, Skipped and Failed are its cases, sorted, without the test's own name before them.
	Passed, Skipped, Failed []string
	// Err is nil if it passed.
	Err error
}

// Run runs a test, or the one case of it that "Test/Case" names, with a variable ("NAME=value") more in its environment,
// by which it is to tell that it is run apart. Flags of the test binary come last and take precedence.
func Run(ctx context.Context, test, variable string, flags ...string) Outcome {
	name, _, _ := strings.Cut(test, "/")
	var pattern []string
	for part := range strings.SplitSeq(test, "/") {
		pattern = append(pattern, "^"+part+"$")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-test.v", "-test.timeout=10m", "-test.run=" + strings.Join(pattern, "/")}, flags...)...) //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), variable)
	out, err := cmd.CombinedOutput()
	o := Outcome{Output: string(out), Err: err}
	for line := range strings.Lines(o.Output) {
		for prefix, cases := range map[string]*[]string{"--- PASS: ": &o.Passed, "--- SKIP: ": &o.Skipped, "--- FAIL: ": &o.Failed} {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix+name+"/"); ok {
				*cases = append(*cases, strings.Fields(rest)[0])
			}
		}
	}
	slices.Sort(o.Passed)
	slices.Sort(o.Skipped)
	slices.Sort(o.Failed)
	return o
}

// Passes holds a test that is run apart to passing, and to skipping these cases, sorted, and no others.
func Passes(t *testing.T, test, variable string, skipped ...string) {
	t.Helper()
	o := Run(t.Context(), test, variable)
	switch {
	case o.Err != nil:
		t.Errorf("%s: %v\n%s", test, o.Err, o.Output)
	case len(o.Passed) == 0:
		t.Errorf("%s ran nothing\n%s", test, o.Output)
	case !slices.Equal(o.Skipped, skipped):
		t.Errorf("%s skipped %q, want %q", test, o.Skipped, skipped)
	}
}

// Catches holds a case of a test that is run apart to failing, without a panic.
func Catches(t *testing.T, test, variable string) {
	t.Helper()
	o := Run(t.Context(), test, variable)
	_, name, _ := strings.Cut(test, "/")
	if o.Err == nil || !slices.Contains(o.Failed, name) || strings.Contains(o.Output, "panic:") {
		t.Errorf("%s did not fail (%v) in:\n%s", test, o.Err, o.Output)
	}
}
