package plugin_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/fake/faketest"
	"github.com/fairlead/fairlead/cloud/plugin"
)

// The variables that make this test's program a plugin: its socket, and that of the fake cloud; or many, whose sockets it reads
// from its input.
const (
	socketEnv = "FAIRLEAD_PLUGIN_SOCKET"
	cloudEnv  = "FAIRLEAD_PLUGIN_CLOUD"
	writesEnv = "FAIRLEAD_PLUGIN_WRITES" // per second; empty: no limit
	manyEnv   = "FAIRLEAD_PLUGIN_MANY"
)

func TestMain(m *testing.M) {
	switch socket := os.Getenv(socketEnv); {
	case os.Getenv(manyEnv) != "":
		serveMany()
		os.Exit(0)
	case socket != "":
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			defer stop()
			_, _ = io.Copy(io.Discard, os.Stdin) // which the test's end closes
		}()
		if err := servePlugin(ctx, socket, os.Getenv(cloudEnv)); err != nil {
			fmt.Fprintln(os.Stderr, "plugin:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Most of their time tests wait for a time to pass, so that more of them run than there are cores.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// servePlugin is the main function of a plugin for the fake cloud.
func servePlugin(ctx context.Context, socket, endpoint string) error {
	client, err := fake.NewClient(endpoint)
	if err != nil {
		return err
	}
	return plugin.Serve(ctx, socket, fake.NewProvider(client, func(caps *cloud.Capabilities) {
		_, _ = fmt.Sscan(os.Getenv(writesEnv), &caps.Limits.Writes.PerSecond)
	}))
}

// serveMany serves a plugin for each line of the input, which names its socket and its cloud, until the input ends.
func serveMany() {
	var socket, endpoint string
	for {
		if _, err := fmt.Scanln(&socket, &endpoint); err != nil {
			return
		}
		go func(socket, endpoint string) {
			err := servePlugin(context.Background(), socket, endpoint)
			if _, there := os.Stat(filepath.Dir(socket)); err != nil && there == nil {
				fmt.Fprintln(os.Stderr, "plugin:", err)
			}
		}(socket, endpoint)
	}
}

// many is the input of a process that serves plugins, of which a suite needs hundreds.
var many = sync.OnceValues(func() (io.Writer, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), manyEnv+"=yes")
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start() // it ends with this process, whose end closes its input
	}
	return input, err
})

// process is a plugin in a process of its own.
type process struct {
	t      *testing.T
	socket string
	env    []string
	cmd    *exec.Cmd
	input  io.Closer
}

// start runs the plugin of a cloud, and returns when it listens.
func start(t *testing.T, c *fake.Cloud, env ...string) *process {
	t.Helper()
	folder := folder(t)
	p := &process{t: t, socket: filepath.Join(folder, "plugin"), env: append(env, cloudEnv+"="+serveCloud(t, folder, c))}
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// serveCloud serves a cloud until the test ends, and returns where.
func serveCloud(t *testing.T, folder string, c *fake.Cloud) (endpoint string) {
	t.Helper()
	socket := filepath.Join(folder, "cloud")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: fake.Handler(c)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "unix://" + socket
}

// folder is one whose name leaves room for that of a socket.
func folder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "plugin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// run starts the process and returns when it listens.
func (p *process) run() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(p.env, socketEnv+"="+p.socket)...)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	p.cmd, p.input = cmd, input
	return poll(func() error { return answers(p.socket) })
}

// answers reports whether somebody listens.
func answers(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// kill is kill -9. The socket stays behind.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
	_ = p.input.Close()
}

// client connects to the plugin.
func (p *process) client() *plugin.Client {
	p.t.Helper()
	return connect(p.t, plugin.Options{Name: "rack", Socket: p.socket})
}

func connect(t *testing.T, options plugin.Options) *plugin.Client {
	t.Helper()
	var c *plugin.Client
	eventually(t, func() (err error) {
		c, err = plugin.New(options) // on a busy machine a plugin may listen and not have said hello for a while
		return err
	})
	t.Cleanup(c.Close)
	return c
}

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// poll tries until there is no error, or returns the last one.
func poll(try func() error) (err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}

// eventually polls until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	if err := poll(try); err != nil {
		t.Fatal(err)
	}
}

// harness is a cloud in this process, its plugin in another, which serves those of other harnesses, too, and the client here
// again.
func harness(t *testing.T) *cloudtest.Harness {
	c := newCloud()
	folder := folder(t)
	socket := filepath.Join(folder, "plugin")
	input, err := many()
	if err == nil {
		_, err = fmt.Fprintln(input, socket, serveCloud(t, folder, c.Cloud))
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return answers(socket) })
	return c.Harness(func() cloud.Provider { return connect(t, plugin.Options{Name: "rack", Socket: socket}) })
}

func newCloud() *faketest.Cloud { return faketest.New(fake.Options{}) }

// suiteEnv has TestSuite run the suite.
const suiteEnv = "FAIRLEAD_PLUGIN_SUITE"

// TestSuite is what TestProvider runs in processes of their own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if os.Getenv(suiteEnv) != "" {
		cloudtest.RunLive(t, harness)
	}
}

// TestProvider: the fake cloud's provider keeps the contract when it is a plugin, and only what it does not declare, or what
// takes virtual time, is skipped. What waits for long in real time waits side by side.
func TestProvider(t *testing.T) {
	parts := map[string]struct {
		flag    string
		passed  int // at least
		skipped []string
	}{
		"LiveRetryAfter":   {"-test.run=^TestSuite$/^ThrottlingWithRetryAfter$", 1, nil},
		"LiveNoRetryAfter": {"-test.run=^TestSuite$/^ThrottlingWithoutRetryAfter$", 1, nil},
		"LiveShared":       {"-test.run=^TestSuite$/^Shared(InAnyOrder|Concurrently)$", 2, nil},
		"LiveCrashes":      {"-test.run=^TestSuite$/^CrashAnywhere$", 1, nil},
		"LiveAdoption":     {"-test.run=^TestSuite$/^AdoptionCrashAnywhere$", 1, nil},
		"LiveSharedCrash":  {"-test.run=^TestSuite$/^SharedCrashAnywhere$", 1, nil},
		"LiveOthers":       {"-test.skip=^TestSuite$/^(Throttling|Shared|(Adoption)?CrashAnywhere)", 15, []string{"EveryCallIsCounted", "Feature/SCTP"}},
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := apart.Run(t.Context(), "TestSuite", suiteEnv+"=yes", part.flag)
			if o.Err != nil {
				t.Fatalf("the suite: %v\n%s", o.Err, o.Output)
			}
			if !slices.Equal(o.Skipped, part.skipped) || len(o.Passed) < part.passed {
				t.Errorf("skipped %q, passed %d cases", o.Skipped, len(o.Passed))
			}
		})
	}
}

var errNotYet = errors.New("not yet")
