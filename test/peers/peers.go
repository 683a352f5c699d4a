package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
)

// Names of the two that are compared, as -peers takes them and tables show them.
const (
	theirs = "kube-controller-manager"
	ours   = "fairlead"
)

// Users of the API server.
const (
	userTheirs = "system:kube-controller-manager"
	userOurs   = "fairlead-manager"
)

// programs are where the two are.
type programs struct{ theirs, ours string }

// versions says what is compared, one line for each.
func (p programs) versions() ([]string, error) {
	var lines []string
	for _, program := range []string{p.theirs, p.ours} {
		out, err := exec.Command(program, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("asking %s for its version: %w", program, err)
		}
		lines = append(lines, filepath.Base(program)+": "+strings.TrimSpace(string(out)))
	}
	return lines, nil
}

// knob is a setting of how long changes may wait to be written together. Negative: each one's default.
type knob time.Duration

const atDefault knob = -1

func (k knob) String() string {
	if k == atDefault {
		return "default"
	}
	return time.Duration(k).String()
}

// startPeer starts one with the controllers endpointslice, endpoints and mirroring, and nothing else.
func startPeer(c *controlplane.ControlPlane, p programs, name string, k knob, controllers string) (*process.Process, error) {
	if name == theirs {
		return startTheirs(c, p.theirs, k)
	}
	return startOurs(c, p.ours, k, controllers)
}

func startTheirs(c *controlplane.ControlPlane, program string, k knob) (*process.Process, error) {
	kubeconfig, err := c.Kubeconfig(userTheirs)
	if err != nil {
		return nil, err
	}
	args := []string{
		program, "--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers=endpointslice-controller,endpoints-controller,endpointslice-mirroring-controller",
		// Its default of 20 a second would be all that is measured.
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
	if k != atDefault {
		for _, flag := range []string{"endpointslice-updates", "endpoint-updates", "mirroring-endpointslice-updates"} {
			args = append(args, fmt.Sprintf("--%s-batch-period=%s", flag, time.Duration(k)))
		}
	}
	return process.Start(c.Options.Dir, theirs, args...)
}

func startOurs(c *controlplane.ControlPlane, program string, k knob, controllers string) (*process.Process, error) {
	kubeconfig, err := c.Kubeconfig(userOurs)
	if err != nil {
		return nil, err
	}
	metrics, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	health, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	args := []string{
		program, "--kubeconfig=" + kubeconfig, "--leader-elect=false", "--controllers=" + controllers,
		"--metrics-bind-address=" + metrics, "--health-probe-bind-address=" + health,
	}
	if k != atDefault {
		file := filepath.Join(c.Options.Dir, "manager.yaml")
		text := fmt.Sprintf("apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\nendpointSlice: {maxBatchDelay: %s}\nendpoints: {maxBatchDelay: %[1]s}\n",
			time.Duration(k))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("writing the manager's configuration: %w", err)
		}
		args = append(args, "--config="+file)
	}
	return process.Start(c.Options.Dir, ours, args...)
}

// ready waits until a peer serves a Service that is made for this, and removes it again.
func (b *bench) ready(ctx context.Context, peer *process.Process) error {
	const quiet = 500 * time.Millisecond
	f := newFleet(b.plane.Client, b.tracker, 1, b.nodes, 0)
	steps := []struct {
		do   func(context.Context) error
		left *fleet
	}{
		{func(ctx context.Context) error { return f.create(ctx, 1) }, f},
		{f.removeAll, f},
		{func(ctx context.Context) error { return b.deleteServices(ctx, f) }, &fleet{}},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return err
		}
		if _, err := b.settle(ctx, peer, step.left, quiet); err != nil {
			return err
		}
	}
	return b.clean(ctx, f)
}
