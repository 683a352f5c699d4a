package cri

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Runtime is the runtime service of one node.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	options Options
	sources []netip.Addr
	binary  string
	images  *images
	thread  *thread
	streams streaming.Server
	log     *slog.Logger

	// mu guards what follows, and the fields of sandboxes and containers that say so.
	mu         sync.Mutex
	ipam       ipam
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

// newRuntime cleans up after a predecessor and is ready to serve. Containers of a predecessor died with it; what is left of
// it are files and the links to namespaces.
func newRuntime(options Options, log *slog.Logger) (*Runtime, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the playground's binary: %w", err)
	}
	if err := CheckStatic(binary); err != nil {
		return nil, err
	}
	r := &Runtime{
		options: options, binary: binary, log: log,
		images:    newImages(options.Images, options.EchoImages, options.Root),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
	for _, ip := range options.NodeIPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, fmt.Errorf("reading --node-ips: %w", err)
		}
		r.sources = append(r.sources, addr)
	}
	if err := r.cleanUp(); err != nil {
		return nil, fmt.Errorf("cleaning up after the last run: %w", err)
	}
	if err := os.MkdirAll(options.NetnsDir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of network namespaces: %w", err)
	}
	if err := r.loadRanges(); err != nil {
		return nil, err
	}
	if r.thread, err = newThread(); err != nil {
		return nil, err
	}
	return r, nil
}

// CheckStatic refuses a binary that needs libraries: in the built-in image there are none.
func CheckStatic(binary string) error {
	file, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("reading the playground's binary: %w", err)
	}
	defer func() { _ = file.Close() }()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically, and containers have no libraries: build it with CGO_ENABLED=0", binary)
		}
	}
	return nil
}

func (r *Runtime) podDir(id string) string { return filepath.Join(r.options.Root, "pods", id) }
func (r *Runtime) containerDir(id string) string {
	return filepath.Join(r.options.Root, "containers", id)
}
func (r *Runtime) rangesFile() string { return filepath.Join(r.options.Root, "pod-cidrs") }

// netnsLink is the name of a sandbox's network namespace.
func (r *Runtime) netnsLink(id string) string {
	return filepath.Join(r.options.NetnsDir, r.options.NetnsPrefix+id[:12])
}

func (r *Runtime) cleanUp() error {
	pods, err := os.ReadDir(filepath.Join(r.options.Root, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, pod := range pods {
		if len(pod.Name()) < 12 {
			continue
		}
		if err := os.Remove(r.netnsLink(pod.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{"pods", "containers"} {
		path := filepath.Join(r.options.Root, dir)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Version names the runtime to the kubelet.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "fairlead-playground", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1"}, nil
}

// Status says whether Pods can be started: with a network of their own only once the node's Pod ranges are known.
func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ipam.pools) == 0 {
		network.Status, network.Reason = false, "NoPodRange"
		network.Message = "the node has no Pod address range yet (Node.spec.podCIDRs is empty)"
	}
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, network,
	}}}, nil
}

// RuntimeConfig names the cgroup driver that the kubelet is to have; there are no cgroups here.
func (r *Runtime) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig takes the node's Pod ranges: one, or one of each family with a comma between.
func (r *Runtime) UpdateRuntimeConfig(_ context.Context, request *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	cidrs := request.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if cidrs == "" {
		return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
	}
	if err := r.setRanges(cidrs); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	// The kubelet says the ranges once in its life, and may outlive this runtime.
	if err := os.WriteFile(r.rangesFile(), []byte(cidrs), 0o600); err != nil {
		return nil, status.Errorf(codes.Internal, "keeping the Pod ranges: %v", err)
	}
	r.log.Info("Pod ranges set", "podCIDRs", cidrs)
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

func (r *Runtime) setRanges(cidrs string) error {
	var prefixes []netip.Prefix
	for cidr := range strings.SplitSeq(cidrs, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
		if err != nil {
			return fmt.Errorf("reading the Pod ranges: %w", err)
		}
		prefixes = append(prefixes, prefix)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ipam.set(prefixes)
	return nil
}

func (r *Runtime) loadRanges() error {
	cidrs, err := os.ReadFile(r.rangesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the Pod ranges: %w", err)
	}
	return r.setRanges(string(cidrs))
}

// close ends all containers and takes all Pods' networks down.
func (r *Runtime) close() {
	r.mu.Lock()
	sandboxes := slices.Collect(maps.Values(r.sandboxes))
	r.mu.Unlock()
	var wait sync.WaitGroup
	for _, s := range sandboxes {
		wait.Go(func() {
			if err := r.stopSandbox(s); err != nil {
				r.log.Error("Stopping a sandbox failed", "sandbox", s.id, "error", err)
			}
		})
	}
	wait.Wait()
}

// newID makes an id as other runtimes have them: 64 hexadecimal digits.
func newID() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// matches says whether labels have all that the selector asks for.
func matches(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
