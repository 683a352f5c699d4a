package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An excerpt is a block of code behind a comment that names the file it is from. A line "…" in it stands for lines that
// are left out.
var (
	excerpt   = regexp.MustCompile("(?m)^<!-- from ([^ ]+) -->\n```[a-z]*\n((?:.*\n)*?)```$")
	goBlock   = regexp.MustCompile("(?m)^```go$")
	goExcerpt = regexp.MustCompile("(?m)^<!-- from [^ ]+ -->\n```go$")
)

// differences lists the excerpts of a document that are not in their files.
func differences(text string, read func(path string) (string, error)) (found []string, excerpts int) {
	for _, m := range excerpt.FindAllStringSubmatch(text, -1) {
		excerpts++
		source, err := read(m[1])
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		rest := "\n" + source
		for piece := range strings.SplitSeq("\n"+m[2], "\n…\n") {
			piece = "\n" + strings.Trim(piece, "\n") + "\n"
			i := strings.Index(rest, piece)
			if i < 0 {
				found = append(found, fmt.Sprintf("%s has no such lines, in this order:%s", m[1], piece))
				break
			}
			rest = rest[i+len(piece)-1:]
		}
	}
	return found, excerpts
}

// TestExcerptsAreReal: the code on the page of the worked plugin is that of the plugin, all of it.
func TestExcerptsAreReal(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/cloud-plugins.md"))
	if err != nil {
		t.Fatal(err)
	}
	found, _ := differences(string(text), func(path string) (string, error) {
		source, err := os.ReadFile(filepath.Join(root, path))
		return string(source), err
	})
	for _, f := range found {
		t.Error(f)
	}
	blocks, excerpts := len(goBlock.FindAll(text, -1)), len(goExcerpt.FindAll(text, -1))
	if excerpts != blocks || blocks < 5 {
		t.Errorf("%d of %d blocks of Go say which file they are from", excerpts, blocks)
	}
}

func TestDifferencesAreFound(t *testing.T) {
	text := "<!-- from a.go -->\n```go\none\n…\nthree\n```\n\n<!-- from a.go -->\n```go\nthree\n…\none\n```\n\n" +
		"<!-- from a.go -->\n```go\non\n```\n\n<!-- from gone.go -->\n```go\none\n```\n"
	found, excerpts := differences(text, func(path string) (string, error) {
		if path != "a.go" {
			return "", os.ErrNotExist
		}
		return "one\ntwo\nthree\n", nil
	})
	if excerpts != 4 || len(found) != 3 {
		t.Errorf("found %q in %d excerpts, want the last three", found, excerpts)
	}
}
