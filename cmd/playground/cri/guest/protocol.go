// Package guest is the init of a container: the first process in its mount and PID namespaces. It builds the container's
// file system, starts the container's process and every further command (probes, `kubectl exec`) on the runtime's orders,
// reaps what dies, forwards signals, and ends with the container's process, which ends all else in the PID namespace.
//
// It decides nothing: what to mount and what to run, it is told. The runtime's side of the conversation is package cri.
package guest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Spec is all that the init must know before it can run a command. The runtime writes it to a file, since the environment
// of a Pod in a namespace of many Services outgrows a message.
type Spec struct {
	// Scratch is an empty folder that the root file system is mounted on, seen by nobody outside the container.
	Scratch string
	// Lower is the folder of the image's root file system; empty means the built-in image.
	Lower string
	// Mounts are made in this order.
	Mounts []Mount
	// Env is the environment of every command, and Dir its working directory, made if it is missing.
	Env []string
	Dir string
	// Terminal says that the container's own process has a terminal.
	Terminal bool
	// ReadOnlyRoot makes all but the mounts read-only.
	ReadOnlyRoot bool
	// SharedPID says that the init is not the first process of its PID namespace: orphans must be adopted explicitly.
	SharedPID bool
	// Pause says that there is no file system to build and no command to run: the process only holds a PID namespace and
	// reaps its orphans.
	Pause bool
}

// Mount is one bind mount of a file or folder into the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
	// RecursiveReadOnly extends ReadOnly to what is mounted below the source.
	RecursiveReadOnly bool
	// Follow says that what is mounted below the source later shows up in the container too.
	Follow bool
}

// Request is one order of the runtime. Ops: "run" starts Argv as the container's own process (at most once) or beside it;
// its standard input, output and error are the files sent along, unless Terminal, when the init opens a terminal and
// sends back its other end. "kill" ends the command with that ID and its process group.
type Request struct {
	Op       string
	ID       uint64
	Main     bool     `json:",omitempty"`
	Argv     []string `json:",omitempty"`
	Terminal bool     `json:",omitempty"`
}

// Reply is what the init says. Events: "ready" (file system built), "failed" (with Error; ID 0 means that the container
// cannot be), "started", then "exited" (with Code, 128 + the signal's number for one that a signal ended).
type Reply struct {
	Event string
	ID    uint64
	Error string `json:",omitempty"`
	Code  int    `json:",omitempty"`
}

// maxMessage bounds one message either way: the default send buffer of a unix socket is a little larger.
const maxMessage = 192 << 10

// Send writes one message with open files, which stay the caller's to close.
func Send(conn *net.UnixConn, message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encoding message: %w", err)
	}
	if len(data) > maxMessage {
		return fmt.Errorf("encoding message: %d bytes of command line are more than %d", len(data), maxMessage)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(data, rights, nil)
	return err
}

// Receive reads one message into message and returns the files that came along. At the end of the conversation it
// returns an error.
func Receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	data := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(3*4))
	n, rn, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, net.ErrClosed
	}
	files, err := openRights(rights[:rn])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		CloseAll(files)
		return nil, fmt.Errorf("decoding message: %w", err)
	}
	return files, nil
}

func openRights(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("decoding files: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(files)
			return nil, fmt.Errorf("decoding files: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes files, and ignores that some are closed already.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
