package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPUWithChildren is the CPU time that the program has used so far, and its children that have ended. The clock has
// hundredths of a second.
func (p *Process) CPUWithChildren() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, fmt.Errorf("reading CPU time: %w", err)
	}
	return parseStat(string(text))
}

func parseStat(text string) (time.Duration, error) {
	// The second field is a name in brackets, in which anything may be.
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	const first, count = 14 - 3, 4 // utime, stime, cutime, cstime; the rest begins with the third field
	if end < 0 || len(fields) < first+count {
		return 0, errors.New("reading CPU time: /proc/PID/stat has too few fields")
	}
	var sum time.Duration
	for _, field := range fields[first : first+count] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading CPU time: %w", err)
		}
		sum += time.Duration(n) * userTick
	}
	return sum, nil
}

// ResidentWithChildren is the resident memory of the program and of the children that it has at the moment, in bytes.
func (p *Process) ResidentWithChildren() (int64, error) {
	sum, _, err := p.Memory()
	if err != nil {
		return 0, err
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
	if err != nil {
		return 0, fmt.Errorf("looking for children: %w", err)
	}
	for _, thread := range threads {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", p.PID, thread.Name()))
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(children)) {
			text, err := os.ReadFile("/proc/" + child + "/status")
			if err != nil {
				continue // it has ended
			}
			// One that has ended and waits for its parent has no memory.
			if resident, _, err := parseStatus(text); err == nil {
				sum += resident
			}
		}
	}
	return sum, nil
}
