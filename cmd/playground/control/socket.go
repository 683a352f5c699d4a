package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// SocketName is the control socket's name in the run folder.
const SocketName = "control.sock"

// maxFrame bounds what one frame may hold: an environment fits many times.
const maxFrame = 8 << 20

// Request is the first frame of a connection: one of its fields is set.
type Request struct {
	Exec *Exec `json:",omitempty"`
	Dial *Dial `json:",omitempty"`
	// List asks for the namespaces.
	List bool `json:",omitempty"`
}

// Exec asks for a command in a namespace. Standard input, output and error come with the frame. The server answers
// with a Reply when the command has ended; until then the client may send Signals. A command whose client hangs up
// is killed.
type Exec struct {
	Namespace string
	Args      []string
	Env       []string
	Dir       string
	// TTY: the descriptors are a terminal that becomes the command's own.
	TTY bool
}

// Signal is passed on to the command's process group.
type Signal struct{ Number int }

// Dial asks for a TCP connection from within a namespace. After a Reply without Error the bytes of the connection
// follow.
type Dial struct{ Namespace, Address string }

// Reply ends a request (but for Dial's bytes).
type Reply struct {
	// Error says why the request was not served.
	Error string `json:",omitempty"`
	// Code is the exit code of a command.
	Code int `json:",omitempty"`
	// Namespaces answers List.
	Namespaces []Namespace `json:",omitempty"`
}

// Namespace is a network namespace and what it stands for, such as a Pod's namespace and name.
type Namespace struct{ Name, What string }

// WriteFrame sends v as JSON behind its length.
func WriteFrame(w io.Writer, v any) error {
	frame, err := encode(v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a frame: %w", err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// ReadFrame reads what WriteFrame sent.
func ReadFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	return readBody(r, head, v)
}

func readBody(r io.Reader, head [4]byte, v any) error {
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("reading a frame: %d bytes, more than %d", n, maxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("reading a frame: %w", err)
	}
	return json.Unmarshal(body, v)
}

// SendRequest sends the first frame, and files with it.
func SendRequest(c *net.UnixConn, r Request, files ...*os.File) error {
	frame, err := encode(r)
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(frame[:4], rights, nil); err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	if _, err := c.Write(frame[4:]); err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	return nil
}

// ReceiveRequest reads the first frame. The caller closes the files.
func ReceiveRequest(c *net.UnixConn) (Request, []*os.File, error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(3*4))
	n, oobn, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err != nil {
		return Request{}, nil, err
	}
	files, err := parseRights(oob[:oobn])
	if err != nil {
		return Request{}, nil, err
	}
	var r Request
	_, err = io.ReadFull(c, head[n:])
	if err == nil {
		err = readBody(c, head, &r)
	}
	if err != nil {
		CloseAll(files)
		return Request{}, nil, err
	}
	return r, files, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("reading descriptors: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if errors.Is(err, unix.EINVAL) {
			continue // another kind of message
		}
		if err != nil {
			return nil, fmt.Errorf("reading descriptors: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// HalfCloser is a connection whose directions end apart.
type HalfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Splice copies between two connections until both directions have ended, and closes them.
func Splice(a, b HalfCloser) {
	done := make(chan struct{})
	one := func(to, from HalfCloser) {
		_, _ = io.Copy(to, from) // an error ends this direction like an end does
		_ = to.CloseWrite()
		done <- struct{}{}
	}
	go one(a, b)
	go one(b, a)
	<-done
	<-done
	_, _ = a.Close(), b.Close()
}
