package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
)

// TestRefusals: what never reached the API server is told elsewhere; a refusal is told once, with what to do.
func TestRefusals(t *testing.T) {
	var lines []string
	ctx := klog.NewContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
	r := &refusals{}
	for range 3 {
		r.log(ctx, fmt.Errorf("listing: %w", &url.Error{Op: "Get", URL: "https://127.0.0.1:1", Err: io.EOF}), "Failed to watch")
		r.log(ctx, fmt.Errorf("listing: %w", apierrors.NewUnauthorized("no token")), "Failed to watch", "type", "Service")
		r.log(ctx, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", nil), "Failed to watch", "type", "Node")
		r.log(ctx, io.ErrUnexpectedEOF, "Failed to watch")
	}
	want := [][]string{{"no token", "Service", "kubeconfig"}, {"nodes", "Node", "config/rbac"}, {"unexpected EOF"}}
	if len(lines) != len(want) {
		t.Fatalf("logged %q, want %d lines", lines, len(want))
	}
	for i, words := range want {
		for _, word := range words {
			if !strings.Contains(lines[i], word) {
				t.Errorf("%q does not say %s", lines[i], word)
			}
		}
	}
	now := time.Now()
	if r.isNews("no token", now) != true || r.isNews("no token", now.Add(repeatRefusal-1)) || !r.isNews("no token", now.Add(repeatRefusal)) {
		t.Error("what goes on is to be told again, later")
	}
	for i := range 1000 {
		r.isNews(fmt.Sprint(i), now)
	}
	if len(r.told) > 100 {
		t.Errorf("%d wordings are remembered", len(r.told))
	}
}
