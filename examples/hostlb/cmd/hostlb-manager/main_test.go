package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// insideVariable makes this test's program the manager.
const insideVariable = "HOSTLB_MANAGER"

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestLinked: the manager knows the provider, and names it to who asks for one that it does not know.
func TestLinked(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	content := "apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\ncloud: {provider: nobody}\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	manager := exec.Command("/proc/self/exe", "--config", config)
	manager.Env = append(os.Environ(), insideVariable+"=1")
	out, err := manager.CombinedOutput()
	exit, refused := errors.AsType[*exec.ExitError](err)
	if !refused || exit.ExitCode() != 2 || !strings.Contains(string(out), "hostlb") {
		t.Errorf("a manager with an unknown provider ends with %v and does not name hostlb:\n%s", err, out)
	}
}
