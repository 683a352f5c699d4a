package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
)

// ensureSysctls turns on what a node needs to pass packets on, under root (/proc/sys). Where it may not, as in a
// container with a read-only /proc/sys, it names the setting.
//
// IPv6 forwarding is only looked at: turning it on makes the kernel ignore router advertisements, by which the node
// may have its own default route.
func ensureSysctls(log logr.Logger, root string) {
	if err := ensureForwarding(root); err != nil {
		log.Error(err, "IPv4 packets will not reach Pods of other nodes", "remedy", "sysctl -w net.ipv4.ip_forward=1")
	}
	if value, err := readSysctl(root, "net.ipv6.conf.all.forwarding"); err == nil && value == "0" {
		log.V(1).Info("IPv6 packets will not reach Pods of other nodes", "remedy", "sysctl -w net.ipv6.conf.all.forwarding=1")
	}
}

// ensureForwarding writes 1 unless it is there already: writing what is there needs rights too.
func ensureForwarding(root string) error {
	const name = "net.ipv4.ip_forward"
	value, err := readSysctl(root, name)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if value == "1" {
		return nil
	}
	if err := os.WriteFile(sysctlPath(root, name), []byte("1"), 0o644); err != nil {
		return fmt.Errorf("setting %s to 1: %w", name, err)
	}
	return nil
}

func readSysctl(root, name string) (string, error) {
	value, err := os.ReadFile(sysctlPath(root, name))
	return strings.TrimSpace(string(value)), err
}

func sysctlPath(root, name string) string {
	return filepath.Join(root, strings.ReplaceAll(name, ".", "/"))
}
