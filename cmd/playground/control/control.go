// Package control is what the launcher, outside, and the first process, inside, say to each other: the
// configuration that the launcher hands over, the events that come back, and requests over a unix socket in the
// run folder, which crosses network namespaces because it is a path.
package control

import (
	"encoding/json"
	"io"
	"sync"
)

// Descriptors of the first process, beside the standard three.
const (
	// ConfigFD is a pipe that carries a Config and then stays open as long as the launcher lives.
	ConfigFD = 3
	// EventsFD is a pipe for Events.
	EventsFD = 4
)

// Config is what the first process must know. All paths are absolute.
type Config struct {
	// RunDir is the run folder; Assets holds the programs of the control plane, Bin those of Fairlead, Images root
	// filesystems by image name (empty: none), Manifests the kustomize folder config.
	RunDir, Assets, Bin, Images, Manifests string
	// Keep are further folders that must stay visible inside.
	Keep []string
	// APIPort is the loopback port outside that leads to the API server.
	APIPort int
	// Demo says whether the demonstration is deployed.
	Demo bool
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	// StepDone: Name is done and took Seconds.
	StepDone EventKind = "step"
	// Notice: something that the user should know happened; Text says what.
	Notice EventKind = "notice"
	// Ready: everything runs; Services are filled in.
	Ready EventKind = "ready"
	// Traffic: new figures of the table.
	Traffic EventKind = "traffic"
	// Failed: Text says why; the first process is about to exit.
	Failed EventKind = "failed"
)

// Event is one thing that the first process tells.
type Event struct {
	Kind     EventKind
	Name     string   `json:",omitempty"`
	Seconds  float64  `json:",omitempty"`
	Text     string   `json:",omitempty"`
	Services []Target `json:",omitempty"`
	Table    []Row    `json:",omitempty"`
}

// Target is an address inside that can be reached from outside: the launcher gives it a loopback port.
type Target struct {
	// Label is what people read, such as "LoadBalancer".
	Label string
	// Namespace is where the connection is made, Address host and port.
	Namespace, Address string
}

// Row is one line of the traffic table.
type Row struct {
	// Client is who connects, Via the kind of address, Address host and port.
	Client, Via, Address string
	// Endpoints counts the answers by the Pod that gave them.
	Endpoints []Endpoint
	// Seen are the client addresses that the Pods saw, sorted.
	Seen []string
	// Failed counts connections without an answer, LastError says why the last one failed.
	Failed    int
	LastError string `json:",omitempty"`
}

// Endpoint is one Pod's share of a row.
type Endpoint struct {
	Pod, Node, Zone string
	Count           int
}

// EventWriter sends events; it may be used by several goroutines.
type EventWriter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

// NewEventWriter sends to w.
func NewEventWriter(w io.Writer) *EventWriter { return &EventWriter{enc: json.NewEncoder(w)} }

// Send sends one event. An error means that the launcher is gone, and this process with it in a moment.
func (w *EventWriter) Send(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.enc.Encode(e)
}
