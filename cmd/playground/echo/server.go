package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// server is the state of a running server.
type server struct {
	options Options
	out     io.Writer
	outMu   sync.Mutex
	started time.Time
	// ready is what /ready was told last; terminating overrules it. live is what /healthz was told last.
	ready, live, terminating atomic.Bool

	http      *http.Server
	streams   *handover
	listeners []net.Listener
	packets   []*packetServer
	// lines are the plain TCP connections, and those that have not said yet what they are.
	lines sync.WaitGroup
	conns connections
}

// Serve listens on all ports, logs requests to out, and serves until ctx is done: then it is unready, accepts for
// Options.Drain, and serves what is accepted for Options.Grace at most.
func Serve(ctx context.Context, options Options, out io.Writer) error {
	s := &server{options: options, out: out, started: time.Now(), streams: newHandover()}
	s.ready.Store(!options.NotReady)
	s.live.Store(true)
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	defer s.closeListeners()
	if err := s.listen(); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.streams) }()
	for _, l := range s.listeners {
		s.logf("listening on %s/%s", l.Addr(), l.Addr().Network())
	}
	for _, p := range s.packets {
		s.logf("listening on %s/%s", p.conn.LocalAddr(), p.conn.LocalAddr().Network())
	}
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	return s.end()
}

// end is the graceful end. Connections that the kernel has accepted but we have not are ours too: closing the listener
// would reset them, so that accepting goes on for a while.
func (s *server) end() error {
	s.terminating.Store(true)
	s.http.SetKeepAlivesEnabled(false)
	s.logf("ending")
	time.Sleep(s.options.Drain)
	s.closeListeners()
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Grace)
	defer cancel()
	done := make(chan struct{})
	go func() {
		s.lines.Wait() // those that turn out to be HTTP are handed over by then
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.conns.closeAll()
	}
	if err := s.http.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ending: %w", err)
	}
	return nil
}

func (s *server) listen() error {
	for _, port := range s.options.Ports {
		protocol, address, err := parsePort(port)
		if err != nil {
			return err
		}
		switch protocol {
		case "tcp":
			err = s.listenTCP(address, s.serveAny)
		case "udp":
			err = s.listenUDP(address)
		default:
			s.logf("port %s is not served", port)
		}
		if err != nil {
			return err
		}
	}
	for _, kind := range []struct {
		addresses []string
		listen    func(string) error
	}{
		{s.options.HTTP, func(a string) error { return s.listenTCP(a, s.serveHTTP) }},
		{s.options.TCP, func(a string) error { return s.listenTCP(a, s.serveGreeting) }},
		{s.options.UDP, s.listenUDP},
	} {
		for _, address := range kind.addresses {
			if err := kind.listen(address); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) listenTCP(address string, serve func(net.Conn)) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s.listeners = append(s.listeners, l)
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of files, say: others may become free
				time.Sleep(10 * time.Millisecond)
				continue
			}
			s.lines.Add(1)
			s.conns.add(conn)
			go func() {
				defer s.lines.Done()
				defer s.conns.remove(conn)
				serve(conn)
			}()
		}
	}()
	return nil
}

func (s *server) closeListeners() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, p := range s.packets {
		_ = p.conn.Close()
	}
}

func (s *server) logf(format string, args ...any) {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	fmt.Fprintf(s.out, "%s %s\n", time.Now().UTC().Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
}

// log tells of a request.
func (s *server) log(a Answer) {
	if !s.options.Quiet {
		s.logf("%s from %s at %s %s", a.Protocol, a.Client, a.Local, a.Host)
	}
}

// isReady is what the readiness probe is told.
func (s *server) isReady() bool {
	if s.options.ReadyFile != "" {
		if _, err := os.Stat(s.options.ReadyFile); err != nil {
			return false
		}
	}
	return s.ready.Load() && !s.terminating.Load() && time.Since(s.started) >= s.options.ReadyAfter
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.answerHTTP)
	mux.HandleFunc("GET /healthz", probe(s.live.Load))
	mux.HandleFunc("POST /healthz", toggle(&s.live))
	for _, path := range []string{"/ready", "/readyz"} {
		mux.HandleFunc("GET "+path, probe(s.isReady))
		mux.HandleFunc("POST "+path, toggle(&s.ready))
	}
	mux.HandleFunc("POST /exit", exit)
	return mux
}

func probe(ok func() bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !ok() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// toggle sets a probe's answer: ?ok=false or ?ok=true.
func toggle(value *atomic.Bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ok, err := strconv.ParseBool(r.URL.Query().Get("ok"))
		if err != nil {
			http.Error(w, "ok must be true or false", http.StatusBadRequest)
			return
		}
		value.Store(ok)
		fmt.Fprintln(w, ok)
	}
}

// exit ends the server at once, as a crash would, with the code of ?code=.
func exit(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.ParseUint(r.URL.Query().Get("code"), 10, 8)
	if err != nil {
		http.Error(w, "code must be 0 to 255", http.StatusBadRequest)
		return
	}
	os.Exit(int(code))
}

// answerHTTP answers anything else; ?delay=2s waits first, ?format=text or Accept: text/plain answers with a line of text.
func (s *server) answerHTTP(w http.ResponseWriter, r *http.Request) {
	delay := s.options.Delay
	if text := r.URL.Query().Get("delay"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			http.Error(w, "delay must be like 2s", http.StatusBadRequest)
			return
		}
		delay = d
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	a := newAnswer(s.options.Identity, "http", address(r.RemoteAddr), local)
	a.Host = r.Host
	s.log(a)
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return
	}
	if r.URL.Query().Get("format") == "text" || strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, a)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

// address is an address that is known by its text only.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }
