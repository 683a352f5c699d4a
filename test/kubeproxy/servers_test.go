package kubeproxy

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// answer is what a server says, as far as it can be the same twice.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

var timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)

func ask(url string) (answer, error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	resp.Header.Del("Date")
	resp.Header.Del("Content-Length")
	resp.Header.Del("Vary") // of /metrics in newer versions of the Prometheus library
	if resp.Header.Get("Process-Start-Time-Unix") != "" {
		resp.Header.Set("Process-Start-Time-Unix", "SECONDS")
	}
	return answer{resp.StatusCode, resp.Header, timestamp.ReplaceAllString(string(body), "TIME")}, nil
}

const (
	health  = "http://127.0.0.1:10256"
	metrics = "http://127.0.0.1:10249"
)

// question is asked of both.
type question struct {
	url string
	// body says what of it must be equal; nil: all.
	body func(string) string
}

func nothing(string) string { return "" }

// questions by name. %d is the Service's healthCheckNodePort.
var questions = map[string]question{
	"Healthz":        {url: health + "/healthz"},
	"Livez":          {url: health + "/livez"},
	"HealthUnknown":  {url: health + "/unknown"},
	"MetricsHealthz": {url: metrics + "/healthz"},
	"ProxyMode":      {url: metrics + "/proxyMode"},
	// The media type depends on the scraper and the library; what is in it TestMetrics compares.
	"Metrics": {url: metrics + "/metrics", body: nothing},
	// kube-proxy fills in its defaults, the agent shows the file as it was read beside its own configuration.
	"Configz": {url: metrics + "/configz", body: func(body string) string {
		return regexp.MustCompile(`"kubeproxy\.config\.k8s\.io":\{"(apiVersion|kind)`).FindString(body)
	}},
	"Pprof":          {url: metrics + "/debug/pprof", body: nothing},
	"PprofIndex":     {url: metrics + "/debug/pprof/", body: nothing},
	"PprofCmdline":   {url: metrics + "/debug/pprof/symbol"},
	"MetricsUnknown": {url: metrics + "/unknown", body: nothing},
	"Service":        {url: "http://" + nodeAddress + ":%d/"},
	"ServicePath":    {url: "http://" + nodeAddress + ":%d/any/path"},
}

// situation is a state of the cluster in which all questions are asked.
type situation struct {
	name string
	make func(t *testing.T, c *cluster)
	// is tells by the answers that the proxy has seen it.
	is func(c *cluster) bool
}

func code(url string, want int) bool {
	got, err := ask(url)
	return err == nil && got.Status == want
}

var situations = []situation{
	{"Serving", func(t *testing.T, c *cluster) { c.endpoint(t, true); c.taint(t) }, func(c *cluster) bool {
		return code(health+"/healthz", 200) && code(metrics+"/healthz", 200) && code(c.healthCheck(), 200) && c.synced()
	}},
	{"NoEndpoint", func(t *testing.T, c *cluster) { c.endpoint(t, false) }, func(c *cluster) bool { return code(c.healthCheck(), 503) }},
	{"Tainted", func(t *testing.T, c *cluster) {
		c.taint(t, corev1.Taint{Key: "ToBeDeletedByClusterAutoscaler", Value: "1", Effect: corev1.TaintEffectNoSchedule})
	}, func(*cluster) bool { return code(health+"/healthz", 503) }},
}

// record takes a proxy through all situations and notes the answers, and in the end what it measures.
func (c *cluster) record(t *testing.T, name string, start func(t *testing.T) (stop func())) (map[string]answer, string) {
	t.Helper()
	stop := start(t)
	defer stop()
	answers := map[string]answer{}
	for _, s := range situations {
		s.make(t, c)
		eventually(t, fmt.Sprintf("%s in situation %s", name, s.name), func() bool { return s.is(c) })
		for id, q := range questions {
			url := q.url
			if strings.Contains(url, "%d") {
				url = fmt.Sprintf(url, c.healthPort)
			}
			got, err := ask(url)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, id, err)
			}
			if q.body != nil {
				got.Body = q.body(got.Body)
			}
			answers[s.name+"/"+id] = got
		}
	}
	scraped, err := http.Get(metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = scraped.Body.Close() }()
	text, err := io.ReadAll(scraped.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answers, string(text)
}

// missing are metrics under kube-proxy's name that need not be there, in ours or in kube-proxy.
var missing = map[string]string{
	"kubeproxy_conntrack_reconciler_deleted_entries_total": "flows may not have been looked at yet",
	"kubeproxy_conntrack_reconciler_sync_duration_seconds": "flows may not have been looked at yet",
	"rest_client_request_duration_seconds":                 "it counts requests that are no watches, and the agent may have none",
}

// compared says which metrics are kube-proxy's own, or in dashboards for it.
func compared(name string) bool {
	return strings.HasPrefix(name, "kubeproxy_") || name == "rest_client_requests_total" || name == "rest_client_request_duration_seconds" ||
		name == "process_resident_memory_bytes" || name == "process_cpu_seconds_total" || name == "go_goroutines"
}

// TestServers: load balancers, probes, scrapers and people find what they found with kube-proxy.
func TestServers(t *testing.T) {
	c := newCluster(t)
	theirs, theirText := c.record(t, "kube-proxy", c.startKubeProxy)
	ours, ourText := c.record(t, "node-agent", c.startNodeAgent)
	for id, want := range theirs {
		t.Run(id, func(t *testing.T) {
			if diff := cmp.Diff(want, ours[id]); diff != "" {
				t.Errorf("(-kube-proxy +node-agent):\n%s", diff)
			}
		})
	}
	t.Run("MetricFamilies", func(t *testing.T) {
		want, got := families(theirText), families(ourText)
		if len(want) < 15 {
			t.Fatalf("kube-proxy has only %d metrics to compare:\n%s", len(want), theirText)
		}
		for name, family := range want {
			mine, ok := got[name]
			if _, optional := missing[name]; optional && !ok {
				continue
			}
			if diff := cmp.Diff(family, mine); diff != "" {
				t.Errorf("%s (-kube-proxy +node-agent):\n%s", name, diff)
			}
		}
		for name := range got {
			_, ok := want[name]
			if _, optional := missing[name]; !ok && !optional {
				t.Errorf("%s is under kube-proxy's name, but kube-proxy has none", name)
			}
		}
	})
}

// family is what a dashboard relies on.
type family struct {
	Type string
	// Labels are the names of labels, sorted, without le; Buckets their bounds in order.
	Labels  []string
	Buckets []string
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z0-9_:]+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"`)
)

// families reads Prometheus' text format.
func families(text string) map[string]family {
	found := map[string]family{}
	var name string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := typeLine.FindStringSubmatch(line); m != nil {
			name = m[1]
			if compared(name) {
				found[name] = family{Type: m[2]}
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		f, ok := found[name]
		if m == nil || !ok || !strings.HasPrefix(m[1], name) {
			continue
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			switch {
			case pair[1] == "le" && !slices.Contains(f.Buckets, pair[2]):
				f.Buckets = append(f.Buckets, pair[2])
			case pair[1] != "le" && !slices.Contains(f.Labels, pair[1]):
				f.Labels = append(f.Labels, pair[1])
			}
		}
		slices.Sort(f.Labels)
		found[name] = f
	}
	return found
}

func TestFamilies(t *testing.T) {
	got := families("# HELP kubeproxy_x X.\n# TYPE kubeproxy_x histogram\nkubeproxy_x_bucket{b=\"1\",a=\"\\\"\",le=\"0.5\"} 1\nkubeproxy_x_bucket{b=\"1\",a=\"2\",le=\"+Inf\"} 1\nkubeproxy_x_sum{a=\"2\",b=\"1\"} 1\n# TYPE other gauge\nother 1\n# TYPE kubeproxy_y gauge\nkubeproxy_y 1e+09\n")
	want := map[string]family{
		"kubeproxy_x": {Type: "histogram", Labels: []string{"a", "b"}, Buckets: []string{"0.5", "+Inf"}},
		"kubeproxy_y": {Type: "gauge"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
