// Package document reads the one YAML or JSON document of a configuration file into a Go type, with errors of one
// line that name the field. It knows no kind, applies no default and judges no value.
package document

import (
	"bufio"
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Document is what a file holds. The zero value is an empty file.
type Document struct {
	metav1.TypeMeta
	text []byte
}

// Read finds the one document of a file and what kind it says it is. More than one is an error: a decoder would pass
// over the second without a word. None is no error here.
func Read(data []byte) (*Document, error) {
	d := &Document{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, OneLine(err)
		}
		var content any
		if err := yaml.Unmarshal(text, &content); err != nil {
			return nil, OneLine(err)
		}
		if content == nil { // nothing but comments
			continue
		}
		if d.text != nil {
			return nil, errors.New("the file holds more than one YAML document: keep one")
		}
		fields, ok := content.(map[string]any)
		if !ok {
			return nil, errors.New("the file is no list of fields: begin it with apiVersion and kind")
		}
		d.text = text
		d.APIVersion, _ = fields["apiVersion"].(string)
		d.Kind, _ = fields["kind"].(string)
	}
}

// Decode reads the document into into, which must be of the kind want in scheme. Fields that the kind does not have and
// fields given twice are strict decoding errors (runtime.IsStrictDecodingError), of several lines, with which into is
// filled as far as it goes. All others begin with the name of the field, if it is one field's fault.
func (d *Document) Decode(scheme *runtime.Scheme, want schema.GroupVersionKind, into runtime.Object) error {
	switch {
	case d.APIVersion == "v1" && d.Kind == "ConfigMap":
		return errors.New("the file is a ConfigMap: write the configuration that its data holds into a file of its own")
	case d.APIVersion != want.GroupVersion().String():
		return fmt.Errorf("apiVersion: %q is not known here: write %s", d.APIVersion, want.GroupVersion())
	case d.Kind != want.Kind:
		return fmt.Errorf("kind: %q is not what this program reads: write %s", d.Kind, want.Kind)
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	_, _, err := decoder.Decode(d.text, nil, into)
	if err == nil || runtime.IsStrictDecodingError(err) {
		return err // as it is, or it would not be known as such
	}
	var content map[string]any
	if yaml.Unmarshal(d.text, &content) != nil {
		return OneLine(err)
	}
	header := map[string]any{"apiVersion": d.APIVersion, "kind": d.Kind}
	bad := func(fields map[string]any) bool {
		maps.Copy(fields, header)
		text, err := stdjson.Marshal(fields)
		if err != nil {
			return false
		}
		_, _, err = decoder.Decode(text, nil, into.DeepCopyObject())
		return err != nil && !runtime.IsStrictDecodingError(err)
	}
	path := blame(content, nil, bad)
	if path == nil {
		return OneLine(err)
	}
	if wrong := (*stdjson.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		err = fmt.Errorf("found %s where a value of type %s belongs", wrong.Value, wrong.Type)
		// A duration's own decoder asks for text, of which it does not take all.
		if !bad(alone(path, "1s")) && bad(alone(path, "")) {
			err = fmt.Errorf("found %s where a duration belongs: write a number and its unit, such as 30s or 5m", wrong.Value)
		}
	}
	return OneLine(fmt.Errorf("%s: %w", strings.Join(path, "."), err))
}

// alone is a document with one field.
func alone(path []string, value any) map[string]any {
	for _, name := range slices.Backward(path) {
		value = map[string]any{name: value}
	}
	return value.(map[string]any)
}

// blame finds the field that cannot be read by reading each alone: what a type's own decoder (of a duration, for
// one) complains about does not tell where it stood. nil: no field alone is to blame.
func blame(fields map[string]any, path []string, bad func(map[string]any) bool) []string {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		here := append(slices.Clone(path), name)
		if !bad(alone(here, fields[name])) {
			continue
		}
		inner, nested := fields[name].(map[string]any)
		if nested && !bad(alone(here, map[string]any{})) {
			if found := blame(inner, here, bad); found != nil {
				return found
			}
		}
		return here
	}
	return nil
}

// OneLine keeps the chain of err but prints it on one line: YAML errors come with line breaks. nil stays nil.
func OneLine(err error) error {
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if text == err.Error() {
		return err
	}
	return &flattened{text: text, err: err}
}

type flattened struct {
	text string
	err  error
}

func (f *flattened) Error() string { return f.text }
func (f *flattened) Unwrap() error { return f.err }
