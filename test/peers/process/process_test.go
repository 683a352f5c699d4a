package process

import (
	"testing"
	"time"
)

func TestParseStatus(t *testing.T) {
	resident, peak, err := parseStatus([]byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"))
	if err != nil || resident != 1<<20 || peak != 2<<20 {
		t.Errorf("resident %d, peak %d, error %v", resident, peak, err)
	}
	if _, _, err := parseStatus([]byte("Name:\tx\n")); err == nil {
		t.Error("no error for a process without memory")
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("7 (a) b) S 1 7 7 0 -1 4194560 1000 2000 0 0 150 50 25 5 20 0 1 0 100")
	if want := 2300 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := parseStat("7 (a) S 1"); err == nil {
		t.Error("no error for a line that ends early")
	}
}
