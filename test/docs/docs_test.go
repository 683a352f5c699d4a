// Package docs holds the test that documents name only what exists: files they link to, targets of make, samples.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var (
	link    = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)
	target  = regexp.MustCompile("(?m)(?:^ {4}|`)make (?:-s )?([a-z][a-z0-9-]*)")
	defined = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.*##`)
	sample  = regexp.MustCompile("(?:config/samples/|`)([a-z0-9-]+\\.yaml)")
)

// problems lists what a document names and does not exist.
func problems(text, dir string, targets map[string]bool, exists func(path string) bool) []string {
	var found []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if !exists(filepath.Join(dir, m[1])) {
			found = append(found, "a link to "+m[1])
		}
	}
	for _, m := range target.FindAllStringSubmatch(text, -1) {
		if !targets[m[1]] {
			found = append(found, "make "+m[1])
		}
	}
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		if !exists(filepath.Join(root, "config/samples", m[1])) {
			found = append(found, "the sample "+m[1])
		}
	}
	return found
}

func TestDocumentsNameWhatExists(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range defined.FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	documents := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		documents++
		for _, p := range problems(string(text), filepath.Dir(path), targets, exists) {
			t.Errorf("%s names %s, which does not exist", path, p)
		}
		return nil
	})
	if err != nil || documents < 5 || len(targets) < 10 {
		t.Errorf("read %d documents and %d targets, error %v", documents, len(targets), err)
	}
}

func TestProblemsAreFound(t *testing.T) {
	text := "See [a](there.md#x), [b](gone.md), [c](https://example.com/x) and `make test`.\n\n    make nothing\n    kubectl apply -f config/samples/gone.yaml\n"
	got := problems(text, "docs", map[string]bool{"test": true}, func(path string) bool { return path == "docs/there.md" })
	if strings.Join(got, ", ") != "a link to gone.md, make nothing, the sample gone.yaml" {
		t.Errorf("found %q", got)
	}
}
