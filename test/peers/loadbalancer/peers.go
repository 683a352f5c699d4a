package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/test/peers/process"
)

// Names of the two that are compared.
const (
	theirs = "service controller"
	ours   = "fairlead"
)

// Users of the API server.
const (
	userTheirs = "service-controller"
	userOurs   = "fairlead-manager"
)

const (
	clusterID = "bench"
	// workers of either: ours has so many unless told otherwise.
	workers = 4
)

// startPeer starts one within limits.
func (b *bench) startPeer(name string, limits cloud.Limits) (*process.Process, error) {
	b.cloud.allow(limits)
	if name == theirs {
		return b.startTheirs(limits)
	}
	return b.startOurs(limits)
}

func (b *bench) startTheirs(limits cloud.Limits) (*process.Process, error) {
	kubeconfig, err := b.plane.Kubeconfig(userTheirs)
	if err != nil {
		return nil, err
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return process.Start(b.dir, "servicecontroller", b.peer, "-kubeconfig="+kubeconfig, "-endpoint=unix://"+b.socket, "-cluster-id="+clusterID,
		"-workers="+strconv.Itoa(workers),
		"-reads="+number(limits.Reads.PerSecond), "-reads-burst="+strconv.Itoa(limits.Reads.Burst),
		"-writes="+number(limits.Writes.PerSecond), "-writes-burst="+strconv.Itoa(limits.Writes.Burst))
}

func (b *bench) startOurs(limits cloud.Limits) (*process.Process, error) {
	kubeconfig, err := b.plane.Kubeconfig(userOurs)
	if err != nil {
		return nil, err
	}
	limit := func(l cloud.Limit) string { return fmt.Sprintf("{perSecond: %v, burst: %d}", l.PerSecond, l.Burst) }
	file := filepath.Join(b.dir, "manager.yaml")
	text := fmt.Sprintf(`apiVersion: config.fairlead.dev/v1alpha1
kind: ManagerConfiguration
controllers: [loadbalancer]
clusterID: %s
cloud: {provider: fake, fake: {endpoint: "unix://%s"}, limits: {fake: {reads: %s, writes: %s}}}
leaderElection: {enabled: false}
metrics: {bindAddress: "0"}
health: {bindAddress: "0"}
`, clusterID, b.socket, limit(limits.Reads), limit(limits.Writes))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the manager's configuration: %w", err)
	}
	return process.Start(b.dir, ours, b.manager, "--kubeconfig="+kubeconfig, "--config="+file)
}
