package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/plugin"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// insideVariable makes this test's program the plugin.
const insideVariable = "HOSTLB_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		go func() { // it ends with the test, whose end closes its input
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
		main()
		return
	}
	nstest.Main(m)
}

// process is the plugin in a process of its own.
type process struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	input io.Closer
}

func (p *process) socket() string { return filepath.Join(p.dir, "socket") }

// start returns when the plugin has said hello.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command("/proc/self/exe", "-socket", p.socket(), "-pools", filepath.Join(p.dir, "pools"))
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), insideVariable+"=1"), os.Stderr
	input, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.input = input
	p.connect().Close()
}

// connect tries until the plugin answers: on a busy machine it may listen and not have said hello for a while.
func (p *process) connect() *plugin.Client {
	p.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		client, err := plugin.New(plugin.Options{Name: "hostlb", Socket: p.socket()})
		if err == nil {
			return client
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the plugin does not answer: %v", err)
		}
	}
}

// kill is kill -9: what the plugin knows is gone, and its socket stays behind.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
	_ = p.input.Close()
}

// killer kills the plugin before or after the n-th call, and leaves it dead.
type killer struct {
	cloud.Provider
	process *process
	n       int
	after   bool
	calls   int
}

func (k *killer) do(call func()) {
	k.calls++
	if k.calls == k.n && !k.after {
		k.process.kill()
	}
	call()
	if k.calls == k.n && k.after {
		k.process.kill()
	}
}

func (k *killer) Observe(ctx context.Context, owner cloud.Owner) (resources []cloud.Resource, err error) {
	k.do(func() { resources, err = k.Provider.Observe(ctx, owner) })
	return resources, err
}

func (k *killer) Create(ctx context.Context, owner cloud.Owner, r cloud.Resource) (made cloud.Resource, err error) {
	k.do(func() { made, err = k.Provider.Create(ctx, owner, r) })
	return made, err
}

func (k *killer) Update(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) (err error) {
	k.do(func() { err = k.Provider.Update(ctx, owner, observed, desired) })
	return err
}

func (k *killer) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) (err error) {
	k.do(func() { err = k.Provider.Delete(ctx, owner, r) })
	return err
}

func (k *killer) SyncTargets(ctx context.Context, changes []cloud.TargetChange) (errs []error) {
	k.do(func() { errs = k.Provider.SyncTargets(ctx, changes) })
	return errs
}

// settle passes until nothing is left to do.
func settle(t *testing.T, p cloud.Provider, owner cloud.Owner, desired []cloud.Resource) []cloud.Resource {
	t.Helper()
	var err error
	for range 10 {
		var out cloud.Outcome
		if out, err = cloud.Converge(t.Context(), p, owner, desired, cloud.Options{}); err == nil && out.Left.Empty() {
			return out.Observed
		}
	}
	t.Fatalf("after 10 passes it is still not what is desired: %v", err)
	return nil
}

// TestKilled: the plugin, a process of its own, is killed before or after each single call of a creation, a change and a
// deletion. Started again, it ends up as it does without, and leaves nothing.
func TestKilled(t *testing.T) {
	if !nstest.Inside() {
		t.Skip("namespaces are not to be had: run as root, or allow user namespaces")
	}
	dir, err := os.MkdirTemp("", "hostlb") // short enough for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pools := []byte(`{"pools": [{"name": "default", "prefix": "198.51.100.0/24"}]}`)
	if err := os.WriteFile(filepath.Join(dir, "pools"), pools, 0o600); err != nil {
		t.Fatal(err)
	}
	process := &process{t: t, dir: dir}
	process.start()
	t.Cleanup(func() { process.kill() })
	client := process.connect()
	t.Cleanup(client.Close)

	spec, changed := cloudtest.Spec(client.Capabilities(), 2), cloudtest.Spec(client.Capabilities(), 3)
	changed.Ports[0].NodePort = 30999
	var lives [][]cloud.Resource
	for _, s := range []cloud.Spec{spec, changed} {
		desired, err := client.Desired(s)
		if err != nil {
			t.Fatal(err)
		}
		lives = append(lives, desired)
	}
	lives = append(lives, nil)
	want := make([][]cloud.Resource, len(lives))
	for i, desired := range lives {
		want[i] = settle(t, client, spec.Owner, desired)
	}
	kills := 0
	for i, desired := range lives {
		var before []cloud.Resource
		if i > 0 {
			before = lives[i-1]
		}
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				settle(t, client, spec.Owner, before)
				k := &killer{Provider: client, process: process, n: n, after: after}
				_, err := cloud.Converge(t.Context(), k, spec.Owner, desired, cloud.Options{})
				if k.calls < n {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				kills++
				process.start()
				got := settle(t, client, spec.Owner, desired)
				if diff := cmp.Diff(want[i], got); diff != "" {
					t.Errorf("step %d, killed at call %d (after it: %t), ends up different (-want +got):\n%s", i, n, after, diff)
				}
				settle(t, client, spec.Owner, nil)
				if left, err := client.List(t.Context(), spec.Owner.ClusterID); len(left) > 0 || err != nil {
					t.Errorf("step %d, killed at call %d (after it: %t), leaves %+v (%v)", i, n, after, left, err)
				}
			}
		}
	}
	if kills < 20 {
		t.Errorf("the plugin was killed %d times only", kills)
	}
	process.kill()
	_, err = client.Observe(t.Context(), spec.Owner)
	if !cloud.IsClass(err, cloud.RetryAfter) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a plugin that is not there: %v, want class RetryAfter", err)
	}
	process.start()
}
