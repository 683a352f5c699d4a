package proxies

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// repository is the module's root as seen from here.
const repository = "../.."

// agentVariable tells the process inside the namespaces where the agent is that the one outside has built.
const agentVariable = "FAIRLEAD_PROXIES_AGENT"

var markdown = flag.String("markdown", "", "`file` for the table of both columns")

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxies:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nstest.Run(m), nil // the test skips, naming the remedy
	}
	if nstest.Inside() {
		if err := noteSources(); err != nil {
			return 0, err
		}
		return nstest.Run(m), nil
	}
	dir, err := os.MkdirTemp("", "fairlead-proxies-")
	if err != nil {
		return 0, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	agent := filepath.Join(dir, "node-agent")
	build := exec.Command("go", "build", "-o", agent, "./cmd/node-agent")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the node agent: %w: %s", err, out)
	}
	if err := os.Setenv(agentVariable, agent); err != nil {
		return 0, fmt.Errorf("telling where the node agent is: %w", err)
	}
	return nstest.Run(m), nil
}

// noteSources looks at the folders that the node agent is built from. `go test` would otherwise print the cached result
// of a test of other sources: it knows the files that a test opens, not those of the programs it runs.
func noteSources() error {
	for _, folder := range []string{"api", "cmd/node-agent", "dataplane"} {
		err := filepath.WalkDir(filepath.Join(repository, folder), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return fmt.Errorf("looking at the sources: %w", err)
		}
	}
	return nil
}

// needsPrograms skips where the programs of Kubernetes are missing; the Makefile gives them.
func needsPrograms(t *testing.T) (assets string) {
	t.Helper()
	assets = os.Getenv("KUBEBUILDER_ASSETS")
	for _, name := range []string{"etcd", "kube-apiserver", "kube-proxy"} {
		if _, err := os.Stat(filepath.Join(assets, name)); assets == "" || err != nil {
			t.Skipf("%s is not in KUBEBUILDER_ASSETS=%q: set it to the folder that `cd test/controlplane && go run . -with kube-proxy` prints",
				name, assets)
		}
	}
	return assets
}
