package imports

import (
	"os/exec"
	"strings"
	"testing"
)

// sdks are what a build tag of cmd/manager leaves out together with its cloud.
var sdks = map[string][]string{
	"without_aws":   {"github.com/aws/...", module + "/cloud/aws/..."},
	"without_azure": {"github.com/Azure/...", module + "/cloud/azure/..."},
	"without_gcp":   {"google.golang.org/api/compute/...", "google.golang.org/api/option/...", "cloud.google.com/go/compute/metadata/...", module + "/cloud/gcp/..."},
}

// TestCloudsAreLeftOut: without a cloud the manager has nothing of its SDK, and with it the test would find it.
func TestCloudsAreLeftOut(t *testing.T) {
	for tag, forbidden := range sdks {
		for _, tags := range []string{"", tag} {
			cmd := exec.Command("go", "list", "-deps", "-tags="+tags, "./cmd/manager") //nolint:gosec // from the table above
			cmd.Dir = "../.."
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("listing what the manager imports with the tags %q: %v", tags, err)
			}
			found := 0
			for _, pattern := range forbidden {
				for dep := range strings.Lines(string(out)) {
					if matches(strings.TrimSpace(dep), []string{pattern}) {
						found++
						break
					}
				}
			}
			if want := map[bool]int{true: len(forbidden), false: 0}[tags == ""]; found != want {
				t.Errorf("with the tags %q the manager imports %d of %q, want %d", tags, found, forbidden, want)
			}
		}
	}
}
