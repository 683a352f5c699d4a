package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	// Lifetime is how long a certificate is valid.
	Lifetime = 90 * 24 * time.Hour
	// RenewAfter is at what age the next one is made. From then on two are trusted, and until the first expires nobody need
	// notice that renewal fails.
	RenewAfter = 60 * 24 * time.Hour
	// Settle is for how long a certificate has been trusted before it is served, so that every API server has heard of it.
	Settle = 5 * time.Minute

	// backdating allows for API servers whose clocks are behind.
	backdating = time.Hour
	// maxPairs are kept: the one that is to come or has come, and the one before.
	maxPairs = 2
)

// pair is a certificate, signed by itself and so its own authority, with its key. Nobody has to keep the key of an
// authority, and whoever learns the key of a pair can sign nothing with it.
type pair struct {
	certificate, key []byte // PEM
	leaf             *x509.Certificate
}

// newPair makes a pair for hosts, which are names or IP addresses.
func newPair(hosts []string, now time.Time) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "fairlead-manager-webhook"},
		NotBefore:    now.Add(-backdating), NotAfter: now.Add(Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return readPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// readPair reads a pair of PEM blocks.
func readPair(certificate, key []byte) (*pair, error) {
	read, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	if len(read.Certificate) != 1 {
		return nil, errors.New("more than one certificate")
	}
	return &pair{certificate: certificate, key: key, leaf: read.Leaf}, nil
}

// tls returns the pair as servers take it.
func (p *pair) tls() (*tls.Certificate, error) {
	certificate, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	return &certificate, nil
}

func (p *pair) made() time.Time { return p.leaf.NotBefore.Add(backdating) }

func (p *pair) valid(now time.Time) bool {
	return !now.Before(p.leaf.NotBefore) && now.Before(p.leaf.NotAfter)
}

func (p *pair) covers(hosts []string) bool {
	return !slices.ContainsFunc(hosts, func(host string) bool { return p.leaf.VerifyHostname(host) != nil })
}

// renew returns the pairs that there should be, the newest first, and whether those are others: what has expired goes,
// and a new one comes where the newest is old or is not for all hosts.
func renew(pairs []*pair, hosts []string, now time.Time) (next []*pair, changed bool, err error) {
	next = slices.DeleteFunc(slices.Clone(pairs), func(p *pair) bool { return !p.valid(now) })
	if len(next) == 0 || !now.Before(next[0].made().Add(RenewAfter)) || !next[0].covers(hosts) {
		p, err := newPair(hosts, now)
		if err != nil {
			return nil, false, err
		}
		next = append([]*pair{p}, next...)
	}
	next = next[:min(len(next), maxPairs)]
	return next, !slices.Equal(pairs, next), nil
}

// choose returns the pair to serve: the newest that has been trusted for long enough, or else the oldest. Trusted says
// since when each certificate is known to be trusted.
func choose(pairs []*pair, trusted map[string]time.Time, now time.Time) *pair {
	for _, p := range pairs {
		if since, ok := trusted[string(p.certificate)]; ok && !now.Before(since.Add(Settle)) {
			return p
		}
	}
	return pairs[len(pairs)-1]
}

// bundle returns the certificates that are to be trusted, in PEM.
func bundle(pairs []*pair) []byte {
	var all bytes.Buffer
	for _, p := range pairs {
		all.Write(p.certificate)
	}
	return all.Bytes()
}

// next returns when there is something to do again, given that pairs are as renew makes them and chosen is served: a
// certificate is to be made, to go, or to be served.
func next(pairs []*pair, trusted map[string]time.Time, now time.Time) time.Time {
	at := pairs[0].made().Add(RenewAfter)
	for _, p := range pairs {
		if p.leaf.NotAfter.Before(at) {
			at = p.leaf.NotAfter
		}
		if since, ok := trusted[string(p.certificate)]; ok {
			if settled := since.Add(Settle); settled.After(now) && settled.Before(at) {
				at = settled
			}
		}
	}
	return at
}
