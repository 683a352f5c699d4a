package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// assets are the programs of Kubernetes that a playground needs.
var assets = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}

// programs are Fairlead's own.
var programs = []string{"manager", "node-agent"}

// check finds out, before anything is made, what this machine lacks. All that is missing is told at once.
func check(assetsDir, binDir, manifests, images string) error {
	var errs []error
	if missing := missingPrograms(assetsDir, assets); len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%s has no %s: `make controlplane` makes them and prints their folder, for --assets or "+
			"FAIRLEAD_ASSETS", name(assetsDir, "the folder of the control plane's programs (not given)"), strings.Join(missing, ", ")))
	}
	if missing := missingPrograms(binDir, programs); len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%s has no %s: `make build` makes them in bin, for --bin", binDir, strings.Join(missing, ", ")))
	}
	if _, err := os.Stat(filepath.Join(manifests, "crd")); err != nil {
		errs = append(errs, fmt.Errorf("%s has no manifests (%w): --config-dir must be the folder config of the repository", manifests, err))
	}
	if info, err := os.Stat(images); images != "" && (err != nil || !info.IsDir()) {
		errs = append(errs, fmt.Errorf("--images: %s is no folder: name one of root filesystems, or leave it out for the built-in images", images))
	}
	return errors.Join(append(errs, userNamespaces(), inotify())...)
}

func name(given, otherwise string) string {
	if given == "" {
		return otherwise
	}
	return given
}

func missingPrograms(dir string, names []string) []string {
	var missing []string
	for _, n := range names {
		path := filepath.Join(dir, n)
		info, err := os.Stat(path)
		if dir == "" || err != nil || info.IsDir() || unix.Access(path, unix.X_OK) != nil {
			missing = append(missing, n)
		}
	}
	return missing
}

// userNamespaces says what keeps this user from making namespaces, as far as the kernel's settings tell; the attempt
// itself may still fail (see explainStart).
func userNamespaces() error {
	if n, ok := setting("user/max_user_namespaces"); ok && n == 0 {
		return errors.New("user namespaces are switched off: sudo sysctl user.max_user_namespaces=10000")
	}
	if os.Getuid() == 0 {
		return nil
	}
	if n, ok := setting("kernel/unprivileged_userns_clone"); ok && n == 0 {
		return errors.New("user namespaces are for root alone here: sudo sysctl kernel.unprivileged_userns_clone=1")
	}
	if n, ok := setting("kernel/apparmor_restrict_unprivileged_userns"); ok && n != 0 && !apparmorAllows() {
		return errors.New("AppArmor restricts user namespaces (Ubuntu 24.04 and later): " +
			"sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (until the next boot), or give this program a profile " +
			"with `userns,`, or run the playground as root")
	}
	return nil
}

// apparmorAllows says whether this process runs under an AppArmor profile, which may then allow user namespaces.
func apparmorAllows() bool {
	label, err := os.ReadFile("/proc/self/attr/apparmor/current")
	return err == nil && !strings.HasPrefix(string(label), "unconfined")
}

// inotifyNeeded is how many inotify instances a playground uses at most: two for a kubelet and its volumes, one for each
// of the other programs.
const inotifyNeeded = 16

// inotify tells if this user cannot have as many inotify instances as are needed; kubelets fail oddly without them.
func inotify() error {
	var got []int
	defer func() {
		for _, fd := range got {
			_ = unix.Close(fd)
		}
	}()
	for range inotifyNeeded {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if errors.Is(err, unix.EMFILE) {
			limit, _ := setting("fs/inotify/max_user_instances")
			return fmt.Errorf("of this user's %d inotify instances only %d are free, and a playground needs %d: "+
				"sudo sysctl fs.inotify.max_user_instances=1024", limit, len(got), inotifyNeeded)
		}
		if err != nil {
			return fmt.Errorf("trying inotify: %w", err)
		}
		got = append(got, fd)
	}
	return nil
}

func setting(name string) (int, bool) {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil
}

// explainStart says what a refusal to make the namespaces means.
func explainStart(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("making namespaces: %w. In a container: start it with --privileged, or with "+
			"--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined; "+
			"elsewhere ask whoever restricts user namespaces", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		return fmt.Errorf("making namespaces: %w: their number is used up or their nesting too deep: "+
			"sudo sysctl user.max_user_namespaces=10000 (and user.max_net_namespaces, user.max_mnt_namespaces)", err)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("making namespaces: %w: this kernel lacks a kind of namespace (CONFIG_USER_NS, NET_NS, PID_NS, "+
			"CGROUP_NS are needed)", err)
	}
	return fmt.Errorf("making namespaces: %w", err)
}
