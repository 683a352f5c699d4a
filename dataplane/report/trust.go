// Package report serves what a node agent has to tell to the manager alone, over HTTPS on the node's addresses. Who asks is
// the manager if it has the key of one of the certificates that the API servers trust as the manager's: they stand in its
// MutatingWebhookConfiguration, which an agent may read. So no secret is given to nodes, and none is sent to them.
//
// The agent's own certificate says nothing: it is made when the agent starts, and whoever can answer at a node's address
// can tell the manager what it likes of that node. ADR 15 says what that is worth. This package knows nothing of what is
// told, and what is told to people and programs on the node itself is health's.
package report

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

const (
	// trustFor is how long certificates are believed that were read: one that the manager drops is out of use by then.
	trustFor = 5 * time.Minute
	// readAgain is the least time between two readings, however many strangers come.
	readAgain = 10 * time.Second
	// readWithin bounds one reading, for which a handshake waits.
	readWithin = 5 * time.Second
)

// ErrStranger is that of a client that is not the manager.
var ErrStranger = errors.New("the client's certificate is not the manager's")

// Trust knows the manager's certificates. Its methods can be called from several goroutines.
type Trust struct {
	log  logr.Logger
	read func(context.Context) ([]byte, error)
	now  func() time.Time

	mu     sync.Mutex
	known  map[string]bool // by DER
	readAt time.Time       // zero: never
	tried  time.Time
	failed string // last logged
}

var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	utilruntime.Must(admissionregistrationv1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // refusals are of it
	return serializer.NewCodecFactory(scheme)
}()

// NewTrust trusts the certificates of the MutatingWebhookConfiguration of that name. It does not talk to the API server
// yet; the error is one of configuration.
func NewTrust(log logr.Logger, config *rest.Config, name string) (*Trust, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion, config.APIPath = &admissionregistrationv1.SchemeGroupVersion, "/apis"
	// One small object now and then, which must not wait behind what the agent watches.
	config.QPS, config.Burst, config.RateLimiter = 1, 2, nil
	config.NegotiatedSerializer = codecs.WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s of %s: %w", config.GroupVersion, config.Host, err)
	}
	return &Trust{log: log, now: time.Now, read: func(ctx context.Context) ([]byte, error) {
		configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
		if err := client.Get().Resource("mutatingwebhookconfigurations").Name(name).Do(ctx).Into(configuration); err != nil {
			return nil, fmt.Errorf("reading the manager's certificates: %w", err)
		}
		var bundle []byte
		for _, w := range configuration.Webhooks {
			bundle = append(append(bundle, w.ClientConfig.CABundle...), '\n')
		}
		return bundle, nil
	}}, nil
}

// verify is for tls.Config.VerifyConnection: the handshake has shown that the client has the key of its certificate.
func (t *Trust) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return ErrStranger
	}
	certificate, now := state.PeerCertificates[0], t.now()
	if now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) || !t.trusts(certificate, now) {
		return ErrStranger
	}
	return nil
}

// trusts reads anew what is too old to be believed, or does not have the certificate.
func (t *Trust) trusts(certificate *x509.Certificate, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	stale := now.Sub(t.readAt) >= trustFor
	if (stale || !t.known[string(certificate.Raw)]) && now.Sub(t.tried) >= readAgain {
		t.tried = now
		t.refresh(now)
	}
	// With the API server away what is known goes on being trusted, or reports would end when they are needed.
	return t.known[string(certificate.Raw)]
}

func (t *Trust) refresh(now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	bundle, err := t.read(ctx)
	if err != nil {
		if t.failed != err.Error() {
			t.failed = err.Error()
			t.log.Error(err, "Cannot tell who the manager is, which is told nothing more once its certificate changes")
		}
		return
	}
	t.failed, t.readAt, t.known = "", now, map[string]bool{}
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			t.known[string(block.Bytes)] = true
		}
	}
}
