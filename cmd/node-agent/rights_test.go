package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asProgram makes the test binary the node agent.
const asProgram = "NODE_AGENT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestWithoutRights: who may not program the kernel is told what it takes, once. A user namespace of its own takes every
// right over this network namespace from the program, whoever runs the test.
func TestWithoutRights(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := write(t, "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"+
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n")
	for name, args := range map[string][]string{
		"Cleanup": {"--cleanup"},
		"Run":     {"--kubeconfig", kubeconfig, "--node-name", "n1"},
	} {
		t.Run(name, func(t *testing.T) {
			program := exec.CommandContext(t.Context(), self, args...)
			program.Env = append(os.Environ(), asProgram+"=1")
			program.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			}
			var out strings.Builder
			program.Stdout, program.Stderr = &out, &out
			if err := program.Start(); err != nil {
				t.Skipf("user namespaces are not allowed here: %v", err)
			}
			if err := program.Wait(); err == nil {
				t.Error("no error")
			}
			text := strings.TrimSpace(out.String())
			if !strings.Contains(text, "takes root or CAP_NET_ADMIN") || strings.Count(text, "operation not permitted") != 1 ||
				strings.Contains(text, "\n") {
				t.Errorf("got %q, want one line that says what it takes", text)
			}
		})
	}
}
