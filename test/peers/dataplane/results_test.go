package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestResume(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	fresh := func() *results {
		return &results{Programs: []string{"a", "b"}, CPUs: 2, Kernel: "Linux 6.18", Effort: effort{Changes: 7, Load: time.Second}, file: file}
	}
	first := fresh()
	if err := first.load(); err != nil {
		t.Fatalf("without a file: %v", err)
	}
	plan := planned{size: Size{1000, 3}, runs: 2}
	if !first.missing(plan, []string{theirs, ours}) {
		t.Error("nothing is missing before anything was measured")
	}
	for _, u := range []Unit{
		{Size: plan.size, Run: 1, Peer: theirs, TimedOut: true},
		{Size: plan.size, Run: 1, Peer: ours, Cold: &Start{Sync: 0.25, Losses: &Losses{Tried: 3}}, Equal: &Interval{Changes: []Change{{Event: 1}}}},
		{Size: plan.size, Run: 2, Peer: theirs},
	} {
		if err := first.add(u); err != nil {
			t.Fatal(err)
		}
	}
	second := fresh()
	if err := second.load(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(results{})); diff != "" {
		t.Errorf("-kept +read:\n%s", diff)
	}
	if !second.done(plan.size, 1, ours) || second.done(plan.size, 2, ours) || second.done(Size{1000, 1}, 1, ours) {
		t.Error("it does not know what is done")
	}
	if !second.missing(plan, []string{theirs, ours}) || second.missing(plan, []string{theirs}) {
		t.Error("it does not know what is missing")
	}
	other := fresh()
	other.Programs = []string{"a", "c"}
	if err := other.load(); err == nil || !strings.Contains(err.Error(), "-results") {
		t.Errorf("results of another program: error %v does not say what to do", err)
	}
}

// TestUnnamedResults: a look keeps nothing.
func TestUnnamedResults(t *testing.T) {
	t.Chdir(t.TempDir())
	var r results
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	if err := r.add(Unit{}); err != nil || len(r.Units) != 1 {
		t.Errorf("%d units, error %v", len(r.Units), err)
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 0 {
		t.Errorf("files %v, error %v", files, err)
	}
}

func TestParseMetrics(t *testing.T) {
	got, err := parseMetrics(strings.NewReader(`# HELP kubeproxy_sync_full_proxy_rules_duration_seconds [ALPHA] x
kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 9
kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 16.5
kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2
kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 99
kubeproxy_sync_partial_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.25
kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 4
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7e+09
`))
	want := syncMetrics{fullCount: 2, fullSum: 16.5, partialCount: 4, partialSum: 0.25, last: 1.7e9}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseMetrics(strings.NewReader("kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} soon\n")); err == nil {
		t.Error("no error for a value that is no number")
	}
}

func TestParseMeminfo(t *testing.T) {
	got, err := parseMeminfo(strings.NewReader("MemTotal: 99 kB\nSUnreclaim:   4 kB\nVmallocUsed:  2 kB\nPercpu: 1 kB\n"))
	if err != nil || got != 7<<10 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := parseMeminfo(strings.NewReader("SUnreclaim: 4 kB\n")); err == nil {
		t.Error("no error where lines are missing")
	}
}

func TestSummaryAndFine(t *testing.T) {
	changes := []Change{{Event: 0.003}, {Event: 0.001234}, {Event: 0.002}}
	if got := fine(summary(changes, toPacket)); got != "2 / 3" {
		t.Errorf("got %s", got)
	}
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 99.96: "100", 123.4: "123", 1234567: "1234567"} {
		if got := digits(v); got != want {
			t.Errorf("%g is %s, want %s", v, got, want)
		}
	}
}
