package app

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"testing/slogtest"

	"github.com/google/go-cmp/cmp"
)

// TestLazyHandler: it keeps slog's rules, and writes what the handler behind it would have written.
func TestLazyHandler(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return lazyHandler{next: slog.NewJSONHandler(&out, nil)}
	}, func(t *testing.T) map[string]any {
		got := map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got
	})

	write := func(wrap func(slog.Handler) slog.Handler) string {
		var out bytes.Buffer
		plain := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		log := slog.New(wrap(plain)).With("controller", "c", "name", "web").With("reconcileID", "1")
		log.Info("Wrote", "created", 1)
		log.WithGroup("g").With("a", 1).Info("Grouped", "b", 2)
		log.Debug("hidden")
		return out.String()
	}
	want := write(func(h slog.Handler) slog.Handler { return h })
	if diff := cmp.Diff(want, write(func(h slog.Handler) slog.Handler { return lazyHandler{next: h} })); diff != "" {
		t.Errorf("-plain +lazy:\n%s", diff)
	}
}

// BenchmarkLogger makes the logger of a pass that logs nothing.
func BenchmarkLogger(b *testing.B) {
	log := setLogger(io.Discard, "json", 0)
	for b.Loop() {
		log.WithValues("controller", "c", "namespace", "ns", "name", "web").WithValues("reconcileID", "1").V(5).Info("Reconciling")
	}
}
