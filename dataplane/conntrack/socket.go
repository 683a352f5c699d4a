package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// answerTimeout bounds the wait for the kernel's next answer.
const answerTimeout = 5 * time.Second

// socket is a netlink socket that reads answers as they come: a dump of a big table never is in memory as a whole. (The
// netlink libraries in the module collect all of a dump before they return.)
type socket struct {
	namespace int
	fd        int
	seq       uint32
	buf       []byte
	// stuck is true when a dump was given up: the kernel begins no other one on the socket.
	stuck bool
}

// openSocket opens a socket in the network namespace of a file descriptor; 0: that of the calling thread.
func openSocket(namespace int) (*socket, error) {
	s := &socket{namespace: namespace, buf: make([]byte, 64<<10)} // the kernel fills no more than 32 KiB at a time
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *socket) open() error {
	err := inside(s.namespace, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		s.fd = -1
		return fmt.Errorf("opening netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	if err := errors.Join(
		unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	); err != nil {
		s.close()
		return fmt.Errorf("preparing netlink: %w", err)
	}
	s.stuck = false
	return nil
}

func (s *socket) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// inside runs a function in a network namespace; 0: where the calling thread is.
func inside(namespace int, f func() error) error {
	if namespace == 0 {
		return f()
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }()
	err = unix.Setns(namespace, unix.CLONE_NEWNET)
	if err == nil {
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			// The thread stays locked and ends with its goroutine, rather than run others in the wrong namespace.
			return errors.Join(err, fmt.Errorf("leaving a network namespace: %w", back))
		}
	}
	runtime.UnlockOSThread()
	return err
}

// message is an answer: what follows its netlink header.
type message struct {
	kind uint16
	data []byte
}

// send sends requests, which all get the same sequence number, unless it is that of the request before.
func (s *socket) send(requests []byte) error {
	s.seq++
	for rest := requests; len(rest) > 0; {
		binary.NativeEndian.PutUint32(rest[8:], s.seq)
		rest = rest[binary.NativeEndian.Uint32(rest):]
	}
	if err := unix.Sendto(s.fd, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("asking the kernel: %w", err)
	}
	return nil
}

// answers yields the answers to the last requests until the caller has what it wants. What it yields is valid until the
// next one. Answers to requests before, which were given up, are passed over.
func (s *socket) answers() iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		for {
			n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				yield(message{}, fmt.Errorf("waiting for the kernel's answer: %w", err))
				return
			}
			for rest := s.buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
				size := int(binary.NativeEndian.Uint32(rest))
				if size < unix.SizeofNlMsghdr || size > len(rest) {
					yield(message{}, errors.New("reading the kernel's answer: it is cut off"))
					return
				}
				m := message{kind: binary.NativeEndian.Uint16(rest[4:]), data: rest[unix.SizeofNlMsghdr:size]}
				if binary.NativeEndian.Uint32(rest[8:]) == s.seq && !yield(m, nil) {
					return
				}
				rest = rest[min(align(size), len(rest)):]
			}
		}
	}
}

// errno is the error that an answer of kind NLMSG_ERROR or NLMSG_DONE holds; nil: none.
func (m message) errno() error {
	if len(m.data) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.data)); code < 0 {
		return unix.Errno(-code)
	}
	return nil
}

// dump asks for a dump and hands each message on.
func (s *socket) dump(request []byte, each func(data []byte) error) error {
	if s.stuck {
		s.close()
		if err := s.open(); err != nil {
			return err
		}
	}
	if err := s.send(request); err != nil {
		return err
	}
	s.stuck = true
	for m, err := range s.answers() {
		if err != nil {
			return err
		}
		switch m.kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			s.stuck = false
			return m.errno()
		}
		if err := each(m.data); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged sends n requests that ask for an acknowledgement each, and returns these in order; nil: done.
func (s *socket) acknowledged(requests []byte, n int) ([]error, error) {
	if err := s.send(requests); err != nil {
		return nil, err
	}
	results := make([]error, 0, n)
	for m, err := range s.answers() {
		if err != nil {
			return results, err
		}
		if m.kind == unix.NLMSG_ERROR {
			if results = append(results, m.errno()); len(results) == n {
				break
			}
		}
	}
	return results, nil
}

func align(n int) int { return (n + 3) &^ 3 }
