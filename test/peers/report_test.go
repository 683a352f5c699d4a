package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/figures"
)

// measured is one run of a peer.
func measured(run int, peer, workload string, updates int, cpu, p99 float64) Measurement {
	return Measurement{
		Run: run, Peer: peer, Group: "1x1000", Workload: workload, Knob: "default", Slices: updates,
		Writes: controlplane.Writes{"update endpointslices": updates, "create endpoints": 1}, CPU: cpu, Resident: 50 << 20, Peak: 60 << 20,
		Status: figures.Latency{Count: 3, P50: p99 / 2, P99: p99, Max: p99}, Others: 0.25,
	}
}

func TestMediansOfEachFigure(t *testing.T) {
	got := medians([]Measurement{
		measured(1, ours, rolling, 10, 3, 0.1), measured(1, theirs, rolling, 20, 9, 0.2),
		measured(2, ours, rolling, 30, 1, 0.3), measured(3, ours, rolling, 20, 2, 0.2),
	})
	want := []Measurement{measured(0, ours, rolling, 20, 2, 0.2), measured(0, theirs, rolling, 20, 9, 0.2)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTables(t *testing.T) {
	all := []Measurement{
		measured(1, theirs, scaleDown, 10, 3, 0.1), measured(1, ours, scaleDown, 2, 0.5, 0.1),
		measured(1, theirs, createAll, 10, 3, 0.1), measured(1, ours, createAll, 12, 1, 0.06),
	}
	var text strings.Builder
	overview(&text, all[:1])
	if musts(&text, all, 1) {
		t.Error("all promises are kept, want that some are not")
	}
	want := `| workload | peer | slices created / updated / deleted | Endpoints created / updated / deleted | other writes | writes | CPU s | resident | peak | status p50 / p99 / max ms | deletion p50 / p99 / max ms | slices left | Pods wrong | CPU of other programs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1x1000, scale down | kube-controller-manager | 0 / 10 / 0 | 1 / 0 / 0 | 0 | 11 | 3.00 | 50 MiB | 60 MiB | 50 / 100 / 100 | - | 10 | 0 | 25% |

| workload |  | kube-controller-manager | fairlead | ratio | promised | kept |
| --- | --- | --- | --- | --- | --- | --- |
| 1x1000, scale down | CPU | 3.00 s | 0.50 s | 0.17 | ≤ 0.33 | yes |
| 1x1000, scale down | writes | 11 | 3 | 0.27 | ≤ 1.00 | yes |
| 1x1000, scale down | resident memory | 50 MiB | 50 MiB | 1.00 | ≤ 1.00 | yes |
| 1x1000, scale down | slices left | 10 | 2 | - | ≤ 2 | yes |
| 1x1000, create all | CPU | 3.00 s | 1.00 s | 0.33 | ≤ 0.33 | yes |
| 1x1000, create all | writes | 11 | 13 | 1.18 | ≤ 1.00 | **no** |
| 1x1000, create all | resident memory | 50 MiB | 50 MiB | 1.00 | ≤ 1.00 | yes |
| 1x1000, create all | p50 | 50 ms | 30 ms | 0.60 | ≤ 0.50 | **no** |
| 1x1000, create all | p99 | 100 ms | 60 ms | 0.60 | ≤ 0.50 | **no** |

`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !musts(&text, all[:2], 1) {
		t.Error("a promise is not kept, want that all are")
	}
}

func TestCurves(t *testing.T) {
	at := func(peer, knob string, updates int, p99 float64) Measurement {
		m := measured(1, peer, flips, updates, 1, p99)
		m.Knob = knob
		return m
	}
	above := []Measurement{at(theirs, "0s", 100, 0.1), at(theirs, "1s", 20, 1)}
	var text strings.Builder
	if !curves(&text, append([]Measurement{at(ours, "0s", 90, 0.1), at(ours, "1s", 10, 0.9)}, above...)) {
		t.Errorf("want that ours lies below:\n%s", text.String())
	}
	if curves(&text, append([]Measurement{at(ours, "0s", 110, 0.05), at(ours, "1s", 10, 0.9)}, above...)) {
		t.Errorf("want that one point of theirs is not beaten:\n%s", text.String())
	}
}
