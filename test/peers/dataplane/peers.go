package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
)

// Names of the two that are compared.
const (
	theirs = "kube-proxy"
	ours   = "fairlead"
)

// equalInterval is the least time between two writes where it is the same for both. It is our default.
const equalInterval = 100 * time.Millisecond

// programs are where the two are.
type programs struct{ theirs, ours string }

// versions says what is compared, one line for each. Ours has no version of its own: it is known by its content.
func (p programs) versions() ([]string, error) {
	theirVersion, err := exec.Command(p.theirs, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("asking kube-proxy for its version: %w", err)
	}
	f, err := os.Open(p.ours)
	if err != nil {
		return nil, fmt.Errorf("reading the node agent: %w", err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return nil, fmt.Errorf("reading the node agent: %w", err)
	}
	return []string{
		theirs + ": " + strings.TrimSpace(string(theirVersion)),
		fmt.Sprintf("%s: node-agent, SHA-256 %.6x", ours, hash.Sum(nil)),
	}, nil
}

// configurations of the two for a least time between writes; zero: the peer's default. Conntrack settings are left as
// they are: most can only be written in the machine's own namespace.
func configuration(peer, kubeconfig string, interval time.Duration) string {
	if peer == theirs {
		text := `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: ` + clientRange + `
hostnameOverride: ` + nodeName + `
clientConnection: {kubeconfig: ` + kubeconfig + `}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
		if interval > 0 {
			text += fmt.Sprintf("nftables: {minSyncPeriod: %s}\n", interval)
		}
		return text
	}
	text := `apiVersion: config.fairlead.dev/v1alpha1
kind: NodeAgentConfiguration
localDetection: {clusterCIDRs: [` + clientRange + `]}
`
	if interval > 0 {
		text += fmt.Sprintf("minSyncPeriod: %s\n", interval)
	}
	return text
}

// startPeer starts one on the node of a stage.
func startPeer(c *controlplane.ControlPlane, p programs, s *stage, peer string, interval time.Duration) (*process.Process, error) {
	dir := c.Options.Dir
	kubeconfig, err := c.Kubeconfig(peer)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, peer+".yaml")
	if err := os.WriteFile(file, []byte(configuration(peer, kubeconfig, interval)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", peer, err)
	}
	args := []string{p.theirs, "--config=" + file}
	if peer == ours {
		args = []string{p.ours, "--config=" + file, "--kubeconfig=" + kubeconfig, "--node-name=" + nodeName}
	}
	var started *process.Process
	err = s.node.do(func() (err error) {
		started, err = process.Start(dir, peer, args...)
		return err
	})
	return started, err
}
