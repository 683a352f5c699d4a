package control

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// connected returns both ends of a connection over a unix socket.
func connected(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func TestRequestWithFiles(t *testing.T) {
	client, server := connected(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	want := Request{Exec: &Exec{Namespace: "fl-n1", Args: []string{"true"}, Env: []string{"A=b"}, TTY: true}}
	if err := SendRequest(client, want, r, w, w); err != nil {
		t.Fatal(err)
	}
	if err := WriteFrame(client, Signal{Number: 15}); err != nil {
		t.Fatal(err)
	}
	got, files, err := ReceiveRequest(server)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request differs (-sent +received):\n%s", diff)
	}
	if len(files) != 3 {
		t.Fatalf("%d files, want 3", len(files))
	}
	_ = w.Close()
	if _, err := files[1].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	CloseAll(files)
	if text, err := io.ReadAll(r); err != nil || string(text) != "through" {
		t.Errorf("read %q, %v", text, err)
	}
	var s Signal
	if err := ReadFrame(server, &s); err != nil || s.Number != 15 {
		t.Errorf("signal %v, %v, want 15", s, err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for name, input := range map[string][]byte{
		"Nothing":  nil,
		"HalfHead": {0, 0},
		"TooLong":  binary.BigEndian.AppendUint32(nil, maxFrame+1),
		"Cut":      append(binary.BigEndian.AppendUint32(nil, 10), "{}"...),
		"NotJSON":  append(binary.BigEndian.AppendUint32(nil, 2), "no"...),
	} {
		t.Run(name, func(t *testing.T) {
			var r Reply
			if err := ReadFrame(bytes.NewReader(input), &r); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestSplice(t *testing.T) {
	a, aInner := connected(t)
	b, bInner := connected(t)
	done := make(chan struct{})
	go func() {
		Splice(aInner, bInner)
		close(done)
	}()
	if _, err := a.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(b); err != nil || string(text) != "question" {
		t.Fatalf("read %q, %v", text, err)
	}
	// One direction has ended, the other has not.
	if _, err := b.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if text, err := io.ReadAll(a); err != nil || string(text) != "answer" {
		t.Fatalf("read %q, %v", text, err)
	}
	<-done
}
