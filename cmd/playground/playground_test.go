package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rig is where the programs are, and a cache folder of the test's own.
type rig struct {
	playground, assets, manifests, cache string
}

func newRig(t *testing.T) rig {
	t.Helper()
	abs := func(path string) string {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := rig{playground: abs("../../bin/playground"), manifests: abs("../../config"), assets: os.Getenv("FAIRLEAD_ASSETS")}
	if r.assets == "" {
		r.assets = os.Getenv("KUBEBUILDER_ASSETS")
	}
	if r.assets == "" {
		t.Skip("the programs of Kubernetes are needed: set FAIRLEAD_ASSETS to what `make controlplane` prints")
	}
	if _, err := os.Stat(r.playground); err != nil {
		t.Skip("the programs in bin are needed: run `make build`")
	}
	var err error
	// Not t.TempDir, whose path would be too long for sockets.
	if r.cache, err = os.MkdirTemp("", "fl-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(r.cache) })
	return r
}

// command is bounded in time; where it hangs, its goroutines are printed (by SIGQUIT).
func (r rig) command(t *testing.T, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, r.playground, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+r.cache, "FAIRLEAD_ASSETS="+r.assets)
	return cmd
}

func (r rig) up(t *testing.T, args ...string) *exec.Cmd {
	return r.command(t, append([]string{"up", "--config-dir", r.manifests}, args...)...)
}

// folders are the run folders that are left.
func (r rig) folders(t *testing.T) []string {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(r.cache, "fairlead/playground/*/"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(entries, func(path string) bool { return filepath.Base(path) == "lock" })
}

func TestRun(t *testing.T) {
	r := newRig(t)
	cmd := r.up(t, "--run", "cat; kubectl get nodes -o name; echo to the errors >&2; exit 7")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("from outside\n"), &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("%v, want exit code 7; errors:\n%s", err, &errs)
	}
	if diff := cmp.Diff("from outside\nnode/n1\nnode/n2\nnode/n3\n", out.String()); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	if !strings.Contains(errs.String(), "to the errors\n") || !strings.Contains(errs.String(), " ✓ up ") {
		t.Errorf("errors are:\n%s", &errs)
	}
	if left := r.folders(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestThreeAtOnce: each sees its own cluster, though all use the same addresses and ports inside.
func TestThreeAtOnce(t *testing.T) {
	r := newRig(t)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			name := fmt.Sprintf("of-%d", i)
			out, err := r.up(t, "--run", "kubectl create namespace "+name+" -o name && sleep 2 && "+
				"kubectl get namespace -o name && kubectl wait --for=condition=Ready node --all").CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v:\n%s", name, err, out)
			}
			if n := bytes.Count(out, []byte("namespace/of-")); n != 2 { // made, and listed
				t.Errorf("%s: %d namespaces of this test's are named, want 2:\n%s", name, n, out)
			}
		})
	}
	all.Wait()
	if left := r.folders(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReaderGone: `make playground | tee log` ends tee by the same Ctrl-C, and nobody reads how the playground ends.
func TestReaderGone(t *testing.T) {
	r := newRig(t)
	cmd := r.up(t, "-demo=false")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "KUBECONFIG="); {
	}
	if len(r.folders(t)) != 1 {
		t.Errorf("it did not come up: run folders are %v", r.folders(t))
	}
	_ = out.Close()
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if left := r.folders(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// moment says when and how a playground is ended.
type moment struct {
	// ready: only once it is up.
	ready bool
	after time.Duration
	// then are the signals, with a pause after each.
	then  []syscall.Signal
	pause time.Duration
}

func moments() []moment {
	random := rand.New(rand.NewPCG(1, 2))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT}
	var all []moment
	for i := range 10 { // while it starts
		all = append(all, moment{after: upTo(9 * time.Second), then: signals[i%3 : i%3+1]})
	}
	for i := range 5 { // while it runs
		all = append(all, moment{ready: true, after: upTo(2 * time.Second), then: signals[i%3 : i%3+1]})
	}
	for range 5 { // while it ends
		all = append(all, moment{
			ready: true, then: []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}, pause: upTo(300 * time.Millisecond),
		})
	}
	return all
}

// TestKilledLeavesNothing: killed at 20 moments of its start, run and end, a playground leaves no process, namespace, link,
// mount or table.
func TestKilledLeavesNothing(t *testing.T) {
	r := newRig(t)
	before := hostState(t)
	for i, m := range moments() {
		t.Run(fmt.Sprintf("%d-ready=%t-after=%s-%v", i, m.ready, m.after.Round(time.Millisecond), m.then), func(t *testing.T) {
			mark := fmt.Sprintf("FAIRLEAD_TEST_MARK=%d-%d", os.Getpid(), i)
			namespace := r.kill(t, m, mark)
			if namespace != nil {
				defer func() { _ = namespace.Close() }()
			}
			var left []string
			for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if left = processes(t, mark, namespace); len(left) == 0 {
					break
				}
			}
			if len(left) > 0 {
				t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
			}
			if diff := cmp.Diff(before, hostState(t)); diff != "" {
				t.Errorf("the host is changed (-before +after):\n%s", diff)
			}
			if out, err := r.command(t, "down").CombinedOutput(); err != nil || !strings.Contains(string(out), "no playground") {
				t.Errorf("down: %v: %s", err, out)
			}
			if folders := r.folders(t); len(folders) > 0 {
				t.Errorf("run folders are left: %v", folders)
			}
		})
	}
}

// kill brings a playground up, ends it at its moment, and returns the user namespace that it was in, if it came that far.
// As long as that is open, no other namespace gets its number.
func (r rig) kill(t *testing.T, m moment, mark string) (namespace *os.File) {
	t.Helper()
	cmd := r.up(t)
	cmd.Env = append(cmd.Env, mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		buffer := make([]byte, 1) // the summary is the first thing on standard output
		_, err := io.ReadFull(out, buffer)
		ready <- err == nil
		_, _ = io.Copy(io.Discard, out)
	}()
	begun := time.Now()
	if m.ready {
		select {
		case ok := <-ready:
			if !ok {
				_ = cmd.Wait()
				t.Fatalf("it did not come up:\n%s", &errs)
			}
		case <-time.After(3 * time.Minute):
			_ = cmd.Process.Kill()
			t.Fatalf("it is not up after 3 minutes:\n%s", &errs)
		}
		begun = time.Now()
	}
	for {
		if namespace == nil {
			namespace = childNamespace(cmd.Process.Pid)
		}
		if time.Since(begun) >= m.after {
			break
		}
		time.Sleep(time.Millisecond) // it is the moment that is waited for
	}
	for _, s := range m.then {
		_ = cmd.Process.Signal(s) // it may have ended by the one before
		time.Sleep(m.pause)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill()
		t.Errorf("%v did not end the launcher within 2 minutes:\n%s", m.then, &errs)
	}
	return namespace
}

// childNamespace opens the user namespace of a process's only child; nil: there is none, or it is our own.
func childNamespace(pid int) *os.File {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	child := strings.TrimSpace(string(children))
	if err != nil || child == "" {
		return nil
	}
	namespace, err := os.Open("/proc/" + child + "/ns/user")
	if err != nil {
		return nil
	}
	if sameFile(namespace, "/proc/self/ns/user") {
		_ = namespace.Close()
		return nil
	}
	return namespace
}

// sameFile says whether a path leads to an open file.
func sameFile(f *os.File, path string) bool {
	if f == nil {
		return false
	}
	one, err := f.Stat()
	if err != nil {
		return false
	}
	other, err := os.Stat(path)
	return err == nil && os.SameFile(one, other)
}

// processes lists those that have the mark in their environment or are in the user namespace.
func processes(t *testing.T, mark string, namespace *os.File) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		environ, _ := os.ReadFile(dir + "/environ") // others' processes cannot be read, and ours can
		if bytes.Contains(environ, []byte(mark+"\x00")) || sameFile(namespace, dir+"/ns/user") {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			found = append(found, dir+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// hostState is what a playground must not change: the links and mounts of this process's namespaces, and, where we may
// read them, the tables of its packet filter.
func hostState(t *testing.T) map[string][]string {
	t.Helper()
	state := map[string][]string{}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		state["links"] = append(state["links"], l.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	state["mounts"] = strings.Split(string(mounts), "\n")
	if os.Getuid() == 0 {
		state["tables"] = tables(t)
	}
	return state
}
