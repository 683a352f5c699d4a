package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
)

// TestDefault: what `make deploy` applies is accepted without a warning, and admission lets its Pods in.
func TestDefault(t *testing.T) {
	needsAPIServer(t)
	if len(suite.warnings) > 0 {
		t.Errorf("config/default was applied with warnings:\n%s", strings.Join(suite.warnings, "\n"))
	}
	deployment, daemonSet := &appsv1.Deployment{}, &appsv1.DaemonSet{}
	get(t, "fairlead-system", "fairlead-manager", deployment)
	get(t, "fairlead-node-agent", "fairlead-node-agent", daemonSet)
	for namespace, template := range map[string]corev1.PodTemplateSpec{
		deployment.Namespace: deployment.Spec.Template,
		daemonSet.Namespace:  daemonSet.Spec.Template,
	} {
		pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
		pod.Namespace, pod.GenerateName = namespace, "template-"
		if err := suite.admin.Create(t.Context(), pod, client.DryRunAll); err != nil {
			t.Errorf("the Pods of %s are not admitted: %v", namespace, err)
		}
	}

	t.Run("NotTheAgentBesideTheManager", func(t *testing.T) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: deployment.Namespace, GenerateName: "template-"}, Spec: daemonSet.Spec.Template.Spec}
		if err := suite.admin.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("the manager's namespace admits the agent's privileges: %v", err)
		}
	})
}

func get(t *testing.T, namespace, name string, object client.Object) {
	t.Helper()
	if err := suite.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		t.Fatal(err)
	}
}

// TestOverlays: every overlay builds, holds what it is there for, and what it configures is valid.
func TestOverlays(t *testing.T) {
	needsAPIServer(t)
	cases := map[string]struct {
		reason string
		mode   configv1alpha1.Mode
		// own is the group of kinds that only exist where an operator brings them.
		own string
	}{
		"default":             {reason: "it replaces", mode: configv1alpha1.ModeReplace},
		"overlays/aws":        {reason: "it runs on AWS", mode: configv1alpha1.ModeReplace},
		"overlays/azure":      {reason: "it runs on Azure", mode: configv1alpha1.ModeReplace},
		"overlays/coexist":    {reason: "it runs beside what is there", mode: configv1alpha1.ModeCoexist},
		"overlays/gcp":        {reason: "balancers are those of Google Cloud", mode: configv1alpha1.ModeReplace},
		"overlays/plugin":     {reason: "a provider runs beside the manager", mode: configv1alpha1.ModeReplace},
		"overlays/prometheus": {reason: "it is monitored", mode: configv1alpha1.ModeReplace, own: "monitoring.coreos.com"},
	}
	for folder, tc := range cases {
		t.Run(folder, func(t *testing.T) {
			objects, err := kustomize(filepath.Join("config", folder))
			if err != nil {
				t.Fatal(err)
			}
			var configured, own bool
			for _, object := range objects {
				if tc.own != "" && object.GroupVersionKind().Group == tc.own {
					own = true
					continue
				}
				if object.GetKind() == "ConfigMap" && strings.HasPrefix(object.GetName(), "fairlead-manager-") {
					configured = true
					checkConfiguration(t, object, tc.mode)
				}
				err := suite.admin.Patch(t.Context(), object, client.Apply, client.DryRunAll, client.FieldOwner("integration"), client.ForceOwnership) //nolint:staticcheck // unstructured
				if err != nil {
					t.Errorf("%s %s is refused: %v", object.GetKind(), object.GetName(), err)
				}
			}
			if !configured || own != (tc.own != "") {
				t.Errorf("configuration %t, %s %t: %s", configured, tc.own, own, tc.reason)
			}
		})
	}
}

func checkConfiguration(t *testing.T, configMap *unstructured.Unstructured, mode configv1alpha1.Mode) {
	t.Helper()
	text, _, err := unstructured.NestedString(configMap.Object, "data", "manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := &configv1alpha1.ManagerConfiguration{}
	if err := configv1alpha1.Decode([]byte(text), c); err != nil {
		t.Fatalf("the manager would refuse its configuration: %v", err)
	}
	c.Default()
	if err := c.Validate(); err != nil {
		t.Errorf("the manager would refuse its configuration: %v", err)
	}
	if c.Mode != mode {
		t.Errorf("mode %s, want %s", c.Mode, mode)
	}
}

// TestSamples: the API server takes every sample as it stands, and every sample is listed.
func TestSamples(t *testing.T) {
	needsAPIServer(t)
	files, err := filepath.Glob(filepath.Join(repository, "config/samples/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(repository, "config/samples/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(repository, "config/samples/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "kustomization.yaml" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(string(list), "- "+name+"\n") || !strings.Contains(string(readme), "`"+name+"`") {
				t.Errorf("it stands in only one of kustomization.yaml and README.md, or in neither")
			}
			objects := sample(t, name)
			if len(objects) == 0 {
				t.Error("it is empty")
			}
			for _, object := range objects {
				if object.GetNamespace() != "" {
					t.Errorf("%s %s has a namespace: nobody could apply it to another", object.GetKind(), object.GetName())
				}
				if object.GetKind() != "LoadBalancerClass" && object.GetKind() != "NodePortPool" {
					object.SetNamespace("default")
				}
				if err := suite.admin.Create(t.Context(), object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
					t.Errorf("%s %s is refused: %v", object.GetKind(), object.GetName(), err)
				}
			}
		})
	}
}
