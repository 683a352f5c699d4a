package proxies

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// program is a proxy in the node of a network.
type program struct {
	name    string
	network *conformance.Network
	// configure makes the configuration file's content, args the command line.
	configure func(c conformance.Config, kubeconfig string) any
	args      func(config, kubeconfig string) []string

	t               *testing.T
	dir, kubeconfig string
	config          string // key of the configuration it runs with
	stop            func() // ends it; nil: it does not run
	log             string
}

func newProgram(t *testing.T, s *server, n *conformance.Network, name string) *program {
	t.Helper()
	p := &program{t: t, name: name, network: n, dir: t.TempDir(), kubeconfig: s.kubeconfig}
	p.log = filepath.Join(p.dir, name+".log")
	t.Cleanup(func() {
		if p.stop != nil {
			p.stop()
		}
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, p.tail())
		}
	})
	return p
}

// nodeAgent is ours.
func nodeAgent(t *testing.T, s *server, n *conformance.Network) *program {
	t.Helper()
	p := newProgram(t, s, n, "node-agent")
	p.configure = func(c conformance.Config, _ string) any {
		config := map[string]any{
			"apiVersion": "config.fairlead.dev/v1alpha1", "kind": "NodeAgentConfiguration",
			"mode": "Replace", "masqueradeAll": c.MasqueradeAll, "ignoreExternalIPs": c.IgnoreExternalIPs,
			"minSyncPeriod": "10ms",
		}
		if c.Coexist {
			config["mode"] = "Coexist"
		}
		if c.NodePortAddresses != nil {
			config["nodePortAddresses"] = c.NodePortAddresses
		}
		switch c.Detection {
		case conformance.ClusterCIDR:
			config["localDetection"] = map[string]any{"clusterCIDRs": conformance.ClusterCIDRs()}
		case conformance.NodeCIDR:
			config["localDetection"] = map[string]any{"nodeCIDR": true}
		case conformance.BridgeInterface:
			config["localDetection"] = map[string]any{"interfacePrefixes": []string{conformance.BridgeName}}
		case conformance.NamePrefix:
			config["localDetection"] = map[string]any{"interfacePrefixes": []string{conformance.PodInterface}}
		}
		return config
	}
	p.args = func(config, kubeconfig string) []string {
		return []string{os.Getenv(agentVariable), "--node-name", conformance.NodeName, "--kubeconfig", kubeconfig, "--config", config}
	}
	return p
}

// kubeProxy is upstream's, in nftables mode.
func kubeProxy(t *testing.T, s *server, n *conformance.Network, assets string) *program {
	t.Helper()
	p := newProgram(t, s, n, "kube-proxy")
	p.configure = func(c conformance.Config, kubeconfig string) any {
		config := map[string]any{
			"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
			"mode": "nftables", "hostnameOverride": conformance.NodeName,
			"clientConnection": map[string]any{"kubeconfig": kubeconfig},
			"nftables":         map[string]any{"minSyncPeriod": "10ms", "syncPeriod": "1h", "masqueradeAll": c.MasqueradeAll},
			// 0 leaves the kernel's settings as they are.
			"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		}
		if c.NodePortAddresses != nil {
			config["nodePortAddresses"] = c.NodePortAddresses
		}
		switch c.Detection {
		case conformance.NoDetection:
			config["detectLocalMode"] = ""
		case conformance.ClusterCIDR:
			config["detectLocalMode"] = "ClusterCIDR"
			config["clusterCIDR"] = strings.Join(conformance.ClusterCIDRs(), ",")
		case conformance.NodeCIDR:
			config["detectLocalMode"] = "NodeCIDR"
		case conformance.BridgeInterface:
			config["detectLocalMode"] = "BridgeInterface"
			config["detectLocal"] = map[string]any{"bridgeInterface": conformance.BridgeName}
		case conformance.NamePrefix:
			config["detectLocalMode"] = "InterfaceNamePrefix"
			config["detectLocal"] = map[string]any{"interfaceNamePrefix": conformance.PodInterface}
		}
		return config
	}
	p.args = func(config, _ string) []string {
		return []string{filepath.Join(assets, "kube-proxy"), "--config", config}
	}
	return p
}

// run sees to it that the program runs with a configuration.
func (p *program) run(c conformance.Config) error {
	if p.stop != nil && p.config == c.Key() {
		return nil
	}
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
	text, err := yaml.Marshal(p.configure(c, p.kubeconfig))
	if err != nil {
		return fmt.Errorf("writing the configuration of %s: %w", p.name, err)
	}
	config := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return fmt.Errorf("writing the configuration of %s: %w", p.name, err)
	}
	p.config = c.Key()
	return p.supervise(p.args(config, p.kubeconfig))
}

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// restartPause keeps a program that cannot start from being started again and again.
const restartPause = 100 * time.Millisecond

// supervise starts the program, and again when it ends by itself, as a kubelet would: kube-proxy ends when its node's
// address changes.
func (p *program) supervise(args []string) error {
	cmd, err := p.start(args)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	stopping := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_ = cmd.Wait() // how it ended is in its log
			time.Sleep(restartPause)
			mu.Lock()
			if stopping {
				mu.Unlock()
				return
			}
			next, err := p.start(args)
			if err == nil {
				cmd = next
			}
			mu.Unlock()
			if err != nil {
				return // nothing will answer any more, which the test says
			}
		}
	}()
	p.stop = func() {
		mu.Lock()
		stopping = true
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		mu.Unlock()
		<-done
		kill.Stop()
	}
	return nil
}

func (p *program) start(args []string) (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	defer func() { _ = log.Close() }() // the program has its own descriptor
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.network.InNode(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	return cmd, nil
}

// caughtUp polls until the program serves a marker.
func (p *program) caughtUp(marker []netip.AddrPort) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		served := true
		for _, to := range marker {
			served = served && p.network.Answers(to)
		}
		if served {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s has not caught up with the API server in %s", p.name, patience)
		}
	}
}

func (p *program) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}
