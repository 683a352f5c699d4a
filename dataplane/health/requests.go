package health

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientmetrics "k8s.io/client-go/tools/metrics"
)

// requests count what the agent asks of the API server, under the names that dashboards of all Kubernetes components
// use. client-go has one place for such counters in a process, so there is one set of them.
var requests = struct {
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	once    sync.Once
}{
	total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rest_client_requests_total", Help: "Requests to the API server by status code, method and host.",
	}, []string{"code", "method", "host"}),
	seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rest_client_request_duration_seconds", Help: "Time of requests to the API server by verb and host, in seconds.",
		Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60},
	}, []string{"verb", "host"}),
}

// registerRequests adds them to a registry. Clients made before the first call are counted, too.
func registerRequests(registry *prometheus.Registry) {
	requests.once.Do(func() {
		clientmetrics.Register(clientmetrics.RegisterOpts{RequestResult: resultMetric{}, RequestLatency: latencyMetric{}})
	})
	registry.MustRegister(requests.total, requests.seconds)
}

type resultMetric struct{}

func (resultMetric) Increment(_ context.Context, code, method, host string) {
	requests.total.WithLabelValues(code, method, host).Inc()
}

type latencyMetric struct{}

func (latencyMetric) Observe(_ context.Context, verb string, u url.URL, latency time.Duration) {
	requests.seconds.WithLabelValues(verb, u.Host).Observe(latency.Seconds())
}
