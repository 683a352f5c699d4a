package apiserver

import (
	"net/http"
	"strings"
	"sync"
)

// Intercept has the requests of w.Config, and so of managers that Start runs later, go through between, which asks next
// or answers itself. It may be called more than once: the last one is asked first.
func (w *World) Intercept(between func(request *http.Request, next http.RoundTripper) (*http.Response, error)) {
	w.Config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) { return between(request, next) })
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// Requests counts requests by method and resource.
type Requests struct {
	mu    sync.Mutex
	count map[string]int
}

// Count has the requests of w.Config counted from now on.
func (w *World) Count() *Requests {
	r := &Requests{count: map[string]int{}}
	w.Intercept(func(request *http.Request, next http.RoundTripper) (*http.Response, error) {
		r.mu.Lock()
		r.count[request.Method+" "+Resource(request)]++
		r.mu.Unlock()
		return next.RoundTrip(request)
	})
	return r
}

// Of returns how many requests there were with a method, of a resource.
func (r *Requests) Of(method, resource string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[method+" "+resource]
}

// Resource returns the resource that a request is for, in plural, or nothing.
func Resource(request *http.Request) string {
	// /api/v1 or /apis/group/version, then perhaps /namespaces/name, then the resource.
	parts := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	switch {
	case len(parts) > 0 && parts[0] == "api":
		parts = parts[min(2, len(parts)):]
	case len(parts) > 0 && parts[0] == "apis":
		parts = parts[min(3, len(parts)):]
	default:
		return ""
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) == 0 {
		return ""
	}
	return parts[0]
}
