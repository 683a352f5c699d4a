package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func parse(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	if _, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile); err != nil {
		t.Fatalf("certificate and key do not belong together: %v", err)
	}
	block, _ := pem.Decode(p.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssue(t *testing.T) {
	a, err := NewAuthority(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CA()) {
		t.Fatal("the authority's certificate cannot be read")
	}
	for name, tc := range map[string]struct {
		id         Identity
		usage, not x509.ExtKeyUsage
		names      []string
	}{
		"Client": {
			id:    Identity{Name: "kubelet", CommonName: "system:node:n1", Organizations: []string{"system:nodes"}},
			usage: x509.ExtKeyUsageClientAuth, not: x509.ExtKeyUsageServerAuth,
		},
		"Server": {
			id:    Identity{Name: "server", CommonName: "server", Hosts: []string{ServerName, "172.30.0.1", "fd00::1"}},
			usage: x509.ExtKeyUsageServerAuth, not: x509.ExtKeyUsageClientAuth,
			names: []string{ServerName, "172.30.0.1", "fd00::1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := a.Issue(tc.id)
			if err != nil {
				t.Fatal(err)
			}
			cert := parse(t, pair)
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.usage}}); err != nil {
				t.Errorf("not valid for its use: %v", err)
			}
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.not}}); err == nil {
				t.Error("valid for another use, too")
			}
			for _, n := range tc.names {
				if err := cert.VerifyHostname(n); err != nil {
					t.Errorf("not valid for %s: %v", n, err)
				}
			}
			if cert.Subject.CommonName != tc.id.CommonName {
				t.Errorf("is for %q, want %q", cert.Subject.CommonName, tc.id.CommonName)
			}
			if info, err := os.Stat(pair.KeyFile); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("key file: %v, %v, want mode 0600", info.Mode(), err)
			}
		})
	}
}

func TestWriteKubeconfig(t *testing.T) {
	a, err := NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.Issue(Identity{Name: "admin", CommonName: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	for name, credentials := range map[string]Credentials{"Certificate": {Pair: &pair}, "Token": {Token: "secret"}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := a.WriteKubeconfig(path, "https://127.0.0.1:1", "admin", credentials); err != nil {
				t.Fatal(err)
			}
			config, err := clientcmd.BuildConfigFromFlags("", path)
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != "https://127.0.0.1:1" || config.ServerName != ServerName {
				t.Errorf("server %s named %s", config.Host, config.ServerName)
			}
			if config.BearerToken != credentials.Token || (len(config.KeyData) > 0) != (credentials.Pair != nil) {
				t.Errorf("token %q and %d bytes of key", config.BearerToken, len(config.KeyData))
			}
		})
	}
}
