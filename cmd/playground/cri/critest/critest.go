// Package critest lets a test run the container runtime: inside namespaces of its own, as whoever runs the test, with the
// test's own binary in the place of the playground's. It is for tests only.
package critest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cmd/playground/applet"
	"github.com/fairlead/fairlead/cmd/playground/cri"
	"github.com/fairlead/fairlead/cmd/playground/echo"
)

// dirEnv is set inside, to a folder that is the test's own.
const dirEnv = "FAIRLEAD_TEST_INSIDE"

// Main is what TestMain is to be: it makes the test's binary stand for the playground's, which the runtime starts for
// containers.
func Main(m *testing.M) {
	if code, ok := applet.Main(os.Args); ok {
		os.Exit(code)
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "cri":
			os.Exit(cri.Main(os.Args[2:]))
		case "echo":
			os.Exit(echo.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// Inside returns the folder of a test that runs inside, and whether it does.
func Inside() (dir string, inside bool) { return os.LookupEnv(dirEnv) }

// Enter runs the test that calls it once more, inside new namespaces of every kind, where it is root and the first process,
// and fails or skips as it does. env is added to its environment. It returns true inside: then the test goes on, and
// false outside, where all is done.
func Enter(t *testing.T, env ...string) bool {
	t.Helper()
	if _, inside := Inside(); inside {
		prepareMounts(t)
		return true
	}
	cmd := exec.Command(staticBinary(t), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=8m")
	cmd.Env = append(append(os.Environ(), dirEnv+"="+t.TempDir()), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The signal comes when the thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Skipf("user namespaces do not work here (%v): allow them (sysctl kernel.unprivileged_userns_clone=1, "+
			"kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("inside: %v", err)
	}
	return false
}

// staticBinary is this test's binary, built again if it needs libraries: containers have none.
func staticBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("finding the test's binary: %v", err)
	}
	if cri.CheckStatic(self) == nil {
		return self
	}
	binary := filepath.Join(t.TempDir(), "playground.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the test without cgo: %v\n%s", err, out)
	}
	return binary
}

func prepareMounts(t *testing.T) {
	t.Helper()
	mount := func(source, target, kind string, flags uintptr) {
		if err := unix.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatalf("mounting %s on %s: %v", kind, target, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE)
	mount("proc", "/proc", "proc", 0)
	for _, dir := range []string{"/run", "/var/lib", "/var/log"} {
		mount("tmpfs", dir, "tmpfs", 0)
	}
}
