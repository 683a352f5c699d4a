package certificate

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDamage: what strangers do to the Secret, or to the configuration, is made good without anybody's help.
func TestDamage(t *testing.T) {
	w := newWorld(t, time.Now())
	// It is theirs from the beginning, and not of the type that we would make.
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.secret.Namespace, Name: w.secret.Name}, StringData: map[string]string{"theirs": "x"}}
	w.Make(secret)
	k := w.replica()
	k.Client, k.Reader = nil, nil
	w.Start(w.Alone(), k.SetupWithManager)
	other := newest(t, nil, []string{"127.0.0.1"}, time.Now())[0]
	data := func(values map[string][]byte) func() {
		return func() {
			secret.Data = values
			w.Must(w.Update(t.Context(), secret))
		}
	}
	trust := func(bundle []byte) func() {
		return func() {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.hooks), w.hooks))
			for i := range w.hooks.Webhooks {
				w.hooks.Webhooks[i].ClientConfig.CABundle = bundle
			}
			w.Must(w.Update(t.Context(), w.hooks))
		}
	}
	current := &pair{}
	steps := []struct {
		name   string
		damage func()
		// keeps says that the certificate stays the one that it was, has that it is this one.
		keeps bool
		has   *pair
	}{
		{name: "Begin", damage: func() {}},
		{name: "Garbage", damage: data(map[string][]byte{corev1.TLSCertKey: []byte("garbage"), corev1.TLSPrivateKeyKey: []byte("garbage")})},
		{name: "Empty", damage: data(map[string][]byte{corev1.TLSCertKey: {}, corev1.TLSPrivateKeyKey: {}})},
		{name: "Nothing", damage: data(nil)},
		{name: "OtherKey", damage: func() {
			data(map[string][]byte{corev1.TLSCertKey: current.certificate, corev1.TLSPrivateKeyKey: other.key})()
		}},
		{name: "Chain", damage: func() {
			data(map[string][]byte{corev1.TLSCertKey: slices.Concat(current.certificate, other.certificate), corev1.TLSPrivateKeyKey: current.key})()
		}},
		{name: "Untrusted", damage: trust(nil), keeps: true},
		{name: "OtherTrusted", damage: trust(other.certificate), keeps: true},
		{name: "Theirs", damage: data(map[string][]byte{corev1.TLSCertKey: other.certificate, corev1.TLSPrivateKeyKey: other.key}), has: other},
	}
	for _, step := range steps {
		w.Must(w.Get(t.Context(), w.secret, secret))
		step.damage()
		w.Eventually(func() error {
			if err := w.Get(t.Context(), w.secret, secret); err != nil {
				return err
			}
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.hooks), w.hooks))
			pairs := pairsOf(t.Context(), secret)
			if len(pairs) != 1 {
				return fmt.Errorf("%s: the Secret has %d certificates", step.name, len(pairs))
			}
			now := pairs[0]
			if same := slices.Equal(now.certificate, current.certificate); same != step.keeps {
				return fmt.Errorf("%s: the certificate stayed: %t", step.name, same)
			}
			if step.has != nil && !slices.Equal(now.certificate, step.has.certificate) {
				return fmt.Errorf("%s: a certificate that is as good as ours was not taken", step.name)
			}
			for _, hook := range w.hooks.Webhooks {
				if !slices.Equal(hook.ClientConfig.CABundle, now.certificate) {
					return fmt.Errorf("%s: webhook %s does not trust it", step.name, hook.Name)
				}
			}
			if served, err := k.GetCertificate(nil); err != nil || !slices.Equal(served.Certificate[0], now.leaf.Raw) {
				return errors.Join(err, fmt.Errorf("%s: another is served", step.name))
			}
			return nil
		})
		w.settle()
		current = pairsOf(t.Context(), secret)[0]
	}
}
