package sysctl

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// kernel is a folder that looks like /proc/sys.
func kernel(t *testing.T, values map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, value := range values {
		p := path(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func recorder() (logr.Logger, *[]string) {
	lines := &[]string{}
	return funcr.New(func(_, args string) { *lines = append(*lines, args) }, funcr.Options{}), lines
}

func TestConntrackSettings(t *testing.T) {
	const max, buckets = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets"
	tests := map[string]struct {
		reason string
		given  Conntrack
		cores  int
		want   map[string]int
	}{
		"Nothing":    {"zero leaves all alone", Conntrack{}, 8, map[string]int{}},
		"PerCore":    {"more cores than the least table is made for", Conntrack{MaxPerCore: 32768, Min: 131072}, 8, map[string]int{max: 262144, buckets: 65536}},
		"Min":        {"few cores", Conntrack{MaxPerCore: 32768, Min: 131072}, 2, map[string]int{max: 131072, buckets: 32768}},
		"NoPerCore":  {"maxPerCore 0 leaves the size alone whatever min is, as in kube-proxy", Conntrack{Min: 131072}, 2, map[string]int{}},
		"NoMin":      {"min may be 0", Conntrack{MaxPerCore: 1000}, 2, map[string]int{max: 2000, buckets: 500}},
		"Guide":      {"row 21 of the guide", Conntrack{MaxPerCore: 32768, Min: 524288}, 4, map[string]int{max: 524288, buckets: 131072}},
		"ManyCores":  {"a million is enough", Conntrack{MaxPerCore: 32768, Min: 131072}, 256, map[string]int{max: 1 << 20, buckets: 1 << 18}},
		"MinOver":    {"who asks for more than a million gets it", Conntrack{MaxPerCore: 32768, Min: 4 << 20}, 256, map[string]int{max: 4 << 20, buckets: 1 << 20}},
		"NoOverflow": {"absurd values do not wrap around", Conntrack{MaxPerCore: 1<<31 - 1, Min: 0}, 1 << 15, map[string]int{max: 1 << 20, buckets: 1 << 18}},
		"Timeouts": {"whole seconds; below one leaves alone", Conntrack{TCPEstablishedTimeout: 24 * time.Hour, TCPCloseWaitTimeout: time.Hour,
			UDPTimeout: 1500 * time.Millisecond, UDPStreamTimeout: 10 * time.Millisecond, TCPBeLiberal: true}, 2, map[string]int{
			"net.netfilter.nf_conntrack_tcp_timeout_established": 86400, "net.netfilter.nf_conntrack_tcp_timeout_close_wait": 3600,
			"net.netfilter.nf_conntrack_udp_timeout": 1, "net.netfilter.nf_conntrack_tcp_be_liberal": 1}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := map[string]int{}
			for _, s := range tc.given.Settings(tc.cores) {
				got[s.Name] = s.Value
				if s.Why == "" || s.AtLeast != (s.Name == max || s.Name == buckets) {
					t.Errorf("%+v: want a reason, and AtLeast for sizes alone", s)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestApply(t *testing.T) {
	root := kernel(t, map[string]string{"net.a": "1", "net.b": "5", "net.c": "9", "net.d": "7"})
	// A folder cannot be written to, by root neither.
	if err := os.MkdirAll(path(root, "net.folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path(root, "net.d"))
	if err != nil {
		t.Fatal(err)
	}
	log, lines := recorder()
	Apply(log, root, []Setting{
		{Name: "net.a", Value: 2, Why: "a"},
		{Name: "net.folder", Value: 3, Why: "folder why"},
		{Name: "net.b", Value: 6, AtLeast: true, Why: "b"},
		{Name: "net.c", Value: 6, AtLeast: true, Why: "c"},
		{Name: "net.missing", Value: 4, Why: "missing why"},
		{Name: "net.d", Value: 7, Why: "d"},
	})
	got := map[string]int{}
	for _, name := range []string{"net.a", "net.b", "net.c", "net.d"} {
		if got[name], err = Read(root, name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]int{"net.a": 2, "net.b": 6, "net.c": 9, "net.d": 7}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if after, err := os.Stat(path(root, "net.d")); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a setting that is right was written again (%v)", err)
	}
	if len(*lines) != 3 {
		t.Fatalf("log %q, want two changes and one line on all that failed", *lines)
	}
	for _, want := range []string{"sysctl -w net.folder=3 net.missing=4", "folder why; missing why", "net.missing"} {
		if !strings.Contains((*lines)[2], want) {
			t.Errorf("%q does not say %s", (*lines)[2], want)
		}
	}
	if strings.Contains((*lines)[2], `\n`) {
		t.Errorf("more than one line: %q", (*lines)[2])
	}
	Apply(log, root, []Setting{{Name: "net.a", Value: 2}})
	if len(*lines) != 3 {
		t.Errorf("log %q of a pass that changes nothing", (*lines)[3:])
	}
}

func TestCountList(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-3,8,10-11": 7} {
		if got, err := countList(list); err != nil || got != want {
			t.Errorf("%q counts %d, %v; want %d", list, got, err, want)
		}
	}
	for _, list := range []string{"", "a", "3-1", "1-", "0,,1"} {
		if got, err := countList(list); err == nil {
			t.Errorf("%q counts %d, want an error", list, got)
		}
	}
	if Cores() < 1 {
		t.Errorf("%d cores", Cores())
	}
}

func TestTable(t *testing.T) {
	root := kernel(t, map[string]string{conntrackCount: "12", conntrackMax: "262144"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewTable(root))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if diff := cmp.Diff(map[string]float64{"fairlead_node_conntrack_entries": 12, "fairlead_node_conntrack_limit": 262144}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFullness(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var f fullness
	log, lines := recorder()
	for i, step := range []struct {
		after   time.Duration
		entries int
		want    string // a word of the new line; empty: none
	}{
		{0, 79, ""},
		{time.Second, 80, "almost full"},
		{time.Second, 99, ""},
		{sayAgain, 85, "almost full"},
		{time.Second, 75, ""},
		{time.Second, 69, "room again"},
		{time.Second, 10, ""},
		{time.Second, 100, "almost full"},
	} {
		now = now.Add(step.after)
		before := len(*lines)
		f.look(log, now, step.entries, 100)
		said := strings.Join((*lines)[before:], "\n")
		if (step.want == "") != (said == "") || !strings.Contains(said, step.want) {
			t.Errorf("step %d, %d entries: said %q, want %q", i, step.entries, said, step.want)
		}
		if step.want == "almost full" && !strings.Contains(said, strconv.Itoa(step.entries)) {
			t.Errorf("step %d: %q does not say how many", i, said)
		}
	}
	before := len(*lines)
	f.look(log, now, 5, 0)
	if len(*lines) != before {
		t.Error("a table without a limit is mentioned")
	}
}

// TestInANamespace applies real settings to a network namespace of its own. There the timeouts are the namespace's and
// can be set; the size of the table is the machine's and cannot. (Main has moved the test, so nothing of the machine
// is touched.)
func TestInANamespace(t *testing.T) {
	nstest.New(t, "node")
	const established = "net.netfilter.nf_conntrack_tcp_timeout_established"
	if _, err := Read(Root, established); err != nil {
		t.Skipf("the kernel does not track connections here: %v; load nf_conntrack", err)
	}
	limit, err := Read(Root, conntrackMax)
	if err != nil {
		t.Fatal(err)
	}
	log, lines := recorder()
	Apply(log, Root, append(Forwarding(), Conntrack{MaxPerCore: 1, Min: limit + 4, TCPEstablishedTimeout: 1234 * time.Second}.Settings(1)...))
	for name, want := range map[string]int{established: 1234, "net.ipv4.ip_forward": 1, conntrackMax: limit} {
		if got, err := Read(Root, name); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", name, got, err, want)
		}
	}
	last := (*lines)[len(*lines)-1]
	if !strings.Contains(last, "sysctl -w "+conntrackMax+"="+strconv.Itoa(limit+4)) || strings.Contains(last, established) {
		t.Errorf("%q does not name the size, and it alone", last)
	}
	before := len(*lines)
	Apply(log, Root, append(Forwarding(), Conntrack{TCPEstablishedTimeout: 1234 * time.Second}.Settings(1)...))
	if len(*lines) != before {
		t.Errorf("what is right is mentioned: %q", (*lines)[before:])
	}
}

func TestMain(m *testing.M) { nstest.Main(m) }
