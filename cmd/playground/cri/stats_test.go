package cri

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	line := "12 (a) b) ) S 7 12 12 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 9 1000000 30 18446744073709551615 1 1"
	got, ok := parseStat(line)
	want := processUsage{parent: 7, cpu: 4 * time.Second, memory: 30 * uint64(os.Getpagesize())}
	if !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	if _, ok := parseStat("12 (short) S 1"); ok {
		t.Error("a short line was read")
	}
}

func TestUsageBelow(t *testing.T) {
	table := map[int]processUsage{
		1: {parent: 0, cpu: 100, memory: 100}, 2: {parent: 1, cpu: 1, memory: 10}, 3: {parent: 2, cpu: 2, memory: 20},
		4: {parent: 2, cpu: 3, memory: 30}, 5: {parent: 1, cpu: 1000, memory: 1000},
	}
	got, count := usageBelow(table, 2)
	if got.cpu != 6 || got.memory != 60 || count != 3 {
		t.Errorf("got %+v of %d processes", got, count)
	}
}
