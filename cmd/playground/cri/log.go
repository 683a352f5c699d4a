package cri

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLogLine is where a longer line is cut into parts that are tagged P, so that whoever reads the log can join them.
const maxLogLine = 16 << 10

// containerLog is a container's log on disk, in the format that the kubelet reads: time, stream, F for a whole line or P for
// a part of one, text. It also passes on what comes in to whoever is attached.
type containerLog struct {
	path string

	mu       sync.Mutex
	file     *os.File
	attached map[*attachment]bool
}

// attachment is someone who reads a running container's output. An output that fails is dropped: its reader has left.
type attachment struct {
	out, err io.Writer
	// left is closed when nothing can be written any more.
	left     chan struct{}
	leftOnce sync.Once
}

func (a *attachment) leave() { a.leftOnce.Do(func() { close(a.left) }) }

// openLog opens the log; an empty path means that none is kept.
func openLog(path string) (*containerLog, error) {
	l := &containerLog{path: path, attached: map[*attachment]bool{}}
	return l, l.reopen()
}

// reopen begins a new file if the old one was renamed, which is how the kubelet rotates logs.
func (l *containerLog) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file = file
	return nil
}

func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	for a := range l.attached {
		a.leave()
	}
	clear(l.attached)
}

func (l *containerLog) attach(out, err io.Writer) *attachment {
	a := &attachment{out: out, err: err, left: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached[a] = true
	return a
}

func (l *containerLog) detach(a *attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attached, a)
	a.leave()
}

// follow copies a stream ("stdout" or "stderr") until it ends. What it cannot write is lost, but read all the same: a full
// disk must not block the container.
func (l *containerLog) follow(stream string, r io.Reader) {
	chunk := make([]byte, maxLogLine)
	var pending []byte
	for {
		n, err := r.Read(chunk)
		if n > 0 {
			l.passOn(stream, chunk[:n])
			pending = l.writeLines(stream, append(pending, chunk[:n]...))
		}
		if err != nil {
			if len(pending) > 0 {
				l.write(stream, "P", pending)
			}
			return
		}
	}
}

// writeLines writes the whole lines and the parts that are long enough, and returns the rest.
func (l *containerLog) writeLines(stream string, data []byte) []byte {
	for {
		end := bytes.IndexByte(data, '\n')
		switch {
		case end >= 0 && end <= maxLogLine:
			l.write(stream, "F", data[:end])
			data = data[end+1:]
		case len(data) > maxLogLine:
			l.write(stream, "P", data[:maxLogLine])
			data = data[maxLogLine:]
		default:
			return bytes.Clone(data)
		}
	}
}

func (l *containerLog) write(stream, tag string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		// One write for a line: the kubelet reads along.
		_, _ = l.file.Write(fmt.Appendf(nil, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, tag, text))
	}
}

func (l *containerLog) passOn(stream string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a := range l.attached {
		w := a.out
		if stream == "stderr" {
			w = a.err
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(data); err != nil {
			delete(l.attached, a)
			a.leave()
		}
	}
}
