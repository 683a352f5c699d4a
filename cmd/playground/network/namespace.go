// Package network makes the playground's network out of network namespaces: nodes on a bridge, a cloud's router,
// and the internet behind it. It runs inside the playground's own user, mount and network namespaces and never
// touches the host's.
package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where namespaces have their names, as `ip netns` has it.
const Dir = "/run/netns"

// Namespace is a network namespace with a thread that lives in it. The thread may be given a mount namespace of its
// own, too (see PrivateMounts).
type Namespace struct {
	Name string
	// Link configures the namespace over netlink.
	Link *netlink.Handle

	jobs chan job
}

type job struct {
	do   func() error
	done chan error
}

// NewNamespace makes a namespace and gives it a name.
func NewNamespace(name string) (*Namespace, error) {
	return start(name, func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("making network namespace %s: this user may have no more: sudo sysctl user.max_net_namespaces=10000", name)
		}
		if err != nil {
			return fmt.Errorf("making network namespace %s: %w", name, err)
		}
		return nil
	})
}

// NameOwn gives a name to the network namespace that the process is in.
func NameOwn(name string) (*Namespace, error) {
	return start(name, func() error { return nil })
}

func start(name string, enter func() error) (*Namespace, error) {
	n := &Namespace{Name: name, jobs: make(chan job)}
	ready := make(chan error, 1)
	go func() {
		// Never unlocked: the thread must not serve other goroutines.
		runtime.LockOSThread()
		err := enter()
		if err == nil {
			err = bind(name)
		}
		if err == nil {
			n.Link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		ready <- err
		if err != nil {
			return
		}
		for j := range n.jobs {
			j.done <- j.do()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// bind gives the calling thread's network namespace a name.
func bind(name string) error {
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("naming network namespace %s: %w", name, err)
	}
	_ = f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("naming network namespace %s: %w", name, err)
	}
	return nil
}

// Do runs f on the namespace's thread and returns its error. Programs that f starts live in the namespace. f must
// not call Do of the same namespace.
func (n *Namespace) Do(f func() error) error {
	j := job{do: f, done: make(chan error, 1)}
	n.jobs <- j
	return <-j.done
}

// PrivateMounts gives the namespace's thread, and all that it starts, a mount namespace of its own.
func (n *Namespace) PrivateMounts() error {
	return n.Do(func() error {
		// Threads of one process share their root and working folder, which setting up mounts apart needs undone.
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("making a mount namespace for %s: %w", n.Name, err)
		}
		return nil
	})
}

// Enter runs f on a thread of its own in the namespace of that name, which somebody else may have made.
func Enter(name string, f func() error) error {
	if name != filepath.Base(name) {
		return fmt.Errorf("namespace %q: a name, not a path, is needed", name)
	}
	ns, err := netns.GetFromPath(filepath.Join(Dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no namespace %q: `playground list` names them", name)
	}
	if err != nil {
		return fmt.Errorf("opening namespace %s: %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("entering namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}
