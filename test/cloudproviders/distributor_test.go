package cloudproviders

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDistributor builds the program of the package page and asks it which providers it has.
func TestDistributor(t *testing.T) {
	program := filepath.Join(t.TempDir(), "distributor")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./distributor").CombinedOutput(); err != nil { //nolint:gosec // fixed arguments
		t.Fatalf("building: %v:\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "--cloud-provider=moon").CombinedOutput() //nolint:gosec // built above
	if err == nil || !strings.Contains(string(out), "aws-classic") {
		t.Errorf("a provider that is not there: %v:\n%s", err, out)
	}
}

// TestPackagePage holds the page to the program that is built.
func TestPackagePage(t *testing.T) {
	program, err := os.ReadFile("distributor/main.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../cloud/adapter/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(program), "package main\n")
	for line := range strings.Lines(code) {
		if line != "\n" && !strings.Contains(string(page), "//\t"+line) {
			t.Errorf("the page lacks %q", line)
		}
	}
}
