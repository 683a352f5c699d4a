package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// sandbox is what the containers of one Pod share.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	created time.Time
	// addrs are the Pod's own addresses; none on the host network.
	addrs []netip.Addr

	// Guarded by Runtime.mu:
	ready      bool
	namespaces namespaces
	// pause holds the PID namespace of a Pod that shares one; nil for others.
	pause *process
}

func (s *sandbox) options() *runtimeapi.NamespaceOption {
	return s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
}

func (s *sandbox) hostNetwork() bool {
	return s.options().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func (s *sandbox) network(sources []netip.Addr) podNetwork {
	return podNetwork{id: s.id, netns: s.namespaces["net"], addrs: s.addrs, sources: sources}
}

// RunPodSandbox makes a Pod's namespaces and network. What it has made when it fails, it takes down again.
func (r *Runtime) RunPodSandbox(_ context.Context, request *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	s := &sandbox{id: newID(), config: request.GetConfig(), created: time.Now(), ready: true}
	if err := validateSandbox(s, request.GetRuntimeHandler()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := r.buildSandbox(s); err != nil {
		return nil, status.Error(codes.Internal, errors.Join(err, r.stopSandbox(s), os.RemoveAll(r.podDir(s.id))).Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[s.id] = s
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

func validateSandbox(s *sandbox, handler string) error {
	if s.config.GetMetadata() == nil {
		return errors.New("the sandbox has no metadata")
	}
	if handler != "" {
		return fmt.Errorf("runtime class handler %q does not exist here; leave runtimeClassName out", handler)
	}
	if userns := s.options().GetUsernsOptions(); userns != nil && userns.GetMode() == runtimeapi.NamespaceMode_POD {
		return errors.New("a Pod cannot have a user namespace of its own here; leave hostUsers: false out")
	}
	if !s.hostNetwork() {
		for _, port := range s.config.GetPortMappings() {
			if port.GetHostPort() != 0 {
				return fmt.Errorf("hostPort %d is not served here; use a Service of type NodePort, or hostNetwork", port.GetHostPort())
			}
		}
	}
	return nil
}

func (r *Runtime) buildSandbox(s *sandbox) error {
	if err := r.writePodFiles(s); err != nil {
		return fmt.Errorf("writing the Pod's files: %w", err)
	}
	flags, name := unix.CLONE_NEWUTS, r.options.Node
	if !s.hostNetwork() {
		flags, name = flags|unix.CLONE_NEWNET, s.config.GetHostname()
	}
	if s.options().GetIpc() != runtimeapi.NamespaceMode_NODE {
		flags |= unix.CLONE_NEWIPC
	}
	var err error
	s.namespaces, err = r.thread.unshare(flags, func() error {
		return errors.Join(unix.Sethostname([]byte(name)), writeSysctls(podSysctlPaths(s.config.GetLinux().GetSysctls())))
	})
	if err != nil {
		return err
	}
	if s.options().GetPid() == runtimeapi.NamespaceMode_POD {
		s.pause, err = startProcess(r.thread, r.binary, r.podDir(s.id), guest.Spec{Pause: true}, s.namespaces, true)
		if err != nil {
			return fmt.Errorf("starting the holder of the Pod's PID namespace: %w", err)
		}
	}
	if s.hostNetwork() {
		return nil
	}
	// The link names a file of this process: it ends with it, and needs no mount.
	target := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.namespaces["net"].Fd())
	if err := os.Symlink(target, r.netnsLink(s.id)); err != nil {
		return fmt.Errorf("naming the network namespace: %w", err)
	}
	r.mu.Lock()
	s.addrs, err = r.ipam.take()
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("finding addresses for the Pod: %w", err)
	}
	return s.network(r.sources).up(r.thread)
}

// podSysctlPaths turns the dotted names of a Pod's sysctls into paths.
func podSysctlPaths(sysctls map[string]string) map[string]string {
	paths := map[string]string{}
	for name, value := range sysctls {
		paths[strings.ReplaceAll(name, ".", "/")] = value
	}
	return paths
}

// writePodFiles makes what all containers of the Pod see: the resolver's configuration, the host's name, shared memory.
func (r *Runtime) writePodFiles(s *sandbox) error {
	dir := r.podDir(s.id)
	if err := os.MkdirAll(filepath.Join(dir, "shm"), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(dir, "shm"), 0o1777); err != nil {
		return err
	}
	hostname := cmp.Or(s.config.GetHostname(), r.options.Node)
	if err := os.WriteFile(filepath.Join(dir, "hostname"), []byte(hostname+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(resolvConf(s.config.GetDnsConfig())), 0o644)
}

func resolvConf(dns *runtimeapi.DNSConfig) string {
	var b strings.Builder
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return b.String()
}

// StopPodSandbox ends the Pod's containers, takes its network down and frees its addresses. A Pod that is stopped or unknown
// is stopped.
func (r *Runtime) StopPodSandbox(_ context.Context, request *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	if s := r.sandbox(request.GetPodSandboxId()); s != nil {
		if err := r.stopSandbox(s); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (r *Runtime) stopSandbox(s *sandbox) error {
	r.mu.Lock()
	s.ready = false
	var owned []*container
	for _, c := range r.containers {
		if c.sandbox == s {
			owned = append(owned, c)
		}
	}
	r.mu.Unlock()
	for _, c := range owned {
		r.kill(c)
	}
	r.mu.Lock()
	open, pause := s.namespaces, s.pause
	s.namespaces, s.pause = nil, nil
	r.mu.Unlock()
	if pause != nil {
		pause.signal(unix.SIGKILL)
		<-pause.done
	}
	if open == nil {
		return nil
	}
	defer open.close()
	if s.hostNetwork() {
		return nil
	}
	if err := os.Remove(r.netnsLink(s.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the network namespace's name: %w", err)
	}
	if err := s.network(nil).down(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ipam.giveBack(s.addrs)
	return nil
}

// RemovePodSandbox forgets a Pod and its containers, stopping them first if need be.
func (r *Runtime) RemovePodSandbox(_ context.Context, request *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	s := r.sandbox(request.GetPodSandboxId())
	if s == nil {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	if err := r.stopSandbox(s); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	r.mu.Lock()
	delete(r.sandboxes, s.id)
	var owned []string
	for id, c := range r.containers {
		if c.sandbox == s {
			owned = append(owned, id)
			delete(r.containers, id)
		}
	}
	r.mu.Unlock()
	errs := []error{os.RemoveAll(r.podDir(s.id))}
	for _, id := range owned {
		errs = append(errs, os.RemoveAll(r.containerDir(id)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, status.Errorf(codes.Internal, "removing the Pod's files: %v", err)
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *Runtime) sandbox(id string) *sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sandboxes[id]
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// PodSandboxStatus says how one Pod is, with its addresses.
func (r *Runtime) PodSandboxStatus(_ context.Context, request *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.sandboxes[request.GetPodSandboxId()]
	if !known {
		return nil, status.Errorf(codes.NotFound, "sandbox %s does not exist", request.GetPodSandboxId())
	}
	network := &runtimeapi.PodSandboxNetworkStatus{}
	for i, addr := range s.addrs {
		if i == 0 {
			network.Ip = addr.String()
			continue
		}
		network.AdditionalIps = append(network.AdditionalIps, &runtimeapi.PodIP{Ip: addr.String()})
	}
	return &runtimeapi.PodSandboxStatusResponse{Timestamp: time.Now().UnixNano(), Status: &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created.UnixNano(), Network: network,
		Linux:  &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: s.options()}},
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(),
	}}, nil
}

// ListPodSandbox lists Pods, the oldest first.
func (r *Runtime) ListPodSandbox(_ context.Context, request *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	filter := request.GetFilter()
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range r.sandboxes {
		if !strings.HasPrefix(s.id, filter.GetId()) || !matches(s.config.GetLabels(), filter.GetLabelSelector()) ||
			filter.GetState() != nil && filter.GetState().GetState() != s.state() {
			continue
		}
		response.Items = append(response.Items, &runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created.UnixNano(),
			Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(),
		})
	}
	slices.SortFunc(response.Items, func(a, b *runtimeapi.PodSandbox) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.Id, b.Id))
	})
	return response, nil
}

// UpdatePodSandboxResources has nothing to change: there are no cgroups, so limits do not bind.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
