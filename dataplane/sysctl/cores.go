package sysctl

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Cores is the number of the machine's processors. The Go runtime counts those that the agent may run on, which a CPU
// manager can make fewer, and the table of connections serves the whole machine.
func Cores() int {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err == nil {
		if n, err := countList(strings.TrimSpace(string(text))); err == nil && n > 0 {
			return n
		}
	}
	return runtime.NumCPU()
}

// countList counts a list in the kernel's form: 0-3,8,10-11.
func countList(list string) (int, error) {
	n := 0
	for _, item := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("reading %q: %w", item, err)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from {
			return 0, fmt.Errorf("reading %q: not a range of numbers", item)
		}
		n += int(to-from) + 1
	}
	return n, nil
}
