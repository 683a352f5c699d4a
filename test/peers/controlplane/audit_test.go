package controlplane

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAuditLogWhileItGrows(t *testing.T) {
	log := NewAuditReader(filepath.Join(t.TempDir(), "audit.log"))
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(log.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	line := func(stage, verb, resource, subresource, code string) string {
		return `{"kind":"Event","stage":"` + stage + `","verb":"` + verb + `","user":{"username":"fairlead-manager"},` +
			`"objectRef":{"resource":"` + resource + `","subresource":"` + subresource + `"},"responseStatus":{"code":` + code + "}}\n"
	}
	expect := func(want Writes, wantRefused int) {
		t.Helper()
		got, refused, err := log.Next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || refused != wantRefused {
			t.Errorf("%d refused, want %d; -want +got:\n%s", refused, wantRefused, diff)
		}
	}
	expect(Writes{}, 0) // it does not exist yet
	half := line("ResponseComplete", "patch", "services", "status", "200")
	add(line("ResponseComplete", "update", "endpointslices", "", "200") + line("ResponseComplete", "update", "endpointslices", "", "409") +
		line("Panic", "update", "endpointslices", "", "500") + half[:20])
	expect(Writes{"update endpointslices": 2}, 1)
	expect(Writes{}, 0)
	add(half[20:])
	expect(Writes{"patch services/status": 1}, 0)
	add("no JSON\n")
	if _, _, err := log.Next(); err == nil {
		t.Error("no error for a line that is no event")
	}
}
