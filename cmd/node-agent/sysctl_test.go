package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnsureForwarding(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "net", "ipv4", "ip_forward")
	if err := ensureForwarding(root); err == nil || !strings.Contains(err.Error(), "net.ipv4.ip_forward") {
		t.Errorf("a missing setting: error %v does not name it", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ensureForwarding(root); err != nil {
		t.Fatal(err)
	}
	if value, err := readSysctl(root, "net.ipv4.ip_forward"); err != nil || value != "1" {
		t.Errorf("now %q, %v; want 1", value, err)
	}
	// What is right is not written: in a container it could not be.
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := ensureForwarding(root); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a setting that is right was written again (%v)", err)
	}
}
