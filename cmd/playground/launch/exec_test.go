package launch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindCommand: PATH comes first, then the folders in their order; what is nowhere is told by the name that was asked for.
func TestFindCommand(t *testing.T) {
	dir := t.TempDir()
	program := func(folder, name string) string {
		path := filepath.Join(dir, folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin, sbin := filepath.Join(dir, "bin"), filepath.Join(dir, "sbin")
	t.Setenv("PATH", filepath.Join(dir, "path"))
	inPath, inBin, inSbin := program("path", "a"), program("bin", "b"), program("sbin", "c")
	program("bin", "a")
	program("sbin", "b")
	for name, want := range map[string]string{"a": inPath, "b": inBin, "c": inSbin, inSbin: inSbin} {
		if got, err := findCommand(name, bin, sbin); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"d", "./c"} {
		got, err := findCommand(name, bin, sbin)
		if err == nil {
			t.Errorf("%s: found %q", name, got)
		} else if text := err.Error(); !strings.Contains(text, `"`+name+`"`) || strings.Contains(text, dir) || strings.Contains(text, "\n") {
			t.Errorf("%s: the error names something else, or takes several lines: %q", name, text)
		}
	}
}
