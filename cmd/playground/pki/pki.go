// Package pki makes the certificates, keys and kubeconfigs of one playground: one authority, valid for as long as a
// playground might run, whose key never leaves the run folder. It is not fit for a cluster that is to last.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of everything; backdating allows for a clock that is set back a little.
const (
	lifetime   = 365 * 24 * time.Hour
	backdating = time.Hour
)

// Authority signs certificates and writes them into its folder.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// Identity is whom a certificate is for.
type Identity struct {
	// Name is the name of its files.
	Name string
	// CommonName is the user to Kubernetes, Organizations the groups.
	CommonName    string
	Organizations []string
	// Hosts are the names and addresses that it serves; none makes a client's certificate.
	Hosts []string
}

// Pair is a certificate and its key, as files and as PEM.
type Pair struct {
	CertFile, KeyFile string
	Cert, Key         []byte
}

// NewAuthority makes an authority whose files are in dir, which is made.
func NewAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	template, err := certificate(pkix.Name{CommonName: "fairlead-playground"})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the authority back: %w", err)
	}
	a := &Authority{dir: dir, cert: cert, key: key, pem: encode("CERTIFICATE", der)}
	return a, write(a.CAFile(), a.pem)
}

// CAFile is the authority's certificate; CA is its content.
func (a *Authority) CAFile() string { return filepath.Join(a.dir, "ca.crt") }

// CA is the authority's certificate in PEM.
func (a *Authority) CA() []byte { return a.pem }

// Issue makes a key and a certificate and writes both.
func (a *Authority) Issue(id Identity) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making the key of %s: %w", id.Name, err)
	}
	template, err := certificate(pkix.Name{CommonName: id.CommonName, Organization: id.Organizations})
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, host := range id.Hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("signing %s: %w", id.Name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{
		CertFile: filepath.Join(a.dir, id.Name+".crt"), KeyFile: filepath.Join(a.dir, id.Name+".key"),
		Cert: encode("CERTIFICATE", der), Key: keyPEM,
	}
	if err := write(p.CertFile, p.Cert); err != nil {
		return Pair{}, err
	}
	return p, write(p.KeyFile, p.Key)
}

// KeyPair makes a bare key, such as the one that signs service account tokens, and writes its two halves. Cert and
// CertFile of the result are the public half.
func (a *Authority) KeyPair(name string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making key %s: %w", name, err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Pair{}, fmt.Errorf("encoding key %s: %w", name, err)
	}
	p := Pair{
		CertFile: filepath.Join(a.dir, name+".pub"), KeyFile: filepath.Join(a.dir, name+".key"),
		Cert: encode("PUBLIC KEY", public), Key: private,
	}
	if err := write(p.CertFile, p.Cert); err != nil {
		return Pair{}, err
	}
	return p, write(p.KeyFile, p.Key)
}

func certificate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: now.Add(-backdating), NotAfter: now.Add(lifetime),
	}, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return encode("EC PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}
