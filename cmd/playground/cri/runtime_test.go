package cri_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
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
	h.ctx, stop = context.WithTimeout(t.Context(), time.Minute)
	options := cri.Options{Socket: filepath.Join(dir, "cri.sock"), Node: "n1", Zone: "zone-a", Root: filepath.Join(dir, "cri"),
		NetnsDir: filepath.Join(dir, "netns"), NetnsPrefix: "fl-pod-"}
	served := make(chan error, 1)
	serving, end := context.WithCancel(context.Background())
	go func() { served <- cri.Serve(serving, options, slog.New(slog.NewTextHandler(os.Stderr, nil))) }()
	conn, err := grpc.NewClient("unix://"+options.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
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
	out, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: container, Cmd: argv, Timeout: 10})
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
