package v1alpha1

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/api/config/internal/document"
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
	d, err := document.Read(data)
	if err != nil {
		return err
	}
	err = d.Decode(scheme, kinds[0], into)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		texts := make([]string, len(strict.Errors()))
		for i, e := range strict.Errors() {
			texts[i] = e.Error()
		}
		err = errors.New(strings.Join(texts, ", "))
	}
	return document.OneLine(err)
}
