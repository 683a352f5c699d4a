package sync

import (
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// sayAgain is how often an outage that lasts is mentioned.
const sayAgain = time.Minute

// checkAddress is the remedy of most agents that never reach it: a Pod's default is the cluster IP that kube-proxy programmed.
const checkAddress = "the server must be an address that nodes reach without a proxy, no cluster IP: set it in the ConfigMap " +
	"fairlead-api-server (docs/install.md) or in the kubeconfig, and start the agent again"

// outage says, once when it begins and then rarely, that the API server cannot be reached, and that it can be
// again. The reflectors by themselves say it for each list and watch, in words that alarm more than they explain.
type outage struct {
	server string
	log    logr.Logger

	mu    sync.Mutex
	since time.Time // zero: reachable as far as we know
	said  time.Time
	// reached is false until the first answer: until then the address may be wrong.
	reached bool
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (o *outage) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if r.Context().Err() == nil {
			o.note(time.Now(), err)
		}
		return resp, err
	})
}

func (o *outage) note(now time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.reached = true
		if !o.since.IsZero() {
			o.log.Info("Reached the API server again", "server", o.server, "after", now.Sub(o.since).Round(time.Second))
			o.since = time.Time{}
		}
		return
	}
	if o.since.IsZero() {
		o.since = now
		o.said = time.Time{}
	}
	if now.Sub(o.said) >= sayAgain {
		o.said = now
		values := []any{"server", o.server}
		if !o.reached {
			values = append(values, "remedy", checkAddress)
		}
		o.log.Error(err, "Cannot reach the API server, keeping the rules as they are and trying on", values...)
	}
}
