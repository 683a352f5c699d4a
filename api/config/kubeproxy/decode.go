package kubeproxy

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead/fairlead/api/config/internal/document"
)

// GroupVersion and Kind stand at the top of a file of kube-proxy's.
var GroupVersion = schema.GroupVersion{Group: "kubeproxy.config.k8s.io", Version: "v1alpha1"}

// Kind: see GroupVersion.
const Kind = "KubeProxyConfiguration"

// Is says whether a file is kube-proxy's, whatever its version. A file that cannot be read is not.
func Is(data []byte) bool {
	d, err := document.Read(data)
	return err == nil && d.GroupVersionKind().Group == GroupVersion.Group
}

// Decode reads a file. What kube-proxy reads past, this does too, and names it: unknown lists fields that no
// KubeProxyConfiguration has and fields given twice, in the order of the decoder. Another kind or version, a second
// document, and values of a wrong type are errors of one line that name the field.
func Decode(data []byte) (c *Configuration, unknown []string, err error) {
	d, err := document.Read(data)
	if err != nil {
		return nil, nil, err
	}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(GroupVersion.WithKind(Kind), &Configuration{})
	c = &Configuration{}
	err = d.Decode(scheme, GroupVersion.WithKind(Kind), c)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range strict.Errors() {
			unknown = append(unknown, document.OneLine(e).Error())
		}
		err = nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading a %s: %w", Kind, err)
	}
	return c, unknown, nil
}
