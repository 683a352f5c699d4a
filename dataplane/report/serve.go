package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	// maxConnections at once, and the least time between two of them: strangers must not cost the agent the CPU that it has
	// for packets.
	maxConnections = 16
	acceptEvery    = 20 * time.Millisecond
	// lifetime of the agent's own certificate, which nobody checks.
	lifetime = 10 * 365 * 24 * time.Hour
)

// TLS returns how connections are served: to the manager alone.
func (t *Trust) TLS() (*tls.Config, error) {
	certificate, err := selfSigned(t.now())
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		// Which one it must be, verify says: it is no authority's, and for other uses too.
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: t.verify,
		NextProtos:       []string{"http/1.1"},
		// A session that is resumed shows no key.
		SessionTicketsDisabled: true,
	}, nil
}

func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "fairlead-node-agent"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Bound limits how many connections a listener has at once, and how often it takes one.
func Bound(listener net.Listener) net.Listener {
	return &bounded{Listener: listener, places: make(chan struct{}, maxConnections), closed: make(chan struct{})}
}

type bounded struct {
	net.Listener
	places chan struct{}
	once   sync.Once
	closed chan struct{}
	last   time.Time // Accept is called by one goroutine
}

// Accept waits for a place, and for its time.
func (b *bounded) Accept() (net.Conn, error) {
	pause := time.NewTimer(time.Until(b.last.Add(acceptEvery)))
	defer pause.Stop()
	select {
	case <-b.closed:
		return nil, net.ErrClosed
	case <-pause.C:
	}
	select {
	case <-b.closed:
		return nil, net.ErrClosed
	case b.places <- struct{}{}:
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	b.last = time.Now()
	return &placed{Conn: conn, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

// Close ends waiting, too.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// placed is a connection that gives its place back.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
