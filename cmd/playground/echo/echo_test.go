package echo

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// In a network of its own nobody else takes the ports of the tests.
func TestMain(m *testing.M) { nstest.Main(m) }

// words are what a server logs.
type words struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// await waits until something was logged.
func (w *words) await(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(w.String(), what); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never logged: %s; but:\n%s", what, w)
		}
	}
}

// start serves on a free loopback port and returns its address, its log, and a function that ends it and waits.
func start(t *testing.T, change func(*Options)) (address string, log *words, end func() error) {
	t.Helper()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = probe.Addr().String()
	_ = probe.Close()
	_, port, _ := net.SplitHostPort(address)
	o := Options{Identity: Identity{Pod: "web", Namespace: "default", Node: "n1", Zone: "a"}, Ports: []string{port + "/tcp", port + "/udp"},
		Drain: time.Millisecond, Grace: time.Minute}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log = &words{}
	go func() { done <- Serve(ctx, o, log) }()
	end = func() error {
		cancel()
		select {
		case err := <-done:
			done <- err
			return err
		case <-time.After(patience):
			t.Fatal("the server does not end")
			return nil
		}
	}
	t.Cleanup(func() { _ = end() })
	log.await(t, ":"+port+"/udp") // the last one
	return address, log, end
}

func exchange(t *testing.T, network, address, request string) string {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && request == "" {
		_ = tcp.CloseWrite()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("%s to %q: %v", network, request, err)
	}
	return strings.Replace(line, conn.LocalAddr().String(), "CLIENT", 1)
}

func TestAnswers(t *testing.T) {
	address, _, _ := start(t, nil)
	_, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	answer := func(protocol string) Answer {
		return Answer{Identity: Identity{Pod: "web", Namespace: "default", Node: "n1", Zone: "a"}, Protocol: protocol, Client: "CLIENT", Local: address, Port: number}
	}
	for name, tc := range map[string]struct {
		network, request string
		want             Answer
	}{
		"line":            {network: "tcp", request: "hi\n", want: answer("tcp")},
		"silence":         {network: "tcp", request: "", want: answer("tcp")},
		"almost a method": {network: "tcp", request: "GETAWAY\n", want: answer("tcp")},
		"datagram":        {network: "udp", request: "x", want: answer("udp")},
	} {
		t.Run(name, func(t *testing.T) {
			var got Answer
			if err := json.Unmarshal([]byte(exchange(t, tc.network, address, tc.request)), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	want := "pod default/web on node n1 in zone a saw CLIENT by tcp at " + address + "\n"
	if got := exchange(t, "tcp", address, "text\n"); got != want {
		t.Errorf("text is %q, not %q", got, want)
	}
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	address, _, _ := start(t, func(o *Options) { o.NotReady = true })
	for _, step := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "/any/path", 200, `"protocol":"http"`},
		{"GET", "/?format=text", 200, "pod default/web on node n1"},
		{"POST", "/", 200, `"host":"` + address},
		{"GET", "/?delay=soon", 400, "delay"},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/ready", 503, "no"},
		{"POST", "/ready?ok=perhaps", 400, "true or false"},
		{"POST", "/ready?ok=true", 200, "true"},
		{"GET", "/readyz", 200, "ok"},
		{"POST", "/healthz?ok=false", 200, "false"},
		{"GET", "/healthz", 503, "no"},
	} {
		status, body := get(t, step.method, "http://"+address+step.path)
		if status != step.status || !strings.Contains(body, step.contains) {
			t.Errorf("%s %s: %d %q", step.method, step.path, status, body)
		}
	}
}

func TestReadyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	address, _, _ := start(t, func(o *Options) { o.ReadyFile = file })
	if status, _ := get(t, "GET", "http://"+address+"/ready"); status != 503 {
		t.Errorf("without its file it is ready: %d", status)
	}
}

// TestGracefulEnd ends the server while it owes answers: an HTTP request under way, a plain connection that has said
// nothing yet. Both get theirs; after that nobody is accepted.
func TestGracefulEnd(t *testing.T) {
	address, log, end := start(t, nil)
	slow := make(chan error, 1)
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	begun, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = begun.Close() }()
	if _, err := io.WriteString(begun, "GET /?delay=300ms HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	log.await(t, "http from "+begun.LocalAddr().String()) // and the one that came before it is accepted, too
	go func() {
		response, err := http.ReadResponse(bufio.NewReader(begun), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if err == nil {
			_, err = io.WriteString(silent, "at last\n")
		}
		if err == nil {
			_, err = bufio.NewReader(silent).ReadString('\n')
		}
		_ = silent.Close()
		slow <- err
	}()
	if err := end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if err := <-slow; err != nil {
		t.Errorf("an accepted connection was not served: %v", err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("a connection was accepted after the end")
	}
}

func TestParseOptions(t *testing.T) {
	env := map[string]string{EnvPod: "p", EnvPorts: "80/tcp,53/udp"}
	for name, tc := range map[string]struct {
		reason string
		args   []string
		env    map[string]string
		ports  []string
		fails  bool
	}{
		"nothing":      {reason: "the default", ports: []string{"8080/tcp"}},
		"environment":  {reason: "what the runtime says", env: env, ports: []string{"80/tcp", "53/udp"}},
		"flag wins":    {reason: "what the Pod says", env: env, args: []string{"--ports=90"}, ports: []string{"90"}},
		"address wins": {reason: "one protocol only", env: env, args: []string{"--http=:81"}},
		"bad port":     {reason: "named", args: []string{"--ports=http"}, fails: true},
		"bad protocol": {reason: "named", args: []string{"--ports=1/icmp"}, fails: true},
		"port 0":       {reason: "nobody would find it", args: []string{"--ports=0/tcp"}, fails: true},
		"argument":     {reason: "named", args: []string{"serve"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseOptions(tc.args, func(key string) string { return tc.env[key] }, io.Discard)
			if (err != nil) != tc.fails {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if diff := cmp.Diff(tc.ports, got.Ports); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
