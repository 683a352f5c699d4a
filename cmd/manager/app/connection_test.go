package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
)

// TestReach: what the manager does about an API server that is away, late, of another cluster or bare.
func TestReach(t *testing.T) {
	const host = "http://192.0.2.1"
	json := func(w http.ResponseWriter, code int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
	const version = `{"gitVersion":"v1.37.2"}`
	const notFound = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`

	cases := map[string]struct {
		reason  string
		handler http.HandlerFunc // nil: nobody listens
		custom  bool
		want    string
		refused []string
		// quick: it must not have waited.
		quick bool
	}{
		"Away": {reason: "the address and what to check are named", refused: []string{host, "kubeconfig", "refused"}},
		"Late": {
			reason: "it is waited for",
			handler: func() http.HandlerFunc {
				var n atomic.Int32
				return func(w http.ResponseWriter, _ *http.Request) {
					if n.Add(1) == 1 {
						json(w, http.StatusServiceUnavailable, `{}`)
						return
					}
					json(w, http.StatusOK, version)
				}
			}(),
			want: "v1.37.2",
		},
		"WrongCredentials": {
			reason: "waiting does not mend them",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				json(w, http.StatusUnauthorized, `{"kind":"Status","apiVersion":"v1","reason":"Unauthorized","code":401}`)
			},
			refused: []string{"kubeconfig"}, quick: true,
		},
		"NoCustomResources": {
			reason: "what to apply is named",
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/version" {
					json(w, http.StatusOK, version)
					return
				}
				json(w, http.StatusNotFound, notFound)
			},
			custom: true, refused: []string{"endpointselectors and loadbalancerclasses and loadbalancerrecords", "config/crd"},
		},
		"HalfOfThem": {
			reason: "only what is missing is named",
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/version" {
					json(w, http.StatusOK, version)
					return
				}
				json(w, http.StatusOK, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"fairlead.dev/v1alpha1","resources":[{"name":"endpointselectors"},{"name":"loadbalancerclasses"}]}`)
			},
			custom: true, refused: []string{"CustomResourceDefinitions loadbalancerrecords and nodeportpools of"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now() // virtual time
				got, err := reach(t.Context(), &rest.Config{Host: host, Transport: roundTripper(tc.handler)}, tc.custom, giveUpAfter)
				if got != tc.want {
					t.Errorf("version %q, want %q", got, tc.want)
				}
				if (err == nil) != (tc.refused == nil) {
					t.Fatalf("reach: %v (%s)", err, tc.reason)
				}
				for _, word := range tc.refused {
					if !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\n") {
						t.Errorf("%q does not say %q on one line: %s", err, word, tc.reason)
					}
				}
				if took := time.Since(begin); tc.quick && took > 0 {
					t.Errorf("took %s: %s", took, tc.reason)
				}
			})
		})
	}
}

// roundTripper has a handler answer; where it is nil, nobody listens.
type roundTripper http.HandlerFunc

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	if r == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	answer := httptest.NewRecorder()
	r(answer, request)
	return answer.Result(), nil
}

// TestReachOtherCA: waiting does not mend a certificate that nobody trusts.
func TestReachOtherCA(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := reach(t.Context(), &rest.Config{Host: server.URL}, false, 2*time.Minute); err == nil || !strings.Contains(err.Error(), "cannot be trusted") {
		t.Errorf("reach: %v", err)
	}
}

func TestReachStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reach(ctx, &rest.Config{Host: "http://127.0.0.1:1"}, false, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("reach after its context ended: %v", err)
	}
}
