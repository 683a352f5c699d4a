// Package sysctl sets what a node's kernel must be set to for Services: forwarding, and the size and timeouts of the
// table of connections. It tells how full that table is, too. What the kernel does not let it write, as in a
// container or outside of the initial network namespace, it names with the command that would; nothing here ever
// stops a node from serving. It knows no Services.
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
)

// Root is where the kernel's settings are found in the agent's own namespaces.
const Root = "/proc/sys"

// Setting is one value that the kernel is to have.
type Setting struct {
	// Name is in the form of the program sysctl, with dots.
	Name  string
	Value int
	// AtLeast leaves a greater value alone.
	AtLeast bool
	// Why is what goes wrong without it.
	Why string
}

// Forwarding lets a node pass packets on to Pods, which may be on other nodes. For IPv6 see AdviseIPv6.
func Forwarding() []Setting {
	return []Setting{{Name: "net.ipv4.ip_forward", Value: 1, Why: "IPv4 packets do not reach Pods of other nodes"}}
}

// AdviseIPv6 says, to who asks for details, that IPv6 packets are not passed on. It does not turn that on: the kernel
// would ignore router advertisements, by which the node may have its own default route.
func AdviseIPv6(log logr.Logger, root string) {
	if value, err := Read(root, "net.ipv6.conf.all.forwarding"); err == nil && value == 0 {
		log.V(1).Info("IPv6 packets will not reach Pods of other nodes", "remedy", "sysctl -w net.ipv6.conf.all.forwarding=1")
	}
}

// Conntrack is what the table of connections is to be like. Zero values leave a setting alone.
type Conntrack struct {
	// MaxPerCore entries for each core, or Min if that is more, are to fit; 0 leaves the size alone, whatever Min is.
	MaxPerCore, Min int
	// Timeouts are counted in whole seconds.
	TCPEstablishedTimeout, TCPCloseWaitTimeout time.Duration
	UDPTimeout, UDPStreamTimeout               time.Duration
	TCPBeLiberal                               bool
}

const (
	conntrackMax   = "net.netfilter.nf_conntrack_max"
	conntrackCount = "net.netfilter.nf_conntrack_count"

	// maxByCores bounds what follows from the number of cores: a million entries are some 300 MB. As in kube-proxy.
	maxByCores = 1 << 20
	// perBucket is how many entries share a bucket of the hash table when it is full. As in kube-proxy.
	perBucket = 4
)

// Settings are those of a machine with so many cores. The table is never made smaller.
func (c Conntrack) Settings(cores int) []Setting {
	var settings []Setting
	add := func(name string, value int, atLeast bool, why string) {
		if value > 0 {
			settings = append(settings, Setting{Name: name, Value: value, AtLeast: atLeast, Why: why})
		}
	}
	if c.MaxPerCore > 0 {
		// Bounded before they are multiplied, so that absurd values do not wrap around.
		byCores := min(min(c.MaxPerCore, maxByCores)*min(cores, maxByCores), maxByCores)
		size := max(c.Min, byCores)
		add(conntrackMax, size, true, "new connections are dropped when the table is full")
		add("net.netfilter.nf_conntrack_buckets", size/perBucket, true, "a full table is slow")
	}
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	const timeouts = "connections are forgotten sooner or later than configured"
	add("net.netfilter.nf_conntrack_tcp_timeout_established", seconds(c.TCPEstablishedTimeout), false, timeouts)
	add("net.netfilter.nf_conntrack_tcp_timeout_close_wait", seconds(c.TCPCloseWaitTimeout), false, timeouts)
	add("net.netfilter.nf_conntrack_udp_timeout", seconds(c.UDPTimeout), false, timeouts)
	add("net.netfilter.nf_conntrack_udp_timeout_stream", seconds(c.UDPStreamTimeout), false, timeouts)
	if c.TCPBeLiberal {
		add("net.netfilter.nf_conntrack_tcp_be_liberal", 1, false, "packets outside of the TCP window are dropped")
	}
	return settings
}

// Apply writes what differs under root, in order, and says what it changed and, in one line with the command to run
// on the node, what it could not. What is right already is not written: that takes rights, too.
func Apply(log logr.Logger, root string, settings []Setting) {
	var failed, commands []string
	var first error
	for _, s := range settings {
		was, changed, err := s.apply(root)
		switch {
		case err != nil:
			first = errors.Join(first, err)
			commands = append(commands, fmt.Sprintf("%s=%d", s.Name, s.Value))
			if len(failed) == 0 || failed[len(failed)-1] != s.Why {
				failed = append(failed, s.Why)
			}
		case changed:
			log.Info("Changed a sysctl", "name", s.Name, "value", s.Value, "was", was)
		}
	}
	if first != nil {
		log.Info("Some sysctls are not as configured and cannot be changed from here", "remedy", "sysctl -w "+strings.Join(commands, " "),
			"else", strings.Join(failed, "; "), "error", strings.Join(strings.Split(first.Error(), "\n"), "; "))
	}
}

func (s Setting) apply(root string) (was int, changed bool, err error) {
	if was, err = Read(root, s.Name); err != nil {
		return 0, false, err
	}
	if was == s.Value || s.AtLeast && was > s.Value {
		return was, false, nil
	}
	if err := os.WriteFile(path(root, s.Name), []byte(strconv.Itoa(s.Value)), 0o644); err != nil {
		return was, false, fmt.Errorf("setting %s to %d: %w", s.Name, s.Value, err)
	}
	return was, true, nil
}

// Read returns a setting that is one number.
func Read(root, name string) (int, error) {
	text, err := os.ReadFile(path(root, name))
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return value, nil
}

func path(root, name string) string {
	return filepath.Join(root, strings.ReplaceAll(name, ".", "/"))
}
