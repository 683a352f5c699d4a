package v1alpha1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Decode reads a configuration file, YAML or JSON, into the kind that into is. Fields that the kind does not
// have, fields given twice, another kind, another version and a second document are refused, by name, in an
// error of one line. Defaults are not applied.
func Decode(data []byte, into runtime.Object) error {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return fmt.Errorf("registering configuration kinds: %w", err)
	}
	kinds, _, err := scheme.ObjectKinds(into)
	if err != nil {
		return fmt.Errorf("finding the configuration's kind: %w", err)
	}
	document, err := onlyDocument(data)
	if err != nil {
		return err
	}
	var given metav1.TypeMeta
	if err := yaml.Unmarshal(document, &given); err != nil {
		return oneLine(err)
	}
	switch {
	case given.APIVersion != GroupVersion.String():
		return fmt.Errorf("apiVersion: %q is not known here: write %s", given.APIVersion, GroupVersion)
	case given.Kind != kinds[0].Kind:
		return fmt.Errorf("kind: %q is not what this program reads: write %s", given.Kind, kinds[0].Kind)
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	if _, _, err := decoder.Decode(document, nil, into); err != nil {
		return oneLine(err)
	}
	return nil
}

// onlyDocument returns the one YAML document of data. The decoder would pass over a second one without a word.
func onlyDocument(data []byte) ([]byte, error) {
	var found []byte
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, oneLine(err)
		}
		var content any
		if err := yaml.Unmarshal(document, &content); err != nil {
			return nil, oneLine(err)
		}
		if content == nil { // nothing but comments
			continue
		}
		if found != nil {
			return nil, errors.New("the file holds more than one YAML document: keep one")
		}
		found = document
	}
}

// oneLine keeps the chain of err but prints it on one line: YAML errors come with line breaks.
func oneLine(err error) error {
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
