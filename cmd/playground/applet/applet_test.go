package applet

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("GREETING", "hello")
	if err := os.WriteFile("file", []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Test"))
	}))
	defer server.Close()
	for name, tc := range map[string]struct {
		command, in, want string
		fails             bool
	}{
		"echo":              {command: "echo a b", want: "a b\n"},
		"echo -n":           {command: "echo -n a", want: "a"},
		"cat file":          {command: "cat file", want: "content\n"},
		"cat input":         {command: "cat", in: "typed", want: "typed"},
		"cat nothing":       {command: "cat none", fails: true},
		"printenv":          {command: "printenv GREETING", want: "hello\n"},
		"printenv missing":  {command: "printenv NOT_SET_AT_ALL", fails: true},
		"true":              {command: "true"},
		"false":             {command: "false", fails: true},
		"ls":                {command: "ls", want: "file\n"},
		"ls option":         {command: "ls -z", fails: true},
		"sleep":             {command: "sleep 0.001"},
		"sleep nonsense":    {command: "sleep soon", fails: true},
		"wget":              {command: "wget -qO- URL/path", want: "GET /path "},
		"wget order":        {command: "wget URL/path -q -O -", want: "GET /path "},
		"wget error":        {command: "wget -qO- URL/broken", fails: true},
		"curl":              {command: "curl -sS -H X-Test:yes URL/", want: "GET / yes"},
		"curl error":        {command: "curl -s URL/broken", want: "GET /broken "},
		"curl fails":        {command: "curl -sf URL/broken", fails: true},
		"curl data":         {command: "curl -s -d x URL/", want: "POST / "},
		"no such option":    {command: "curl --nonsense URL/", fails: true},
		"shell list":        {command: "sh -c", in: "echo a; false || echo b && echo c", want: "a\nb\nc\n"},
		"shell exit":        {command: "sh -c", in: "exit 3", fails: true},
		"shell loop":        {command: "sh -c", in: "for i in 1 2; do echo $i; done", want: "1\n2\n"},
		"shell syntax":      {command: "sh -c", in: "echo (", fails: true},
		"shell from input":  {command: "sh", in: "echo $GREETING", want: "hello\n"},
		"stty needs a size": {command: "stty sane", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(strings.ReplaceAll(tc.command, "URL", server.URL))
			if tc.command == "sh -c" {
				args = append(args, tc.in)
			}
			var out bytes.Buffer
			err := commands()[args[0]](args[1:], stdio{in: typed(t, tc.in), out: &out, err: io.Discard})
			if (err != nil) != tc.fails {
				t.Fatalf("it ended with %v", err)
			}
			if !tc.fails && out.String() != tc.want {
				t.Errorf("it printed %q, not %q", out.String(), tc.want)
			}
		})
	}
}

// typed is an input of which text comes, and then its end.
func typed(t *testing.T, text string) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	if _, err := writer.WriteString(text); err != nil { // as little as this fits into a pipe that nobody reads yet
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return reader
}

func TestShellExitCode(t *testing.T) {
	err := shell([]string{"-c", "exit 7"}, stdio{in: typed(t, ""), out: io.Discard, err: io.Discard})
	var code exitCode
	if !errors.As(err, &code) || code != 7 {
		t.Errorf("got %v", err)
	}
}

// TestShellExec sends SIGTERM to a shell that has given its place to a command: the command must get it.
func TestShellExec(t *testing.T) {
	if os.Getenv("FAIRLEAD_TEST_CHILD") != "" {
		err := shell([]string{"-c", `exec /bin/sh -c 'trap "echo told; exit 4" TERM; echo up; while true; do sleep 0.01; done'`},
			stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr})
		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestShellExec$")
	cmd.Env = append(os.Environ(), "FAIRLEAD_TEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	if line, err := reader.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if line, err := reader.ReadString('\n'); err != nil || line != "told\n" {
		t.Errorf("it said %q, %v", line, err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 4 {
		t.Errorf("it ended with %v", err)
	}
}

func TestFileCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	std := stdio{out: io.Discard, err: io.Discard}
	for _, step := range [][]string{{"mkdir", "-p", "a/b"}, {"touch", "a/b/c"}, {"rm", "-rf", "a", "none"}} {
		if err := commands()[step[0]](step[1:], std); err != nil {
			t.Fatalf("%q: %v", step, err)
		}
		if _, err := os.Stat(filepath.Join("a", "b")); (err == nil) != (step[0] != "rm") {
			t.Errorf("after %q: %v", step, err)
		}
	}
	if err := rm([]string{"none"}, std); err == nil {
		t.Error("rm of nothing succeeded")
	}
}

func TestNetcat(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	var out bytes.Buffer
	if err := netcat([]string{host, port}, stdio{in: typed(t, "ping\n"), out: &out, err: io.Discard}); err != nil || out.String() != "ping\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if err := netcat([]string{"-zv", "-w1", host, port}, stdio{out: io.Discard, err: io.Discard}); err != nil {
		t.Errorf("probing: %v", err)
	}
}

func TestParseSleep(t *testing.T) {
	for arg, want := range map[string]time.Duration{"5": 5 * time.Second, "0.5": 500 * time.Millisecond, "2m": 2 * time.Minute, "1h": time.Hour, "3s": 3 * time.Second} {
		if got, err := parseSleep(arg); err != nil || got != want {
			t.Errorf("%s is %s, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", "s", "-1", "NaN", "1e10", "5x"} {
		if got, err := parseSleep(arg); err == nil {
			t.Errorf("%q is %s", arg, got)
		}
	}
}

func TestMainLeavesOtherNamesAlone(t *testing.T) {
	for _, argv := range [][]string{nil, {"playground", "echo"}, {"/usr/bin/playground"}} {
		if _, ok := Main(argv); ok {
			t.Errorf("%q was taken for an applet", argv)
		}
	}
}
