package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestReach: what the manager does about an API server that is away, late, of another cluster or bare.
func TestReach(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
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
		tls     bool
		custom  bool
		want    string
		refused []string
		// quick: it must not have waited for its patience to end.
		quick bool
	}{
		"Away": {reason: "the address and what to check are named", refused: []string{refusing, "kubeconfig", "refused"}},
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
		"OtherCA": {
			reason:  "waiting does not mend it",
			handler: func(w http.ResponseWriter, _ *http.Request) { json(w, http.StatusOK, version) },
			tls:     true, refused: []string{"certificate"}, quick: true,
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
			host := refusing
			if tc.handler != nil {
				server := httptest.NewUnstartedServer(tc.handler)
				if tc.tls {
					server.StartTLS()
				} else {
					server.Start()
				}
				defer server.Close()
				host = server.URL
			}
			const patience = 2 * time.Second
			begin := time.Now()
			got, err := reach(t.Context(), &rest.Config{Host: host}, tc.custom, patience)
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
			if took := time.Since(begin); tc.quick && took >= patience {
				t.Errorf("took %s: %s", took, tc.reason)
			}
		})
	}
}

func TestReachStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reach(ctx, &rest.Config{Host: "http://127.0.0.1:1"}, false, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("reach after its context ended: %v", err)
	}
}
