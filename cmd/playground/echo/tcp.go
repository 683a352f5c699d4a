package echo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// maxLine bounds a request line of a client that is not HTTP.
const maxLine = 64 << 10

// methods start the requests that are HTTP.
var methods = []string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE "}

// serveAny finds out by the first bytes whether a connection speaks HTTP, and answers lines if it does not.
func (s *server) serveAny(conn net.Conn) {
	r := bufio.NewReaderSize(conn, maxLine)
	if isHTTP(r) {
		s.streams.give(&sniffed{Conn: conn, r: r})
		return
	}
	s.serveLines(conn, r)
}

// isHTTP looks at no more bytes than are needed to be sure.
func isHTTP(r *bufio.Reader) bool {
	for n := 1; ; n++ {
		start, err := r.Peek(n)
		possible := false
		for _, method := range methods {
			if strings.HasPrefix(method, string(start)) {
				possible = true
				if len(start) == len(method) {
					return true
				}
			}
		}
		if err != nil || !possible {
			return false
		}
	}
}

func (s *server) serveHTTP(conn net.Conn) { s.streams.give(conn) }

// serveGreeting speaks first, as servers of some protocols do, and answers lines after that.
func (s *server) serveGreeting(conn net.Conn) {
	a := newAnswer(s.options.Identity, "tcp", conn.RemoteAddr(), conn.LocalAddr())
	if s.reply(conn, a, "") != nil {
		_ = conn.Close()
		return
	}
	s.serveLines(conn, bufio.NewReaderSize(conn, maxLine))
}

// serveLines answers each line with one. A client that says nothing before it closes its side is answered once.
func (s *server) serveLines(conn net.Conn, r *bufio.Reader) {
	defer func() { _ = conn.Close() }()
	a := newAnswer(s.options.Identity, "tcp", conn.RemoteAddr(), conn.LocalAddr())
	answered := false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && len(line) == 0 && (answered || !errors.Is(err, io.EOF)) {
			return
		}
		s.log(a)
		time.Sleep(s.options.Delay)
		if s.reply(conn, a, string(line)) != nil || err != nil {
			return
		}
		answered = true
	}
}

// reply answers in the form that the request asks for.
func (s *server) reply(conn net.Conn, a Answer, request string) error {
	_, err := conn.Write(format(a, request))
	return err
}

// format is an answer as a line: of text if the request begins with "text", else of JSON.
func format(a Answer, request string) []byte {
	if strings.HasPrefix(request, "text") {
		return fmt.Appendln(nil, a)
	}
	line, err := json.Marshal(a)
	if err != nil {
		panic(fmt.Sprintf("encoding an answer of strings and numbers: %v", err))
	}
	return append(line, '\n')
}

// sniffed is a connection some of whose bytes have been looked at already.
type sniffed struct {
	net.Conn
	r *bufio.Reader
}

func (c *sniffed) Read(p []byte) (int, error) { return c.r.Read(p) }

// handover is a listener whose connections come from others.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover { return &handover{conns: make(chan net.Conn), done: make(chan struct{})} }

// give hands a connection to whoever accepts; after Close it is closed instead.
func (h *handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close()
	}
}

// Accept waits for the next connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is nobody's.
func (h *handover) Addr() net.Addr { return address("handover") }

// connections are those that may have to be cut at the end.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[net.Conn]bool{}
	}
	c.open[conn] = true
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}
