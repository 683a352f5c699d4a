package main

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
)

// repeatRefusal is how long a refusal that goes on is not told again: the watches are tried again every few seconds.
const repeatRefusal = 10 * time.Minute

// refusals logs what client-go could not do, each wording once in a while.
type refusals struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// log is a utilruntime.ErrorHandler. Requests that never reached the API server are not logged: dataplane/sync tells of
// those, once for all watches together.
func (r *refusals) log(ctx context.Context, err error, msg string, keysAndValues ...any) {
	if unreached := (*url.Error)(nil); errors.As(err, &unreached) || !r.isNews(err.Error(), time.Now()) {
		return
	}
	switch {
	case apierrors.IsUnauthorized(err):
		keysAndValues = append(keysAndValues, "remedy", "the API server does not know this token or certificate: renew the kubeconfig")
	case apierrors.IsForbidden(err):
		keysAndValues = append(keysAndValues, "remedy", "grant list and watch as config/rbac does")
	}
	klog.FromContext(ctx).Error(err, msg, keysAndValues...)
}

func (r *refusals) isNews(text string, now time.Time) bool {
	const most = 100 // a server may word each differently
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, told := r.told[text]; told && now.Sub(last) < repeatRefusal {
		return false
	}
	if r.told == nil || len(r.told) >= most {
		r.told = map[string]time.Time{}
	}
	r.told[text] = now
	return true
}
