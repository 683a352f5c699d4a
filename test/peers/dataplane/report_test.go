package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// unit is a run whose figures all follow from one number.
func unit(size Size, peer string, run int, x float64) Unit {
	start := func() *Start {
		return &Start{Sync: x, Written: 2 * x, Packet: 3 * x, CPU: x, Resident: int64(x * 1e6), Peak: int64(x * 2e6), Losses: &Losses{Tried: 10, Failed: run}}
	}
	changes := []Change{{Event: x / 1000, Answer: x / 2000, Sync: x / 4000}}
	return Unit{
		Size: size, Run: run, Peer: peer, Cold: start(), Restart: start(), Kernel: int64(x * (1 << 20)),
		Equal:   &Interval{Changes: changes, Load: &Load{CPU: x / 100, Resident: int64(x * (1 << 20)), Changes: changes}},
		Traffic: &Traffic{BareConnections: 2000, BareStream: 4e9, DirectConnections: 1000, Connections: 1000 / x, DirectStream: 2e9, Stream: 2e9 / x, First: figures.Latency{Count: 1, P50: x / 1e6, P99: x / 5e5}},
	}
}

func TestRows(t *testing.T) {
	got := rows([]Unit{
		unit(usual, ours, 1, 3), unit(small, ours, 1, 1), unit(usual, ours, 2, 1), unit(usual, ours, 3, 2),
		{Size: usual, Peer: theirs, TimedOut: true}, unit(Size{500, 10}, ours, 1, 1),
	})
	var names []string
	for _, r := range got {
		names = append(names, r.size.String()+" "+r.peer)
	}
	if diff := cmp.Diff([]string{"1000x3 fairlead", "10000x3 kube-proxy", "10000x3 fairlead", "500x10 fairlead"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	sync := inStart(cold, func(s *Start) float64 { return s.Sync })
	for i, want := range []string{"1.0", "timed out", "2.0", "1.0"} {
		if text := got[i].show("%.1f", sync); text != want {
			t.Errorf("%s shows %s, want %s", names[i], text, want)
		}
	}
	mixed := row{timedOut: true, units: []Unit{unit(usual, theirs, 1, 3), {TimedOut: true}, {TimedOut: true}}}
	if text := mixed.show("%.1f", sync); text != "timed out" {
		t.Errorf("one run of three in time shows %s", text)
	}
	if text := (row{units: []Unit{{}}}).show("%.1f", sync); text != "-" {
		t.Errorf("what was not measured shows %s", text)
	}
	if n := len(got[2].changes(single(equal))); n != 3 {
		t.Errorf("%d changes of three runs, want 3", n)
	}
}

// promises are the musts that are printed, by whether they are kept.
func promises(units []Unit) (kept, broken sets.Set[string]) {
	var text strings.Builder
	mustTable(&text, rows(units))
	kept, broken = sets.New[string](), sets.New[string]()
	for line := range strings.Lines(text.String()) {
		cells := strings.Split(line, " | ")
		if len(cells) != 6 {
			continue
		}
		switch strings.TrimSuffix(cells[5], " |\n") {
		case "yes":
			kept.Insert(strings.TrimPrefix(cells[0], "| "))
		case "**no**":
			broken.Insert(strings.TrimPrefix(cells[0], "| "))
		}
	}
	return kept, broken
}

func TestPromises(t *testing.T) {
	good := []Unit{
		unit(small, theirs, 1, 1000), unit(small, ours, 1, 10), unit(usual, theirs, 1, 1000), unit(usual, ours, 1, 10),
		{Size: large, Peer: theirs, Run: 1, TimedOut: true}, unit(large, ours, 1, 3.9),
	}
	kept, broken := promises(good)
	if len(broken) > 0 || len(kept) != 14 {
		t.Errorf("kept %v, broken %v", kept.UnsortedList(), broken.UnsortedList())
	}
	// The same with a peer that is as fast, except where it timed out: 120 s are 31 times 3.9 s.
	bad := []Unit{
		unit(small, theirs, 1, 100), unit(small, ours, 1, 100), unit(usual, theirs, 1, 99), unit(usual, ours, 1, 100),
		{Size: large, Peer: theirs, Run: 1, TimedOut: true}, unit(large, ours, 1, 200),
	}
	_, broken = promises(bad)
	for _, want := range []string{
		"all rules at 10000x3", "all rules at 30000x3", "one change written, p99, at 1000x3", "one change written, p50, at 10000x3",
		"resident memory at 10000x3", "connections a second, of those without rules, at 10000x3", "one stream, of one without rules, at 10000x3",
		"one change written, p50, 30000x3 against 1000x3", "first packet, p50, 30000x3 against 1000x3",
	} {
		if !broken.Has(want) {
			t.Errorf("%q is not told to be broken; broken are %v", want, broken.UnsortedList())
		}
	}
}

func TestPrint(t *testing.T) {
	folder := t.TempDir()
	r := results{Programs: []string{"a", "b"}, CPUs: 2, Kernel: "Linux", Units: []Unit{
		unit(small, theirs, 1, 100), unit(small, ours, 1, 2), {Size: usual, Peer: theirs, Run: 1, TimedOut: true}, unit(usual, ours, 1, 2),
	}}
	var text strings.Builder
	if err := r.print(&text, folder); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1000x3 | kube-proxy | 100 | 300 | 100 | 95 | 191 | 100 | 200 | 1 of 10 | 100.0 |",
		"| 10000x3 | kube-proxy | timed out | timed out |",
		"| 1000x3 | fairlead | 100 ms, its default | 1 | 0.5 / 0.5 | 2 / 2 | 1 / 1 |",
		"| 1000x3 | kube-proxy | 1 s, its default | 0 | - | - | - |",
		"| 1000x3 | fairlead | 2000 | 1000 | 500 | 4.00 | 2.00 | 1.00 | 0 / 0 | 2 / 4 |",
		"| 1000x3 | fairlead | 100 ms, its default | 0.02 | 2 | 0 | 2 / 2 |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	svg, err := os.ReadFile(filepath.Join(folder, "dataplane-cold.svg"))
	if err != nil || !strings.Contains(string(svg), "timed out") || !strings.Contains(string(svg), ">10,000<") {
		t.Errorf("the plot of cold starts: %v\n%s", err, svg)
	}
	if err := (&results{}).print(&text, ""); err == nil {
		t.Error("no error for results without any")
	}
}

func TestAddresses(t *testing.T) {
	f := &fleet{size: Size{30000, 10}, moved: map[int]bool{}}
	seen := map[string]bool{}
	for service := range f.size.Services + 1 {
		for e := range f.size.Endpoints {
			for _, moved := range []bool{false, true} {
				seen[f.endpoint(service, e, moved).String()] = true
			}
		}
	}
	if want := 2 * 30001 * 10; len(seen) != want {
		t.Errorf("%d addresses of endpoints, want %d", len(seen), want)
	}
	if got := f.last(udpPort).String(); got != "10.97.117.48:53" {
		t.Errorf("the last Service is at %s", got)
	}
	before := f.newSlice(7).Endpoints[0].Addresses[0]
	f.moved[7] = true
	if after := f.newSlice(7).Endpoints; after[0].Addresses[0] == before || after[1].Addresses[0] != f.endpoint(7, 1, false).String() {
		t.Errorf("after the first endpoint has moved from %s: %v", before, after)
	}
}
