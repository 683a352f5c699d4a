// Package certificate keeps the certificate of the manager's webhook server: it makes one for whatever hosts the
// MutatingWebhookConfiguration names, has the API server trust it by way of that object, and puts another in its place
// long before it expires, without a request that fails.
//
// It is not an authority for anybody else, it does not make the webhook configuration, and what the webhooks do is not
// its business.
package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/controllers/work"
)

const (
	// FieldManager owns what the keeper writes.
	FieldManager = "fairlead-certificate"

	// The newest certificate has the keys that every Secret of its type has, the one before it these.
	previousCertKey = "previous.crt"
	previousKeyKey  = "previous.key"
)

// Keeper keeps the certificate. Every replica of the manager runs one, since each of them serves webhooks: all read the
// same Secret, whoever finds something to do does it, and a write that lost a race is made again from what is there.
//
// A certificate goes the same way everywhere: it is put into the Secret, then trusted beside the one before, then, after
// Settle, served, and the one before is trusted until it expires.
type Keeper struct {
	// Client writes to the API server, and Reader reads from it, past any cache: what is written follows from what is
	// read. SetupWithManager sets those that are nil.
	Client client.Client
	Reader client.Reader
	// Clock tells the time. Nil: the real one.
	Clock clock.PassiveClock
	// Secret holds the certificates, and Configuration is the name of the MutatingWebhookConfiguration that is told to
	// trust them.
	Secret        types.NamespacedName
	Configuration string

	// Passes are made one at a time; mu guards what servers ask for meanwhile.
	trusted map[string]time.Time
	mu      sync.RWMutex
	serving *tls.Certificate
	// absent says that there is no webhook configuration.
	absent bool
}

// SetupWithManager adds the keeper to mgr, whether or not that leads.
func (k *Keeper) SetupWithManager(mgr ctrl.Manager) error {
	if k.Client == nil {
		k.Client = mgr.GetClient()
	}
	if k.Reader == nil {
		k.Reader = mgr.GetAPIReader()
	}
	if k.Clock == nil {
		k.Clock = clock.RealClock{}
	}
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request {
		return []ctrl.Request{{NamespacedName: k.Secret}}
	})
	named := func(name types.NamespacedName) builder.Predicates {
		return builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool {
			return client.ObjectKeyFromObject(object) == name
		}))
	}
	everywhere := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("certificate").
		WatchesRawSource(first(k.Secret)).
		Watches(&corev1.Secret{}, one, named(k.Secret)).
		Watches(&admissionv1.MutatingWebhookConfiguration{}, one, named(types.NamespacedName{Name: k.Configuration})).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere, RateLimiter: work.RateLimiter()}).
		Complete(k)
}

// first is a source that has one pass made even where neither object exists.
func first(name types.NamespacedName) source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[ctrl.Request]) error {
		queue.Add(ctrl.Request{NamespacedName: name})
		return nil
	})
}

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.serving == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return k.serving, nil
}

// GetClientCertificate is for tls.Config, too: the manager is known by the same certificate where it is the client.
func (k *Keeper) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return k.GetCertificate(nil)
}

// Ready is for the readiness check: a replica without a certificate must get no requests. Where nobody asks, since no
// webhook is configured, it is ready, too.
func (k *Keeper) Ready(*http.Request) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.serving == nil && !k.absent {
		return errors.New("there is no certificate of the webhooks yet")
	}
	return nil
}

// Reconcile makes one pass.
//
//  1. Read the configuration, then the Secret. In this order, a configuration that is written back was not changed since
//     the Secret was read, so that no certificate can be lost from it which another replica has just added.
//  2. Make, or drop, certificates.
//  3. Have them trusted.
//  4. Serve what has been trusted for long enough.
func (k *Keeper) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	configuration := &admissionv1.MutatingWebhookConfiguration{}
	err := k.Reader.Get(ctx, types.NamespacedName{Name: k.Configuration}, configuration)
	k.note(apierrors.IsNotFound(err))
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil // Nobody calls the webhooks.
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading the webhook configuration: %w", err)
	}
	secret := &corev1.Secret{}
	if err := k.Reader.Get(ctx, k.Secret, secret); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the Secret of the certificate: %w", err)
	}
	now := k.Clock.Now()
	pairs, changed, err := renew(pairsOf(ctx, secret), hostsOf(configuration), now)
	if err != nil {
		return ctrl.Result{}, err
	}
	if changed {
		err = k.writeSecret(ctx, secret, pairs)
	}
	if err == nil {
		err = k.writeConfiguration(ctx, configuration, bundle(pairs))
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: work.RetryConflict}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	k.trust(pairs, now)
	if err := k.serve(ctx, choose(pairs, k.trusted, now)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: max(time.Millisecond, next(pairs, k.trusted, now).Sub(now))}, nil
}

func (k *Keeper) note(absent bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.absent = absent
}

// hostsOf returns the hosts by which the API server reaches webhooks, sorted.
func hostsOf(configuration *admissionv1.MutatingWebhookConfiguration) []string {
	var hosts []string
	for _, w := range configuration.Webhooks {
		if s := w.ClientConfig.Service; s != nil {
			hosts = append(hosts, s.Name+"."+s.Namespace+".svc")
		} else if w.ClientConfig.URL != nil {
			if u, err := url.Parse(*w.ClientConfig.URL); err == nil {
				hosts = append(hosts, u.Hostname())
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// pairsOf reads the pairs of a Secret, the newest first. What cannot be read is not there, and is made anew.
func pairsOf(ctx context.Context, secret *corev1.Secret) []*pair {
	var pairs []*pair
	for _, keys := range [][2]string{{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}, {previousCertKey, previousKeyKey}} {
		certificate, key := secret.Data[keys[0]], secret.Data[keys[1]]
		if len(certificate) == 0 && len(key) == 0 {
			continue
		}
		p, err := readPair(certificate, key)
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not read a certificate of the webhooks", "key", keys[0])
			continue
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// writeSecret makes pairs the content of the Secret that was read.
func (k *Keeper) writeSecret(ctx context.Context, secret *corev1.Secret, pairs []*pair) error {
	next := secret.DeepCopy()
	next.Data = map[string][]byte{corev1.TLSCertKey: pairs[0].certificate, corev1.TLSPrivateKeyKey: pairs[0].key}
	if len(pairs) > 1 {
		next.Data[previousCertKey], next.Data[previousKeyKey] = pairs[1].certificate, pairs[1].key
	}
	var err error
	if secret.ResourceVersion == "" {
		next.Namespace, next.Name, next.Type = k.Secret.Namespace, k.Secret.Name, corev1.SecretTypeTLS
		err = k.Client.Create(ctx, next, client.FieldOwner(FieldManager))
	} else {
		err = k.Client.Update(ctx, next, client.FieldOwner(FieldManager))
	}
	if err != nil {
		return fmt.Errorf("writing the Secret of the certificate: %w", err)
	}
	log.FromContext(ctx).Info("Wrote the certificates of the webhooks", "newest", pairs[0].leaf.NotAfter, "number", len(pairs))
	return nil
}

// writeConfiguration has the API server trust the bundle.
func (k *Keeper) writeConfiguration(ctx context.Context, configuration *admissionv1.MutatingWebhookConfiguration, trusted []byte) error {
	changed := false
	for i := range configuration.Webhooks {
		c := &configuration.Webhooks[i].ClientConfig
		if !bytes.Equal(c.CABundle, trusted) {
			c.CABundle, changed = trusted, true
		}
	}
	if !changed {
		return nil
	}
	if err := k.Client.Update(ctx, configuration, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing the webhook configuration: %w", err)
	}
	return nil
}

// trust notes since when the certificates are trusted as far as is known here.
func (k *Keeper) trust(pairs []*pair, now time.Time) {
	if k.trusted == nil {
		k.trusted = map[string]time.Time{}
	}
	for _, p := range pairs {
		if _, known := k.trusted[string(p.certificate)]; !known {
			k.trusted[string(p.certificate)] = now
		}
	}
	maps.DeleteFunc(k.trusted, func(certificate string, _ time.Time) bool {
		return !slices.ContainsFunc(pairs, func(p *pair) bool { return string(p.certificate) == certificate })
	})
}

// serve makes new connections get the certificate of p.
func (k *Keeper) serve(ctx context.Context, p *pair) error {
	certificate, err := p.tls()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.serving == nil || !bytes.Equal(k.serving.Certificate[0], certificate.Certificate[0]) {
		log.FromContext(ctx).Info("Serving webhooks with another certificate", "notAfter", p.leaf.NotAfter)
	}
	k.serving = certificate
	return nil
}
