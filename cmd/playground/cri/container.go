package cri

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// drainTime is how long the end of a container's output is waited for when something that outlives it, in a PID namespace
// that it does not own, holds the output open.
const drainTime = 2 * time.Second

// startFailed is the exit code of a container whose command could not be started.
const startFailed = 128

// container is one container, from its creation to its removal.
type container struct {
	id      string
	sandbox *sandbox
	config  *runtimeapi.ContainerConfig
	image   image
	spec    guest.Spec
	argv    []string
	created time.Time
	log     *containerLog

	// Guarded by Runtime.mu:
	state             runtimeapi.ContainerState
	started, finished time.Time
	exitCode          int
	reason, message   string
	process           *process
	main              *runningCommand
	stdin             *os.File // our end of the process's standard input; nil without one
	ended             chan struct{}
}

// CreateContainer prepares a container; StartContainer starts it.
func (r *Runtime) CreateContainer(_ context.Context, request *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	s := r.sandbox(request.GetPodSandboxId())
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "sandbox %s does not exist", request.GetPodSandboxId())
	}
	c := &container{id: newID(), sandbox: s, config: request.GetConfig(), created: time.Now(), ended: make(chan struct{})}
	if c.config.GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "the container has no metadata")
	}
	var err error
	if c.image, err = r.images.find(cmp.Or(c.config.GetImage().GetUserSpecifiedImage(), c.config.GetImage().GetImage())); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if err := r.plan(c); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := os.MkdirAll(c.spec.Scratch, 0o700); err != nil {
		return nil, status.Errorf(codes.Internal, "making the container's folder: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.ready {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s is stopped", s.id)
	}
	r.containers[c.id] = c
	return &runtimeapi.CreateContainerResponse{ContainerId: c.id}, nil
}

// StartContainer starts the container's process and returns when it runs.
func (r *Runtime) StartContainer(_ context.Context, request *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	state := c.state
	r.mu.Unlock()
	if state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s was started before", c.id)
	}
	if err := r.start(c); err != nil {
		r.finish(c, startFailed, "StartError", err.Error())
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (r *Runtime) start(c *container) error {
	var err error
	if c.log, err = openLog(c.logPath()); err != nil {
		return err
	}
	visit, newPID, closeVisit, err := r.visitFor(c)
	if err != nil {
		return err
	}
	process, err := startProcess(r.thread, r.binary, r.containerDir(c.id), c.spec, visit, newPID)
	closeVisit()
	if err != nil {
		return err
	}
	var ours pipes
	var theirs []*os.File
	if !c.config.GetTty() {
		if ours, theirs, err = newPipes(); err == nil && !c.config.GetStdin() {
			// Without stdin the process sees its end at once.
			_ = ours.in.Close()
			ours.in = nil
		}
	}
	var main *runningCommand
	if err == nil {
		main, err = process.run(c.argv, c.config.GetTty(), theirs...)
	}
	guest.CloseAll(theirs)
	if err != nil {
		ours.close()
		process.signal(unix.SIGKILL)
		<-process.done
		return err
	}
	if c.config.GetTty() {
		ours.out, ours.in = main.terminal, main.terminal
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state, c.started = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now()
	c.process, c.main, c.stdin = process, main, ours.in
	go r.attend(c, ours)
	return nil
}

// attend follows a running container to its end.
func (r *Runtime) attend(c *container, ours pipes) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		stderr := make(chan struct{})
		go func() {
			defer close(stderr)
			if ours.err != nil {
				c.log.follow("stderr", ours.err)
			}
		}()
		c.log.follow("stdout", ours.out)
		<-stderr
	}()
	code, ok := <-c.main.exited
	if !ok {
		code = 128 + int(unix.SIGKILL)
	}
	<-c.process.done
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	ours.close()
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	r.finish(c, code, reason, "")
}

func (r *Runtime) finish(c *container, code int, reason, message string) {
	if c.log != nil {
		c.log.close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state, c.finished = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now()
	c.exitCode, c.reason, c.message = code, reason, message
	close(c.ended)
}

// StopContainer asks the container's process to end, and makes it after timeout seconds. One that has ended or is unknown is
// stopped.
func (r *Runtime) StopContainer(ctx context.Context, request *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return &runtimeapi.StopContainerResponse{}, nil
	}
	process := r.running(c)
	if process != nil && request.GetTimeout() > 0 {
		process.signal(c.stopSignal())
		select {
		case <-c.ended:
		case <-time.After(time.Duration(request.GetTimeout()) * time.Second):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	r.kill(c)
	return &runtimeapi.StopContainerResponse{}, nil
}

// running returns the container's process, or nil if it does not run.
func (r *Runtime) running(c *container) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil
	}
	return c.process
}

// kill ends a container for certain and waits for it.
func (r *Runtime) kill(c *container) {
	if process := r.running(c); process != nil {
		process.signal(unix.SIGKILL)
		<-c.ended
	}
}

// RemoveContainer forgets a container. Its log is the kubelet's to remove.
func (r *Runtime) RemoveContainer(_ context.Context, request *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	r.kill(c)
	r.mu.Lock()
	delete(r.containers, c.id)
	r.mu.Unlock()
	if err := os.RemoveAll(r.containerDir(c.id)); err != nil {
		return nil, status.Errorf(codes.Internal, "removing the container's folder: %v", err)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

// ReopenContainerLog begins a new log file after the kubelet renamed the old one.
func (r *Runtime) ReopenContainerLog(_ context.Context, request *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if r.running(c) == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s does not run", c.id)
	}
	if err := c.log.reopen(); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}

// UpdateContainerResources has nothing to change: there are no cgroups, so limits do not bind.
func (r *Runtime) UpdateContainerResources(context.Context, *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

func (r *Runtime) container(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, known := r.containers[id]
	if !known {
		return nil, status.Errorf(codes.NotFound, "container %s does not exist", id)
	}
	return c, nil
}

// ContainerStatus says how one container is.
func (r *Runtime) ContainerStatus(_ context.Context, request *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state, CreatedAt: c.created.UnixNano(),
		Image: &runtimeapi.ImageSpec{Image: c.image.name}, ImageRef: c.image.id, ImageId: c.image.id,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(),
		LogPath: c.logPath(), Reason: c.reason, Message: c.message, ExitCode: int32(c.exitCode),
	}
	if !c.started.IsZero() {
		out.StartedAt = c.started.UnixNano()
	}
	if !c.finished.IsZero() {
		out.FinishedAt = c.finished.UnixNano()
	}
	return &runtimeapi.ContainerStatusResponse{Status: out}, nil
}

// ListContainers lists containers, the oldest first.
func (r *Runtime) ListContainers(_ context.Context, request *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	filter := request.GetFilter()
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListContainersResponse{}
	for _, c := range r.containers {
		if !strings.HasPrefix(c.id, filter.GetId()) || !strings.HasPrefix(c.sandbox.id, filter.GetPodSandboxId()) ||
			!matches(c.config.GetLabels(), filter.GetLabelSelector()) ||
			filter.GetState() != nil && filter.GetState().GetState() != c.state {
			continue
		}
		response.Containers = append(response.Containers, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.GetMetadata(),
			Image: &runtimeapi.ImageSpec{Image: c.image.name}, ImageRef: c.image.id, ImageId: c.image.id,
			State: c.state, CreatedAt: c.created.UnixNano(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	slices.SortFunc(response.Containers, func(a, b *runtimeapi.Container) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.Id, b.Id))
	})
	return response, nil
}
