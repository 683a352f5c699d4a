package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/peers/controlplane"
)

var limits = cloud.Limits{Reads: cloud.Limit{PerSecond: 20, Burst: 40}, Writes: cloud.Limit{PerSecond: 5, Burst: 1}}

func measured(peer, step string, reads, writes, written int, seconds float64) Measurement {
	return Measurement{Peer: peer, Step: step, Reads: reads, Writes: writes, Seconds: seconds, Least: least(limits, reads, writes), CPU: 1,
		API: controlplane.Writes{"create events": written}}
}

func TestLeast(t *testing.T) {
	for name, tc := range map[string]struct {
		reads, writes int
		want          float64
	}{
		"Nothing": {0, 0, 0},
		"Bursts":  {40, 1, 0},
		"Reads":   {60, 1, 1},
		"Writes":  {60, 11, 2},
	} {
		if got := least(limits, tc.reads, tc.writes); got != tc.want {
			t.Errorf("%s: %v s, want %v", name, got, tc.want)
		}
	}
}

func TestMediansAndTables(t *testing.T) {
	all := []Measurement{
		measured(ours, stepNode, 0, 5, 1000, 0.85), measured(theirs, stepNode, 1000, 1000, 1000, 200), measured(ours, stepRestart, 1, 0, 0, 2),
		measured(theirs, stepRestart, 1000, 0, 2000, 50), measured(ours, stepNode, 0, 5, 1000, 0.83), measured(ours, stepNode, 0, 5, 1000, 2),
	}
	var text strings.Builder
	taken := medians(all)
	overview(&text, taken)
	promised(&text, taken, 1000, limits)
	want := `|  | peer | calls that look | calls that change | refused | seconds | at least | written to the API server (Events) | CPU s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| the controller started again | service controller | 1000 | 0 | 0 | 50.00 | 48.00 | 2000 (2000) | 1.00 |
| the controller started again | fairlead | 1 | 0 | 0 | 2.00 | 0.00 | 0 (0) | 1.00 |
| one node added | service controller | 1000 | 1000 | 0 | 200.00 | 199.80 | 1000 (1000) | 1.00 |
| one node added | fairlead | 0 | 5 | 0 | 0.85 | 0.80 | 1000 (1000) | 1.00 |

| theirs : ours | calls | seconds | written to the API server | CPU |
| --- | --- | --- | --- | --- |
| the controller started again | 1000.0 | 25.0 | 2000 : 0 | 1.0 |
| one node added | 400.0 | 235.3 | 1.0 | 1.0 |

|  |  | promised | measured | kept |
| --- | --- | --- | --- | --- |
| the controller started again | calls that change the cloud | 0 | 0 | yes |
| the controller started again | written to the API server | 0 | 0 | yes |
| one node added | calls, looks included | ≤ 5: sets of targets / 200 | 5 | yes |
| one node added | seconds | ≤ 0.88: what the limits ask for these, and 10% | 0.85 | yes |

`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	text.Reset()
	promised(&text, []Measurement{measured(ours, stepRestart, 1, 1, 1, 1), measured(ours, stepNode, 1, 6, 0, 0.89)}, 1000, limits)
	if got := strings.Count(text.String(), "**no**"); got != 4 {
		t.Errorf("%d promises are broken, want 4:\n%s", got, text.String())
	}
}

// TestAccount counts over HTTP what is called, done and refused.
func TestAccount(t *testing.T) {
	a, err := serve(t.TempDir() + "/cloud")
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	client, err := fake.NewClient("unix://" + a.server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.idle(0); err == nil {
		t.Error("idle before anything was called")
	}
	set := fake.Object{Kind: fake.KindTargetSet, Name: "s", Fields: map[string]string{"protocol": "TCP", "port": "30080", "family": "IPv4"}}
	check, err := client.Create(t.Context(), fake.Object{Kind: fake.KindHealthCheck, Name: "h",
		Fields: map[string]string{"protocol": "TCP", "port": "30080", "path": "", "intervalSeconds": "1", "threshold": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	set.Refs = []string{check.ID}
	made, err := client.Create(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.reached(1, "172.30.0.1"); err == nil {
		t.Error("a set without targets is reached")
	}
	address := netip.MustParseAddr("172.30.0.1").String()
	if err := client.SyncTargets(t.Context(), []fake.TargetsRequest{{ID: made.ID, Add: []string{address}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete(t.Context(), "nothing"); err == nil {
		t.Fatal("something was deleted that is not there")
	}
	if err := a.reached(1, address); err != nil {
		t.Error(err)
	}
	if so := a.so(); so.reads != 1 || so.writes != 4 || so.refused != 1 || so.last.Before(so.lastWrite) {
		t.Errorf("counted %+v, want 1 read and 4 writes, 1 of them refused", so)
	}
	if err := a.empty(); err == nil {
		t.Error("empty with two objects")
	}
}

// TestResultsGoOn adds to what is in a file only what was measured the same way.
func TestResultsGoOn(t *testing.T) {
	file := t.TempDir() + "/results.json"
	first := results{CPUs: 2, Services: 10, Account: limits, Took: 1, Measurements: []Measurement{measured(ours, stepNode, 0, 5, 3, 0.85)}}
	if err := first.write(file); err != nil {
		t.Fatal(err)
	}
	same := results{CPUs: 2, Services: 10, Account: limits}
	other := results{CPUs: 2, Services: 11, Account: limits}
	for _, r := range []*results{&same, &other} {
		if err := r.read(file); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(first, same); diff != "" {
		t.Errorf("the same (-want +got):\n%s", diff)
	}
	if len(other.Measurements) != 0 || other.runs() != 0 || same.runs() != 1 {
		t.Errorf("of another size: %+v", other)
	}
	if err := (&results{}).read(t.TempDir() + "/none"); err != nil {
		t.Errorf("without a file: %v", err)
	}
}
