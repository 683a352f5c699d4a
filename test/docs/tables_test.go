package docs

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/gcp"
)

var update = flag.Bool("update", false, "write the generated tables into the pages")

// providers are those whose pages have tables made from the code. On the page docs/<page>.md a table stands between
// "<!-- annotations of NAME -->", or "<!-- parameters of NAME -->", and "<!-- end -->".
var providers = map[string]struct {
	page        string
	annotations []cloud.AnnotationDoc
}{
	aws.Name:   {"aws", aws.Annotations()},
	azure.Name: {"azure", azure.Annotations},
	fake.Name:  {"loadbalancers", fake.Annotations},
	gcp.Name:   {"gcp", gcp.Annotations},
}

func TestTables(t *testing.T) {
	for name, p := range providers {
		path := filepath.Join(root, "docs", p.page+".md")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		parameters, err := parameterTable(name)
		if err != nil {
			t.Fatal(err)
		}
		want := string(page)
		for what, table := range map[string]string{"annotations": cloud.AnnotationTable(p.annotations), "parameters": parameters} {
			begin := fmt.Sprintf("<!-- %s of %s -->\n", what, name)
			before, rest, ok := strings.Cut(want, begin)
			_, after, closed := strings.Cut(rest, "<!-- end -->\n")
			if !ok || !closed {
				t.Fatalf("%s lacks %q, or the %q after it", path, strings.TrimSpace(begin), "<!-- end -->")
			}
			want = before + begin + table + "<!-- end -->\n" + after
		}
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a document
				t.Fatal(err)
			}
		} else if want != string(page) {
			t.Errorf("%s: its tables are not those of the code: run go test ./test/docs -run TestTables -update", path)
		}
	}
}

// parameterTable is the table of a provider's parameters, from the schema of LoadBalancerClass.
func parameterTable(provider string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "config/crd/bases/fairlead.dev_loadbalancerclasses.yaml"))
	if err != nil {
		return "", err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return "", err
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["parameters"].Properties[provider]
	if len(schema.Properties) == 0 {
		return "", fmt.Errorf("the schema has no parameters of %s", provider)
	}
	var b strings.Builder
	b.WriteString("| parameter | values | meaning |\n| --- | --- | --- |\n")
	rows(&b, "", schema)
	return b.String(), nil
}

// rows writes one row for each field, those of an object under its name.
func rows(b *strings.Builder, prefix string, schema apiextensionsv1.JSONSchemaProps) {
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		field := schema.Properties[name]
		meaning := strings.Join(strings.Fields(field.Description), " ")
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", prefix+name, strings.ReplaceAll(values(field), "|", `\|`), strings.ReplaceAll(meaning, "|", `\|`))
		rows(b, prefix+name+".", field)
	}
}

// values says in short what a field takes.
func values(field apiextensionsv1.JSONSchemaProps) string {
	switch {
	case len(field.Enum) > 0:
		all := make([]string, len(field.Enum))
		for i, v := range field.Enum {
			all[i] = "`" + strings.Trim(string(v.Raw), `"`) + "`"
		}
		return strings.Join(all, ", ")
	case field.Minimum != nil && field.Maximum != nil:
		return fmt.Sprintf("%v to %v", *field.Minimum, *field.Maximum)
	case field.Type == "boolean":
		return "`true`, `false`"
	case field.Type == "array":
		return "list"
	case field.AdditionalProperties != nil:
		return "map"
	}
	return field.Type
}
