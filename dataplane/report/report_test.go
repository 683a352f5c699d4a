package report

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// manager is a certificate with its key, and what of it stands in the configuration.
func manager(t *testing.T, made time.Time) (certificate tls.Certificate, bundle []byte) {
	t.Helper()
	certificate, err := selfSigned(made)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
}

// configuration is what the API server has, and how often it was read.
type configuration struct {
	mu     sync.Mutex
	bundle []byte
	err    error
	read   int
}

func (c *configuration) get(context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read++
	return c.bundle, c.err
}

func (c *configuration) set(bundle []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle, c.err = bundle, err
}

// TestTrust follows the manager's certificates through renewal, an outage and strangers.
func TestTrust(t *testing.T) {
	now := time.Now()
	start := now
	first, firstPEM := manager(t, now)
	second, secondPEM := manager(t, now)
	stranger, _ := manager(t, now)
	expired, expiredPEM := manager(t, now.Add(-2*lifetime))
	early, earlyPEM := manager(t, now.Add(2*time.Hour))
	c := &configuration{}
	trust := &Trust{log: logr.Discard(), now: func() time.Time { return now }, read: c.get}
	steps := []struct {
		reason string
		after  time.Duration // since the start
		bundle []byte        // nil: as it was
		err    error
		who    tls.Certificate
		trust  bool
		read   int // so far
	}{
		{"the first one who asks has it read", 0, slices.Concat(firstPEM, expiredPEM, earlyPEM), nil, first, true, 1},
		{"what is known is not read again", time.Second, nil, nil, first, true, 1},
		{"a stranger soon after has nothing read", 2 * time.Second, nil, nil, stranger, false, 1},
		{"one who is not known has it read after a while", readAgain, nil, nil, stranger, false, 2},
		{"many do not", readAgain + time.Second, nil, nil, stranger, false, 2},
		{"nobody is trusted after the end", readAgain + time.Second, nil, nil, expired, false, 2},
		{"nor before the beginning", readAgain + time.Second, nil, nil, early, false, 2},
		{"a renewed one is read", 2 * readAgain, slices.Concat(firstPEM, secondPEM), nil, second, true, 3},
		{"the one before is trusted still", 2 * readAgain, nil, nil, first, true, 3},
		{"what is old is read again: the one before is gone", 2*readAgain + trustFor, secondPEM, nil, first, false, 4},
		{"the API server is away: what was known stays", 3*readAgain + 2*trustFor, nil, errors.New("away"), second, true, 5},
		{"it is asked again after a while, not at once", 3*readAgain + 2*trustFor + time.Second, nil, errors.New("away"), second, true, 5},
		{"it is back, and revoked it", 4*readAgain + 2*trustFor, firstPEM, nil, second, false, 6},
	}
	for _, s := range steps {
		now = start.Add(s.after)
		if s.bundle == nil {
			s.bundle = c.bundle
		}
		c.set(s.bundle, s.err)
		leaf, err := x509.ParseCertificate(s.who.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		err = trust.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
		if (err == nil) != s.trust || err != nil && !errors.Is(err, ErrStranger) || c.read != s.read {
			t.Errorf("%s: got %v after %d readings, want trust %t after %d", s.reason, err, c.read, s.trust, s.read)
		}
	}
	if err := trust.verify(tls.ConnectionState{}); !errors.Is(err, ErrStranger) {
		t.Errorf("who shows nothing got %v", err)
	}
}

// serving serves what it counts to whom trust trusts, on loopback.
func serving(t *testing.T, trust *Trust) (url string) {
	t.Helper()
	config, err := trust.TLS()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "told") })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(Bound(listener), config))
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "https://" + listener.Addr().String()
}

func ask(url string, certificates ...tls.Certificate) (string, error) {
	client := http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// TestTLS: only who has the key of a certificate that is trusted is told anything. A certificate alone, which everybody can
// read, is no key.
func TestTLS(t *testing.T) {
	ours, bundle := manager(t, time.Now())
	other, _ := manager(t, time.Now())
	c := &configuration{bundle: bundle}
	url := serving(t, &Trust{log: logr.Discard(), now: time.Now, read: c.get})
	if text, err := ask(url, ours); err != nil || text != "told" {
		t.Errorf("the manager was told %q, %v", text, err)
	}
	stolen := tls.Certificate{Certificate: ours.Certificate, PrivateKey: other.PrivateKey}
	for name, certificates := range map[string][]tls.Certificate{"nobody": nil, "another": {other}, "without the key": {stolen}} {
		if text, err := ask(url, certificates...); err == nil {
			t.Errorf("%s was told %q", name, text)
		}
	}
}

// TestBound: strangers that open connections and say nothing leave no place for more, until one of them goes.
func TestBound(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := Bound(listener)
	accepted := make(chan net.Conn)
	ended := make(chan error)
	go func() {
		for {
			conn, err := bounded.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	dial := func() {
		t.Helper()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	begin := time.Now()
	var last net.Conn
	for range maxConnections {
		dial()
		last = <-accepted
	}
	if took := time.Since(begin); took < (maxConnections-1)*acceptEvery {
		t.Errorf("%d connections were taken within %s", maxConnections, took)
	}
	dial()
	select {
	case <-accepted:
		t.Errorf("there is a place for one more than %d", maxConnections)
	case <-time.After(10 * acceptEvery):
	}
	for range 2 { // twice: that gives one place
		_ = last.Close()
	}
	<-accepted
	dial()
	select {
	case <-accepted:
		t.Error("one that went left two places")
	case <-time.After(10 * acceptEvery):
	}
	if err := bounded.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("waiting ended with %v", err)
	}
}
