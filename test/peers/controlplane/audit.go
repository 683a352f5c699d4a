package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Writes counts requests that change something, by "verb resource".
type Writes map[string]int

// Total is the number of all.
func (w Writes) Total() int {
	total := 0
	for _, n := range w {
		total += n
	}
	return total
}

// String lists the writes, those of slices first.
func (w Writes) String() string {
	order := func(what string) string {
		if strings.HasSuffix(what, " endpointslices") {
			return "0" + what
		}
		return "1" + what
	}
	keys := make([]string, 0, len(w))
	for what := range w {
		keys = append(keys, what)
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(order(a), order(b)) })
	parts := make([]string, len(keys))
	for i, what := range keys {
		parts[i] = fmt.Sprintf("%d %s", w[what], what)
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// AuditReader reads the API server's audit log while it grows.
type AuditReader struct {
	file string
	// read is how many bytes were read so far: up to the end of a line.
	read int64
}

// NewAuditReader reads a file, which need not be there yet, from its beginning.
func NewAuditReader(file string) *AuditReader { return &AuditReader{file: file} }

// Next returns the writes logged since it was last called, and how many of them the API server refused.
func (a *AuditReader) Next() (writes Writes, refused int, err error) {
	f, err := os.Open(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return Writes{}, 0, nil // it is made with the first line
	}
	if err != nil {
		return nil, 0, fmt.Errorf("opening the audit log: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(a.read, io.SeekStart); err != nil {
		return nil, 0, fmt.Errorf("reading the audit log: %w", err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the audit log: %w", err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be half written
	a.read += int64(len(text))
	return parseAudit(text)
}

// parseAudit counts the writes of an audit log, one JSON event on each line.
func parseAudit(text []byte) (writes Writes, refused int, err error) {
	writes = Writes{}
	for line := range bytes.Lines(text) {
		var event struct {
			Stage, Verb string
			ObjectRef   struct{ Resource, Subresource string }
			// ResponseStatus is that of the answer.
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, 0, fmt.Errorf("reading a line of the audit log: %w", err)
		}
		if event.Stage != "ResponseComplete" {
			continue
		}
		resource := event.ObjectRef.Resource
		if event.ObjectRef.Subresource != "" {
			resource += "/" + event.ObjectRef.Subresource
		}
		writes[event.Verb+" "+resource]++
		if event.ResponseStatus.Code >= 400 {
			refused++
		}
	}
	return writes, refused, nil
}
