package imports

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// sdks are the modules that come with a cloud, by the build tag that leaves it out of the manager.
var sdks = map[string]string{
	"without_aws": "github.com/aws/",
}

// TestCloudsCanBeLeftOut: by default the manager has every cloud, and with a tag nothing of that cloud's SDK.
func TestCloudsCanBeLeftOut(t *testing.T) {
	linked := func(tags string) []string {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, "./cmd/manager")
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("listing the manager's packages with the tag %q: %v", tags, err)
		}
		var all []string
		for line := range bytes.Lines(out) {
			all = append(all, strings.TrimSpace(string(line)))
		}
		return all
	}
	all := linked("")
	for tag, sdk := range sdks {
		of := func(path string) bool { return strings.HasPrefix(path, sdk) }
		cloud := module + "/cloud/" + strings.TrimPrefix(tag, "without_")
		if !slices.ContainsFunc(all, of) || !slices.Contains(all, cloud) {
			t.Errorf("the manager is not linked with %s and %s", cloud, sdk)
		}
		without := linked(tag)
		if i := slices.IndexFunc(without, of); i >= 0 || slices.Contains(without, cloud) {
			t.Errorf("with the tag %s the manager is still linked with %s, or with %s", tag, cloud, sdk)
		}
	}
}
