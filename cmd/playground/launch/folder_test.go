package launch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cache makes run folders go into a folder of the test, short enough for sockets.
func cache(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_CACHE_HOME", dir)
}

func TestFolders(t *testing.T) {
	cache(t)
	stale, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(stale.path, "nodes", "read-only")
	if err := os.MkdirAll(filepath.Join(locked, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	_ = stale.lock.Close() // as when its launcher is killed
	running, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale.path); !os.IsNotExist(err) {
		t.Errorf("the stale folder is still there: %v", err)
	}
	got, err := Running()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{running.path}, got); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	if err := running.remove(); err != nil {
		t.Fatal(err)
	}
	if got, err := Running(); err != nil || len(got) != 0 {
		t.Errorf("running %v, %v, want none", got, err)
	}
}

// TestSignalLauncherOfNobody: a number in a stale folder may be anybody's by now.
func TestSignalLauncherOfNobody(t *testing.T) {
	cache(t)
	f, err := newFolder() // with the number of this process, which would end by the signal
	if err != nil {
		t.Fatal(err)
	}
	_ = f.lock.Close()
	if gone, err := signalLauncher(f.path, 15); err != nil || !gone {
		t.Errorf("gone %v, %v, want true", gone, err)
	}
}

func TestRootRefusesOthersFolders(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/dev/null") // no cache folder can be made
	tmp, err := os.MkdirTemp("", "fl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
	dir, err := root()
	if err != nil || !strings.HasPrefix(dir, tmp+"/fairlead-") {
		t.Fatalf("root %s, %v, want a folder below %s", dir, err, tmp)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := root(); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v, want a refusal that names TMPDIR", err)
	}
	t.Setenv("TMPDIR", "/"+strings.Repeat("x", longestRoot))
	if _, err := root(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v, want that the path is too long", err)
	}
}

func TestMissingPrograms(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"there": 0o755, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"there", "data", "folder", "gone"}
	if diff := cmp.Diff([]string{"data", "folder", "gone"}, missingPrograms(dir, names)); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(names, missingPrograms("", names)); diff != "" {
		t.Errorf("missing without a folder (-want +got):\n%s", diff)
	}
}

func TestCheckNamesRemedies(t *testing.T) {
	err := check("", t.TempDir(), t.TempDir(), "/nonexistent")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"etcd, kube-apiserver", "make controlplane", "manager, node-agent", "make build", "--config-dir", "--images"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
