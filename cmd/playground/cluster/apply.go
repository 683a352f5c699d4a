package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/restmapper"

	"github.com/fairlead/fairlead/cmd/playground/process"
)

// fieldManager is who applies, as kubectl would be.
const fieldManager = "playground"

// render has kubectl put a kustomize folder together.
func (c *Cluster) render(dir string) ([]*unstructured.Unstructured, error) {
	out, err := os.CreateTemp(c.path(), "rendered-")
	if err != nil {
		return nil, fmt.Errorf("making a file: %w", err)
	}
	defer func() {
		_ = out.Close()
		_ = os.Remove(out.Name())
	}()
	log := filepath.Join(c.Programs.LogDir, "kustomize.log")
	errOut, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	defer func() { _ = errOut.Close() }()
	p, err := c.Programs.Table.Start(process.Spec{
		Args:  []string{c.asset("kubectl"), "kustomize", filepath.Join(c.Config.Manifests, dir)},
		Files: []*os.File{nil, out, errOut},
	})
	if err != nil {
		return nil, err
	}
	<-p.Done()
	if process.ExitCode(p.Status()) != 0 {
		return nil, fmt.Errorf("rendering %s: kubectl kustomize %s: %s", dir, process.Describe(p.Status()), tail(log, 5))
	}
	content, err := os.ReadFile(out.Name())
	if err != nil {
		return nil, fmt.Errorf("reading what kubectl rendered: %w", err)
	}
	return decode(content)
}

// decode reads all objects of a YAML text.
func decode(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096); ; {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// apply applies objects in their order, on the server's side. Those without a namespace that need one go to "default".
func (c *Cluster) apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	groups, err := restmapper.GetAPIGroupResources(c.Client.Discovery())
	if err != nil {
		return fmt.Errorf("finding out what the API server serves: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, object := range objects {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", kind.Kind, object.GetName(), err)
		}
		resource := c.Dynamic.Resource(mapping.Resource)
		options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
		if mapping.Scope.Name() == "namespace" {
			namespace := object.GetNamespace()
			if namespace == "" {
				namespace = metav1.NamespaceDefault
			}
			_, err = resource.Namespace(namespace).Apply(ctx, object.GetName(), object, options)
		} else {
			_, err = resource.Apply(ctx, object.GetName(), object, options)
		}
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
	return nil
}

// awaitKinds waits until the API server serves kinds that were just defined.
func (c *Cluster) awaitKinds(ctx context.Context, groupVersion string, want int) error {
	return c.Programs.await(ctx, "the kinds of "+groupVersion, func(context.Context) (bool, error) {
		list, err := c.Client.Discovery().ServerResourcesForGroupVersion(groupVersion)
		if err != nil {
			return false, err
		}
		kinds := map[string]bool{}
		for _, r := range list.APIResources {
			kinds[r.Kind] = true
		}
		return len(kinds) >= want, nil
	})
}
