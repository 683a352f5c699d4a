package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestLine(t *testing.T) {
	revision := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0a1b"}, {Key: "vcs.modified", Value: modified}}
	}
	tests := map[string]struct {
		reason   string
		settings []debug.BuildSetting
		want     string
	}{
		"Module":     {"installed from a module proxy: there is no repository", nil, "fairlead agent v1.2.3 go1.26.0"},
		"Repository": {"the revision is what a report of a bug needs", revision("false"), "fairlead agent v1.2.3 0a1b go1.26.0"},
		"Modified":   {"the revision alone would mislead", revision("true"), "fairlead agent v1.2.3 0a1b-dirty go1.26.0"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}, Settings: tc.settings}
			if got := line("agent", info); got != tc.want {
				t.Errorf("%q, want %q: %s", got, tc.want, tc.reason)
			}
		})
	}
}
