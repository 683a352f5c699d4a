package cri

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
	"github.com/fairlead/fairlead/cmd/playground/echo"
)

// portsAnnotation is where the kubelet puts a container's ports (pkg/kubelet/kuberuntime/labels.go): the CRI itself only
// has the ports of a whole Pod.
const portsAnnotation = "io.kubernetes.container.ports"

// plan works out what the container's init will be told.
func (r *Runtime) plan(c *container) error {
	if len(c.config.GetCDIDevices()) > 0 {
		return errors.New("CDI devices do not exist here")
	}
	config := c.image.config
	c.argv = append(slices.Clone(c.config.GetCommand()), c.config.GetArgs()...)
	if len(c.config.GetCommand()) == 0 {
		// Arguments alone replace the image's, and go to its entry point.
		arguments := c.config.GetArgs()
		if len(arguments) == 0 {
			arguments = config.Cmd
		}
		c.argv = append(slices.Clone(config.Entrypoint), arguments...)
	}
	environment, err := r.environment(c)
	if err != nil {
		return err
	}
	mounts, err := r.mounts(c)
	if err != nil {
		return err
	}
	mode := c.pidMode()
	c.spec = guest.Spec{
		Scratch: filepath.Join(r.containerDir(c.id), "scratch"), Lower: c.image.lower,
		Mounts: mounts, Env: environment, Terminal: c.config.GetTty(),
		Dir:          cmp.Or(c.config.GetWorkingDir(), config.WorkingDir, "/"),
		ReadOnlyRoot: c.config.GetLinux().GetSecurityContext().GetReadonlyRootfs(),
		SharedPID:    mode != runtimeapi.NamespaceMode_CONTAINER,
	}
	return nil
}

// environment is, in order of rising precedence: the runtime's, the image's, the Pod's.
func (r *Runtime) environment(c *container) ([]string, error) {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + cmp.Or(c.sandbox.config.GetHostname(), r.options.Node),
	}
	env = append(env, c.image.config.Env...)
	if c.image.builtin != nil {
		ports, err := builtinPorts(c)
		if err != nil {
			return nil, err
		}
		metadata := c.sandbox.config.GetMetadata()
		env = append(env,
			echo.EnvNode+"="+r.options.Node, echo.EnvZone+"="+r.options.Zone,
			echo.EnvPod+"="+metadata.GetName(), echo.EnvNamespace+"="+metadata.GetNamespace(),
			echo.EnvContainer+"="+c.config.GetMetadata().GetName(), echo.EnvPorts+"="+ports)
	}
	for _, e := range c.config.GetEnvs() {
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	return env, nil
}

// builtinPorts are the ports that the built-in server is to listen on: those that the container declares, or the one that
// its image is known for.
func builtinPorts(c *container) (string, error) {
	var declared []struct {
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
	}
	if annotation := c.config.GetAnnotations()[portsAnnotation]; annotation != "" {
		if err := json.Unmarshal([]byte(annotation), &declared); err != nil {
			return "", fmt.Errorf("reading annotation %s: %w", portsAnnotation, err)
		}
	}
	var ports []string
	for _, p := range declared {
		ports = append(ports, strconv.Itoa(p.ContainerPort)+"/"+strings.ToLower(cmp.Or(p.Protocol, "TCP")))
	}
	if len(ports) == 0 && c.image.builtin.port != 0 {
		ports = append(ports, strconv.Itoa(c.image.builtin.port)+"/tcp")
	}
	return strings.Join(ports, ","), nil
}

// mounts are those of the Pod and those that the runtime adds where the Pod has none, the outer before the inner.
func (r *Runtime) mounts(c *container) ([]guest.Mount, error) {
	var mounts []guest.Mount
	taken := map[string]bool{}
	for _, m := range c.config.GetMounts() {
		mount, err := r.mount(m)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
		taken[filepath.Clean(m.GetContainerPath())] = true
	}
	for _, d := range c.config.GetDevices() {
		mounts = append(mounts, guest.Mount{Source: d.GetHostPath(), Target: d.GetContainerPath()})
	}
	pod := r.podDir(c.sandbox.id)
	own := []guest.Mount{
		{Source: filepath.Join(pod, "resolv.conf"), Target: "/etc/resolv.conf"},
		{Source: filepath.Join(pod, "hostname"), Target: "/etc/hostname"},
		{Source: filepath.Join(pod, "shm"), Target: "/dev/shm"},
	}
	if c.image.builtin != nil {
		own = append(own, guest.Mount{Source: r.binary, Target: guest.BinaryTarget, ReadOnly: true})
	}
	for _, m := range own {
		if !taken[m.Target] {
			mounts = append(mounts, m)
		}
	}
	slices.SortStableFunc(mounts, func(a, b guest.Mount) int { return cmp.Compare(depth(a.Target), depth(b.Target)) })
	return mounts, nil
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

func (r *Runtime) mount(m *runtimeapi.Mount) (guest.Mount, error) {
	target := m.GetContainerPath()
	mount := guest.Mount{
		Source: m.GetHostPath(), Target: target, ReadOnly: m.GetReadonly(), RecursiveReadOnly: m.GetRecursiveReadOnly(),
		Follow: m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
	}
	if !filepath.IsAbs(target) {
		return mount, fmt.Errorf("mount path %q is not absolute", target)
	}
	if m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL {
		return mount, fmt.Errorf("mount %s: mountPropagation Bidirectional is not possible here: what a container mounts is never seen outside", target)
	}
	if name := m.GetImage().GetImage(); name != "" {
		found, err := r.images.find(cmp.Or(m.GetImage().GetUserSpecifiedImage(), name))
		if err != nil {
			return mount, err
		}
		if found.lower == "" {
			return mount, fmt.Errorf("mount %s: image %s is built in and has no files to mount", target, found.name)
		}
		mount.Source, mount.ReadOnly = filepath.Join(found.lower, filepath.Clean("/"+m.GetImageSubPath())), true
	}
	return mount, nil
}

// pidMode says whose processes the container sees.
func (c *container) pidMode() runtimeapi.NamespaceMode {
	return c.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid()
}

func (c *container) logPath() string {
	if c.sandbox.config.GetLogDirectory() == "" || c.config.GetLogPath() == "" {
		return ""
	}
	return filepath.Join(c.sandbox.config.GetLogDirectory(), c.config.GetLogPath())
}

// stopSignal is the Pod's, the image's, or SIGTERM.
func (c *container) stopSignal() syscall.Signal {
	if s := c.config.GetStopSignal(); s != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		if number := unix.SignalNum(s.String()); number != 0 {
			return number
		}
	}
	if number := unix.SignalNum(c.image.config.StopSignal); number != 0 {
		return number
	}
	return unix.SIGTERM
}

// visitFor returns the namespaces that the container's init is started in and whether it gets a PID namespace of its own;
// release is called when it is started.
func (r *Runtime) visitFor(c *container) (visit namespaces, newPID bool, release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !c.sandbox.ready {
		return nil, false, nil, errors.New("the Pod is stopped")
	}
	visit = namespaces{}
	for name, f := range c.sandbox.namespaces {
		visit[name] = f
	}
	var holder *process
	switch c.pidMode() {
	case runtimeapi.NamespaceMode_CONTAINER:
		return visit, true, func() {}, nil
	case runtimeapi.NamespaceMode_POD:
		holder = c.sandbox.pause
	case runtimeapi.NamespaceMode_TARGET:
		target := c.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetTargetId()
		if other, known := r.containers[target]; known && other.state == runtimeapi.ContainerState_CONTAINER_RUNNING {
			holder = other.process
		}
	default: // the node's
		return visit, false, func() {}, nil
	}
	if holder == nil {
		return nil, false, nil, errors.New("the PID namespace that the container is to share does not exist")
	}
	pid, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", holder.init.Pid))
	if err != nil {
		return nil, false, nil, fmt.Errorf("opening the shared PID namespace: %w", err)
	}
	visit["pid"] = pid
	return visit, false, func() { _ = pid.Close() }, nil
}
