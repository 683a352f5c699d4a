package cri

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsKinds are the namespaces of a sandbox, by their names in /proc.
var nsKinds = []struct {
	name string
	flag int
}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}}

// namespaces are the open namespaces of a sandbox by name; one that is missing is the node's own. They live as long as
// the files are open, or a process is in them.
type namespaces map[string]*os.File

func (n namespaces) close() {
	for _, f := range n {
		_ = f.Close()
	}
}

// thread is one operating system thread that visits namespaces: all work inside a Pod's namespaces is done on it, and all
// containers are started from it. It lives as long as the runtime, so that containers that are told to die with the thread
// that started them die with the runtime and not before.
type thread struct {
	work chan func()
	own  namespaces
}

func newThread() (*thread, error) {
	t := &thread{work: make(chan func())}
	opened := make(chan error)
	go func() {
		runtime.LockOSThread()
		var err error
		t.own, err = openCurrent(nsKinds[0].flag | nsKinds[1].flag | nsKinds[2].flag)
		if err == nil {
			var pid *os.File
			if pid, err = os.Open("/proc/thread-self/ns/pid_for_children"); err == nil {
				t.own["pid"] = pid
			}
		}
		opened <- err
		for f := range t.work {
			f()
		}
	}()
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("opening the node's namespaces: %w", err)
	}
	return t, nil
}

// openCurrent opens those namespaces of the calling thread that flags names.
func openCurrent(flags int) (namespaces, error) {
	opened := namespaces{}
	for _, kind := range nsKinds {
		if flags&kind.flag == 0 {
			continue
		}
		f, err := os.Open("/proc/thread-self/ns/" + kind.name)
		if err != nil {
			opened.close()
			return nil, err
		}
		opened[kind.name] = f
	}
	return opened, nil
}

// in runs f on the thread, inside the namespaces, and comes back out. f must not start goroutines that rely on them.
func (t *thread) in(visit namespaces, f func() error) error {
	done := make(chan error, 1)
	t.work <- func() {
		err := setNamespaces(visit)
		if err == nil {
			err = f()
		}
		t.comeBack()
		done <- err
	}
	return <-done
}

// unshare makes new namespaces, runs f inside them and returns them.
func (t *thread) unshare(flags int, f func() error) (namespaces, error) {
	var made namespaces
	done := make(chan error, 1)
	t.work <- func() {
		err := unix.Unshare(flags)
		if err == nil {
			made, err = openCurrent(flags)
		}
		if err == nil {
			err = f()
		}
		t.comeBack()
		done <- err
	}
	if err := <-done; err != nil {
		made.close()
		return nil, fmt.Errorf("making namespaces: %w", err)
	}
	return made, nil
}

// comeBack returns to the node's namespaces. A thread that cannot would build the next Pod in the wrong place.
func (t *thread) comeBack() {
	if err := setNamespaces(t.own); err != nil {
		panic(fmt.Sprintf("returning to the node's namespaces: %v", err))
	}
}

func setNamespaces(visit namespaces) error {
	for name, f := range visit {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("entering a %s namespace: %w", name, err)
		}
	}
	return nil
}
