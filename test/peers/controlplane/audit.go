package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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

// auditLog reads the API server's audit log while it grows.
type auditLog struct {
	file string
	// read is how many bytes were read so far: up to the end of a line.
	read int64
}

func newAuditLog(file string) *auditLog { return &auditLog{file: file} }

// next returns the writes logged since it was last called, and how many of them the API server refused.
func (a *auditLog) next() (writes Writes, refused int, err error) {
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
