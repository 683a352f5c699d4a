package inside

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// covered are the folders that get a private, empty file system: names of network namespaces live below /run, and the
// kubelet has fixed paths below the other two, which an ordinary user could not write.
var covered = []string{"/run", "/var/lib", "/var/log"}

// mount arranges the mount namespace: nothing of it shows outside, /proc shows this process namespace, and the keep
// folders stay where they are even below a covered folder.
func mount(keep []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", explainMount(err))
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", explainMount(err))
	}
	for _, dir := range covered {
		if err := cover(dir, keep); err != nil {
			return err
		}
	}
	if err := os.Mkdir(network.Dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of namespaces: %w", err)
	}
	return nil
}

// explainMount says what a refused mount means: who may make a user namespace may mount in it, unless somebody took
// that away.
func explainMount(err error) error {
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) {
		return err
	}
	return fmt.Errorf("%w: mounts are not permitted in this user namespace. In a container: start it with --privileged, "+
		"or run the playground on the machine itself. On Ubuntu 24.04 or later, AppArmor forbids it: "+
		"sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0", err)
}

// cover mounts an empty file system over dir and binds what is to be kept back into it.
func cover(dir string, keep []string) error {
	if info, err := os.Lstat(dir); err != nil {
		return fmt.Errorf("covering %s: %w", dir, err)
	} else if info.Mode()&os.ModeSymlink != 0 {
		return nil // it leads into another folder, covered itself where that matters
	}
	kept := map[string]int{}
	defer func() {
		for _, fd := range kept {
			_ = unix.Close(fd)
		}
	}()
	for _, path := range keep {
		if _, ok := kept[path]; ok || !strings.HasPrefix(path, dir+"/") {
			continue
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("keeping %s: %w", path, err)
		}
		kept[path] = fd
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("covering %s: %w", dir, explainMount(err))
	}
	for path, fd := range kept {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("keeping %s: %w", path, err)
		}
		if err := unix.Mount(filepath.Join("/proc/self/fd", fmt.Sprint(fd)), path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("keeping %s: %w", path, err)
		}
	}
	return nil
}
