package cri_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead/fairlead/cmd/playground/cri"
	"github.com/fairlead/fairlead/cmd/playground/cri/critest"
)

func TestMain(m *testing.M) { critest.Main(m) }

// host is a runtime, and a client in the place of the kubelet.
type host struct {
	t   *testing.T
	dir string
	runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
	ctx    context.Context
}

func startHost(t *testing.T) *host {
	t.Helper()
	dir, _ := critest.Inside()
	h := &host{t: t, dir: dir}
	var stop context.CancelFunc
	h.ctx, stop = context.WithTimeout(t.Context(), 5*time.Minute)
	options := cri.Options{Socket: filepath.Join(dir, "cri.sock"), Node: "n1", Zone: "zone-a", Root: filepath.Join(dir, "cri"),
		NetnsDir: filepath.Join(dir, "netns"), NetnsPrefix: "fl-pod-"}
	served := make(chan error, 1)
	serving, end := context.WithCancel(context.Background())
	go func() { served <- cri.Serve(serving, options, slog.New(slog.NewTextHandler(os.Stderr, nil))) }()
	conn, err := grpc.NewClient("unix://"+options.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}}))
	h.must(err)
	h.RuntimeServiceClient, h.images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	t.Cleanup(func() {
		stop()
		_ = conn.Close()
		end()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	_, err = h.UpdateRuntimeConfig(h.ctx, &runtimeapi.UpdateRuntimeConfigRequest{RuntimeConfig: &runtimeapi.RuntimeConfig{
		NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: "10.244.1.0/24,fd00:244:0:1::/64"}}})
	h.must(err)
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) runPod(name string, options *runtimeapi.NamespaceOption) string {
	h.t.Helper()
	response, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: podConfig(h, name, options)})
	h.must(err)
	return response.GetPodSandboxId()
}

func podConfig(h *host, name string, options *runtimeapi.NamespaceOption) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name}, Hostname: name,
		LogDirectory: filepath.Join(h.dir, "logs", name), Labels: map[string]string{"app": name},
		Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: options}},
	}
}

var ownPID = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}

// run creates and starts a container of the built-in image.
func (h *host) run(pod string, options *runtimeapi.NamespaceOption, argv ...string) string {
	h.t.Helper()
	config := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: "busybox"}, Command: argv, LogPath: "main.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: options}},
	}
	created, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: config})
	h.must(err)
	_, err = h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: created.GetContainerId()})
	h.must(err)
	return created.GetContainerId()
}

func (h *host) exec(container string, argv ...string) string {
	h.t.Helper()
	out, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: container, Cmd: argv, Timeout: 120})
	h.must(err)
	if out.GetExitCode() != 0 {
		h.t.Fatalf("%q ended with %d: %s%s", argv, out.GetExitCode(), out.GetStdout(), out.GetStderr())
	}
	return string(out.GetStdout())
}

// TestPIDNamespaces looks at who sees whose processes.
func TestPIDNamespaces(t *testing.T) {
	if !critest.Enter(t) {
		return
	}
	h := startHost(t)
	shared := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_POD}
	pod := h.runPod("shared", shared)
	one := h.run(pod, shared, "sleep", "1001")
	two := h.run(pod, shared, "sleep", "1002")
	for _, id := range []string{one, two} {
		if got := h.exec(id, "ps"); !strings.Contains(got, "sleep 1001") || !strings.Contains(got, "sleep 1002") {
			t.Errorf("in a shared namespace only this is seen:\n%s", got)
		}
	}
	other := h.run(h.runPod("own", ownPID), ownPID, "sleep", "1003")
	if got := h.exec(other, "ps"); strings.Contains(got, "100[12]") || !strings.Contains(got, "sleep 1003") {
		t.Errorf("in a namespace of its own this is seen:\n%s", got)
	}
	target := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: other}
	debugger := h.run(h.runPod("debug", ownPID), target, "sleep", "1004")
	if got := h.exec(debugger, "ps"); !strings.Contains(got, "sleep 1003") {
		t.Errorf("in the target's namespace this is seen:\n%s", got)
	}
	_, err := h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: one})
	h.must(err)
	if got := h.exec(two, "ps"); strings.Contains(got, "sleep 1001") {
		t.Errorf("a killed container's process runs on:\n%s", got)
	}
	_, err = h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: "none"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("an unknown container is %v", err)
	}
}

// TestLifecycle takes one Pod from its birth to its removal, with all that a kubelet asks in between, twice where the
// answer must not depend on how often it asks.
func TestLifecycle(t *testing.T) {
	if !critest.Enter(t) {
		return
	}
	h := startHost(t)
	pod := h.runPod("web", ownPID)
	id := h.run(pod, ownPID, "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
	log := filepath.Join(h.dir, "logs", "web", "main.log")
	h.eventually("the log has both streams", func() bool {
		data, _ := os.ReadFile(log)
		return strings.Contains(string(data), " stdout F out\n") && strings.Contains(string(data), " stderr F err\n")
	})
	h.must(os.Rename(log, log+".1"))
	_, err := h.ReopenContainerLog(h.ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	h.must(err)
	if _, err := os.Stat(log); err != nil {
		t.Errorf("no new log: %v", err)
	}
	stats, err := h.ContainerStats(h.ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	h.must(err)
	if stats.GetStats().GetMemory().GetWorkingSetBytes().GetValue() < 1<<20 {
		t.Errorf("the container's memory is %v", stats.GetStats().GetMemory())
	}
	h.eventually("the Pod has an init, a shell and sleep", func() bool {
		podStats, err := h.PodSandboxStats(h.ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod})
		h.must(err)
		return podStats.GetStats().GetLinux().GetProcess().GetProcessCount().GetValue() == 3
	})
	_, err = h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "100"}, Timeout: 1})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a probe that hangs is %v", err)
	}
	if got := h.exec(id, "ps"); strings.Contains(got, "sleep 100\n") {
		t.Errorf("the probe's command runs on:\n%s", got)
	}
	status, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
	h.must(err)
	if got := status.GetStatus().GetNetwork(); got.GetIp() != "10.244.1.2" || got.GetAdditionalIps()[0].GetIp() != "fd00:244:0:1::2" {
		t.Errorf("the Pod's addresses are %v", got)
	}
	for range 2 {
		_, err = h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 120})
		h.must(err)
	}
	ended, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	h.must(err)
	if s := ended.GetStatus(); s.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 128+15 || s.GetReason() != "Error" {
		t.Errorf("it ended as %v", s)
	}
	for range 2 {
		_, err = h.StopPodSandbox(h.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
		h.must(err)
	}
	for range 2 {
		_, err = h.RemovePodSandbox(h.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
		h.must(err)
	}
	h.nothingLeft()
}

// TestManyPods starts and removes Pods side by side.
func TestManyPods(t *testing.T) {
	if !critest.Enter(t) {
		return
	}
	h := startHost(t)
	begin := time.Now()
	var wait sync.WaitGroup
	seen := sync.Map{}
	for i := range 20 {
		wait.Go(func() {
			pod := h.runPod(fmt.Sprintf("pod-%d", i), ownPID)
			id := h.run(pod, ownPID, "sleep", "1000")
			s, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
			if err != nil {
				t.Error(err)
				return
			}
			ip := s.GetStatus().GetNetwork().GetIp()
			if other, taken := seen.LoadOrStore(ip, i); taken {
				t.Errorf("Pods %d and %v have the same address %s", i, other, ip)
			}
			if got := h.exec(id, "hostname"); got != fmt.Sprintf("pod-%d\n", i) {
				t.Errorf("Pod %d is called %q", i, got)
			}
		})
	}
	wait.Wait()
	t.Logf("20 Pods took %s", time.Since(begin))
	list, err := h.ListPodSandbox(h.ctx, &runtimeapi.ListPodSandboxRequest{})
	h.must(err)
	if len(list.GetItems()) != 20 {
		t.Errorf("%d Pods are listed", len(list.GetItems()))
	}
	one, err := h.ListPodSandbox(h.ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "pod-7"}}})
	h.must(err)
	if len(one.GetItems()) != 1 || one.GetItems()[0].GetMetadata().GetName() != "pod-7" {
		t.Errorf("by its label %v is found", one.GetItems())
	}
	for _, item := range list.GetItems() {
		wait.Go(func() {
			if _, err := h.RemovePodSandbox(h.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: item.GetId()}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	h.nothingLeft()
}

// TestShortCommands runs commands that end as soon as they are started, side by side in one container: each is answered,
// whichever comes first, the news of its start or that of its end.
func TestShortCommands(t *testing.T) {
	if !critest.Enter(t) {
		return
	}
	h := startHost(t)
	id := h.run(h.runPod("short", ownPID), ownPID, "sleep", "1000")
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range 100 {
				if got := h.exec(id, "hostname"); got != "short\n" {
					t.Errorf("%q", got)
				}
			}
		})
	}
	wait.Wait()
}

// TestRefusals asks for what cannot be: each is refused with a word that says what to change, and leaves nothing.
func TestRefusals(t *testing.T) {
	if !critest.Enter(t) {
		return
	}
	h := startHost(t)
	for name, tc := range map[string]struct {
		change func(*runtimeapi.PodSandboxConfig)
		want   string
	}{
		"host port": {want: "hostPort 8080", change: func(c *runtimeapi.PodSandboxConfig) {
			c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80}, {ContainerPort: 80, HostPort: 8080}}
		}},
		"user namespace": {want: "hostUsers", change: func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{UsernsOptions: &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD}}
		}},
		"sysctl": {want: "net/ipv4/no_such_thing", change: func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"net.ipv4.no_such_thing": "1"}
		}},
		"metadata": {want: "metadata", change: func(c *runtimeapi.PodSandboxConfig) { c.Metadata = nil }},
	} {
		config := podConfig(h, "refused", ownPID)
		tc.change(config)
		if _, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: config}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	pod := h.runPod("pod", ownPID)
	created, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: "busybox"}, Command: []string{"no-such-thing"},
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: ownPID}},
	}})
	h.must(err)
	_, err = h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: created.GetContainerId()})
	if err == nil || !strings.Contains(err.Error(), "no-such-thing") {
		t.Errorf("a missing command is %v", err)
	}
	s, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: created.GetContainerId()})
	h.must(err)
	if s.GetStatus().GetReason() != "StartError" || s.GetStatus().GetExitCode() != 128 {
		t.Errorf("its status is %v", s.GetStatus())
	}
	_, err = h.RemovePodSandbox(h.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
	h.must(err)
	h.nothingLeft()
}

func (h *host) eventually(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("it never happened that %s", what)
		}
	}
}

func (h *host) nothingLeft() {
	h.t.Helper()
	for _, pattern := range []string{filepath.Join(h.dir, "netns", "*"), filepath.Join(h.dir, "cri", "*", "*"), "/proc/sys/net/ipv4/conf/flp*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			h.t.Errorf("%q are left (%v)", left, err)
		}
	}
}
