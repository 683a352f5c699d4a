// Package buildinfo says what a program of this module was built from, for --version. It is what the Go linker has
// recorded; nothing is set at build time.
package buildinfo

import (
	"runtime/debug"
	"strings"
)

// Line names a program, the module's version, for a build from a repository its revision ("-dirty" behind it where files
// had been changed), and the version of Go.
func Line(program string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "fairlead " + program + " (no build information)"
	}
	return line(program, info)
}

func line(program string, info *debug.BuildInfo) string {
	parts := []string{"fairlead", program, info.Main.Version}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if revision := settings["vcs.revision"]; revision != "" {
		if settings["vcs.modified"] == "true" {
			revision += "-dirty"
		}
		parts = append(parts, revision)
	}
	return strings.Join(append(parts, info.GoVersion), " ")
}
