package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cmd/playground/applet"
)

// oldRoot is where the file system outside hangs while the container's is being built.
const oldRoot = "/.outside"

// BinaryTarget is where the playground's own binary is in the built-in image.
const BinaryTarget = "/playground"

// enter builds the container's file system and makes it this process's root. The mount namespace is new already.
//
//  1. Nothing mounted here shows outside; what the outside mounts later may show here.
//  2. The sources of the mounts are opened by their names outside, since after step 5 names mean the container's.
//  3. The root: an overlay over the image's folder, or the few files of the built-in image.
//  4. /proc, /sys and /dev.
//  5. The root becomes ours.
//  6. Mounts, whose targets the kernel resolves inside the container's root: a symbolic link in an image cannot lead out.
//  7. The outside is let go.
func (s Spec) enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detaching mounts: %w", err)
	}
	sources, err := openSources(s.Mounts)
	if err != nil {
		return err
	}
	defer CloseAll(sources)
	root, err := s.mountRoot()
	if err != nil {
		return err
	}
	if err := mountKernel(root); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	for i, m := range s.Mounts {
		if err := m.bind(sources[i]); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.Source, m.Target, err)
		}
	}
	if err := unix.Unmount(oldRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the outside: %w", err)
	}
	if err := os.Remove(oldRoot); err != nil {
		return fmt.Errorf("letting go of the outside: %w", err)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("making the working directory: %w", err)
	}
	if s.ReadOnlyRoot {
		if err := setReadOnly("/", false); err != nil {
			return fmt.Errorf("making the root read-only: %w", err)
		}
	}
	return nil
}

func openSources(mounts []Mount) ([]*os.File, error) {
	var files []*os.File
	for _, m := range mounts {
		fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			CloseAll(files)
			return nil, fmt.Errorf("opening %s to mount it on %s: %w", m.Source, m.Target, err)
		}
		files = append(files, os.NewFile(uintptr(fd), m.Source))
	}
	return files, nil
}

// mountRoot mounts what is to be the root and returns its path. What the container writes goes to memory and is gone with
// its mount namespace.
func (s Spec) mountRoot() (string, error) {
	if err := unix.Mount("tmpfs", s.Scratch, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("mounting the root: %w", err)
	}
	if s.Lower == "" {
		return s.Scratch, populate(s.Scratch)
	}
	upper, work, root := filepath.Join(s.Scratch, "upper"), filepath.Join(s.Scratch, "work"), filepath.Join(s.Scratch, "root")
	for _, dir := range []string{upper, work, root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", fmt.Errorf("preparing the root: %w", err)
		}
	}
	// Without userxattr the overlay wants trusted.* attributes, which need privileges outside the user namespace.
	options := "userxattr,lowerdir=" + escapeOption(s.Lower) + ",upperdir=" + escapeOption(upper) + ",workdir=" + escapeOption(work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mounting an overlay on the image's root file system %s (it needs Linux 5.11): %w", s.Lower, err)
	}
	return root, nil
}

// escapeOption protects the characters that have a meaning in overlay's mount options.
func escapeOption(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// populate makes the files of the built-in image. The binary itself is one of the mounts.
func populate(root string) error {
	for _, dir := range []string{"bin", "etc", "root", "run", "usr", "usr/local", "var", "var/log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("making the built-in image: %w", err)
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":  "root:x:0:\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("making the built-in image: %w", err)
		}
	}
	links := map[string]string{"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin", "usr/local/bin": "../../bin", "var/run": "../run"}
	for _, name := range applet.Names() {
		links["bin/"+name] = BinaryTarget
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			return fmt.Errorf("making the built-in image: %w", err)
		}
	}
	return nil
}

// mountKernel mounts what the kernel provides below root.
func mountKernel(root string) error {
	for _, dir := range []string{"proc", "sys", "dev", "tmp", oldRoot} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("preparing the root: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return fmt.Errorf("preparing the root: %w", err)
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", quiet, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	// Where parts of /sys are hidden from the playground, the kernel refuses a second view of it; a container can do without.
	_ = unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", quiet|unix.MS_RDONLY, "")
	return mountDevices(filepath.Join(root, "dev"))
}

// mountDevices makes a /dev of the nodes outside, since a user namespace may not make nodes of its own.
func mountDevices(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		node := filepath.Join(dev, name)
		if err := touch(node); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
		if err := unix.Mount("/dev/"+name, node, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting /dev/%s: %w", name, err)
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return fmt.Errorf("making /dev/%s: %w", dir, err)
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mounting /dev/pts: %w", err)
	}
	links := map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	return nil
}

func pivot(root string) error {
	// pivot_root wants a mount point; the root of an overlay or a tmpfs is one.
	if err := unix.PivotRoot(root, filepath.Join(root, oldRoot)); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return nil
}

// bind mounts the opened source on the target, which is made if it is missing. Mounts below the source come along: the
// kernel refuses to show what they hide.
func (m Mount) bind(source *os.File) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(m.Target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(m.Target), 0o755); err == nil {
		err = touch(m.Target)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), m.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.Follow {
		if err := unix.Mount("", m.Target, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
	}
	if m.ReadOnly {
		return setReadOnly(m.Target, m.RecursiveReadOnly)
	}
	return nil
}

// setReadOnly changes only that one flag: others may be locked in a user namespace, and a remount would have to repeat them.
func setReadOnly(path string, recursive bool) error {
	flags := uint(0)
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	return unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// touch makes an empty file unless there is something already.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
