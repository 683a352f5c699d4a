package kubeproxy

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/config/kubeproxy"
)

// unwritten are fields that a real kube-proxy leaves out of the file where they are empty.
var unwritten = []string{"featureGates", "logging.format", "logging.vmodule", "logging.options.text.splitStream",
	"logging.options.json.splitStream", "windowsRunAsService"}

// TestEveryField has a real kube-proxy write a file with all its defaults: every field in it is known, there is no
// other, and its defaults are no news to anybody.
func TestEveryField(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if out, err := exec.Command(kubeProxy(t), "--write-config-to="+path).CombinedOutput(); err != nil {
		t.Fatalf("writing a configuration: %v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	must(t, err)
	c, unknown, err := kubeproxy.Decode(data)
	if err != nil || unknown != nil {
		t.Fatalf("%v, unknown %q in\n%s", err, unknown, data)
	}
	var file map[string]any
	must(t, yaml.Unmarshal(data, &file))
	theirs := paths("", file)
	var ours []string
	for _, field := range fields("", reflect.TypeFor[kubeproxy.Configuration]()) {
		if !slices.Contains(unwritten, field) {
			ours = append(ours, field)
		}
	}
	theirs = slices.DeleteFunc(theirs, func(path string) bool { return slices.Contains(unwritten, path) })
	slices.Sort(ours)
	slices.Sort(theirs)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("fields (-kube-proxy +ours):\n%s", diff)
	}
	translated := c.Translate()
	if translated.Problems != nil {
		t.Errorf("problems with kube-proxy's own defaults: %q", translated.Problems)
	}
	var named []string
	for _, note := range translated.Notes {
		named = append(named, note.Field)
	}
	// Its defaults are written out, so those without effect here are named.
	if diff := cmp.Diff([]string{"mode", "nodePortAddresses", "iptables.localhostNodePorts", "configSyncPeriod"}, named); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// paths lists what a file has, maps opened.
func paths(prefix string, value map[string]any) []string {
	var out []string
	for name, v := range value {
		if inner, ok := v.(map[string]any); ok && len(inner) > 0 {
			out = append(out, paths(prefix+name+".", inner)...)
			continue
		}
		out = append(out, prefix+name)
	}
	return out
}

// fields lists what a struct can have, structs of its own package opened.
func fields(prefix string, typ reflect.Type) []string {
	var out []string
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Name == "TypeMeta":
			out = append(out, "apiVersion", "kind")
		case field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == typ.PkgPath() && field.Type != reflect.TypeFor[kubeproxy.Frequency]():
			out = append(out, fields(prefix+name+".", field.Type)...)
		default:
			out = append(out, prefix+name)
		}
	}
	return out
}
