package kubeproxy

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// TestClash: a program on the node that listens on a Service's node port is found by the agent, named with its process,
// counted, and forgotten once it is gone.
func TestClash(t *testing.T) {
	c := newCluster(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", fmt.Sprintf("%s:%d", nodeAddress, c.nodePort))
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	c.endpoint(t, true)
	c.startNodeAgent(t)
	says := func(path, want string) func() bool {
		return func() bool {
			got, err := ask(metrics + path)
			return err == nil && strings.Contains(got.Body, want)
		}
	}
	eventually(t, "the clash is listed", says("/nodeports", fmt.Sprintf(`"listener": "%s:%d"`, nodeAddress, c.nodePort)))
	for path, want := range map[string]string{
		"/nodeports": fmt.Sprintf(`(pid %d)`, os.Getpid()),
		"/metrics":   "\nfairlead_node_nodeport_clashes 1\n",
	} {
		if !says(path, want)() {
			got, err := ask(metrics + path)
			t.Errorf("%s does not say %s: %v, %v", path, want, got, err)
		}
	}
	// The agent itself listens on the healthCheckNodePort: no clash.
	if says("/nodeports", "healthCheckNodePort")() {
		t.Error("the agent takes its own listener for a clash")
	}
	must(t, listener.Close())
	c.unexpose(t)
	eventually(t, "the clash is forgotten", says("/metrics", "\nfairlead_node_nodeport_clashes 0\n"))
}
