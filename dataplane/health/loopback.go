package health

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
)

// Loopback is what is served on 127.0.0.1:10249, to people and programs on the node itself: none of it asks who is
// there.
type Loopback struct {
	// Mode is the answer of /proxyMode.
	Mode string
	// Configz are configurations by their API groups, served as JSON by /configz.
	Configz map[string]any
	// NodePorts serves /nodeports; nil: nobody does.
	NodePorts http.Handler
	// Profiling serves /debug/pprof/.
	Profiling bool
}

// MetricsHandler serves /metrics, /healthz (that the process answers at all) and what l has.
func (h *Health) MetricsHandler(l Loopback) (http.Handler, error) {
	configz, err := json.Marshal(l.Configz)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", h.metrics.handler())
	mux.HandleFunc("/healthz", text("ok"))
	mux.HandleFunc("/proxyMode", text(l.Mode))
	mux.HandleFunc("/configz", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, configz) })
	if l.NodePorts != nil {
		mux.Handle("/nodeports", l.NodePorts)
	}
	if l.Profiling {
		mux.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// A client that has gone cannot be told.
		_, _ = w.Write([]byte(body))
	}
}
