package launch

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Names of files in a run folder.
const (
	lockName = "lock"
	pidName  = "launcher.pid"
)

// longestRoot is the longest path of the folder of run folders under which the paths of unix sockets, which the kernel
// limits to 107 bytes, still fit.
const longestRoot = 60

// folder is one playground's run folder. Who holds its lock runs; all others are stale, whatever their files say.
type folder struct {
	path string
	lock *os.File
}

// root is the folder of this user's run folders: on a disk if possible, as logs and Pods' files are in it.
func root() (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(cache, "fairlead", "playground")
		if len(dir) <= longestRoot && os.MkdirAll(dir, 0o700) == nil {
			if real, err := filepath.EvalSymlinks(dir); err == nil && len(real) <= longestRoot && unix.Access(real, unix.W_OK) == nil {
				return real, nil
			}
		}
	}
	dir := filepath.Join(os.TempDir(), "fairlead-"+strconv.Itoa(os.Getuid()))
	if len(dir) > longestRoot {
		return "", fmt.Errorf("the temporary folder's path is too long for sockets: set TMPDIR to a shorter one than %s", os.TempDir())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the folder of run folders: %w", err)
	}
	// Anybody may have made it: the temporary folder is everybody's.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("looking at the folder of run folders: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(s.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s must be a folder of yours alone (mode 0700): remove it, or set TMPDIR", dir)
	}
	return filepath.EvalSymlinks(dir)
}

// lockRoot holds off others who make or remove run folders. The caller closes the file.
func lockRoot(root string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of run folders: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking run folders: %w", err)
	}
	return f, nil
}

// newFolder removes stale run folders and makes one.
func newFolder() (*folder, error) {
	root, err := root()
	if err != nil {
		return nil, err
	}
	guard, err := lockRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = guard.Close() }()
	if _, err := sweep(root); err != nil {
		return nil, err
	}
	var id [3]byte
	_, _ = rand.Read(id[:]) // never fails
	f := &folder{path: filepath.Join(root, hex.EncodeToString(id[:]))}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		return nil, fmt.Errorf("making a run folder: %w", err)
	}
	if f.lock, err = os.OpenFile(filepath.Join(f.path, lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("opening the run folder's lock: %w", err)
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("locking the run folder: %w", err)
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(f.path, pidName), []byte(pid), 0o600); err != nil {
		return nil, fmt.Errorf("writing the launcher's number: %w", err)
	}
	return f, nil
}

// remove removes the run folder and gives up its lock.
func (f *folder) remove() error {
	err := removeAll(f.path)
	_ = f.lock.Close()
	return err
}

// removeAll is os.RemoveAll for trees that may have folders without write permission, as images have, and that the
// processes of a killed playground may still be writing to in the moment before the kernel has ended them.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	for range 20 {
		if !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
		err = os.RemoveAll(path)
	}
	if errors.Is(err, os.ErrPermission) {
		_ = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil // what still cannot be removed shows next
		})
		err = os.RemoveAll(path)
	}
	if err != nil {
		return fmt.Errorf("removing run folder %s: %w", path, err)
	}
	return nil
}

// sweep removes the stale run folders and returns the paths of the others. The caller holds the root's lock.
func sweep(root string) (running []string, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("reading run folders: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(root, e.Name())
		busy, err := locked(path)
		if err != nil {
			return nil, err
		}
		if busy {
			running = append(running, path)
		} else if err := removeAll(path); err != nil {
			return nil, err
		}
	}
	return running, nil
}

// locked says whether somebody holds a run folder's lock.
func locked(path string) (bool, error) {
	f, err := os.Open(filepath.Join(path, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening a run folder's lock: %w", err)
	}
	defer func() { _ = f.Close() }()
	// Shared, so that two who ask do not see each other.
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("trying a run folder's lock: %w", err)
	}
	return false, nil
}

// Running returns the run folders of this user's running playgrounds, sorted, and removes what others left.
func Running() ([]string, error) {
	root, err := root()
	if err != nil {
		return nil, err
	}
	guard, err := lockRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = guard.Close() }()
	return sweep(root)
}

// downLimit is how long one playground may take to end after it was asked to, and again after it was killed.
const downLimit = 15 * time.Second

// Down ends the playground of a run folder and waits until it is gone: first it is asked to, then killed.
func Down(path string) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		done, err := signalLauncher(path, sig)
		if err != nil {
			return err
		}
		deadline := time.Now().Add(downLimit)
		for !done && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			busy, err := locked(path)
			if err != nil {
				return err
			}
			done = !busy
		}
		if done {
			_, err := Running() // removes what is left of it
			return err
		}
	}
	return fmt.Errorf("playground %s does not end: see %s", filepath.Base(path), filepath.Join(path, "logs"))
}

// signalLauncher signals the launcher that holds the lock of a run folder; gone is true if nobody does.
func signalLauncher(path string, sig unix.Signal) (gone bool, err error) {
	text, err := os.ReadFile(filepath.Join(path, pidName))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the launcher's number: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false, fmt.Errorf("reading the launcher's number: %w", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The lock is held by the process that wrote the number; if it is held now, then that process lived when it was
	// opened above, and the number was not yet somebody else's.
	busy, err := locked(path)
	if err != nil || !busy {
		return !busy, err
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("signalling process %d: %w", pid, err)
	}
	return false, nil
}
