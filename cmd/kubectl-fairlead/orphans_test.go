package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

func classWith(name string, asked string, ids ...string) v1alpha1.LoadBalancerClass {
	class := v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + name, Provider: "fake"}}
	if asked != "" {
		class.Annotations = map[string]string{v1alpha1.AnnotationDeleteOrphans: asked}
	}
	for _, id := range ids {
		class.Status.Orphans = append(class.Status.Orphans, v1alpha1.Orphan{Kind: "Balancer", ID: id, Key: "main",
			ServiceUIDs: []types.UID{"5f0c8d1e"}, Since: metav1.NewTime(now)})
	}
	return class
}

func TestOrphansTable(t *testing.T) {
	var out bytes.Buffer
	entries := orphanEntries([]v1alpha1.LoadBalancerClass{classWith("b", "b1", "b1", "b2"), classWith("a", "", "a1"), classWith("c", "")})
	if err := printOrphans(&out, 3, entries, "table"); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
CLASS  PROVIDER  KIND      ID  KEY   SERVICE UID  SINCE                 NOTE
a      fake      Balancer  a1  main  5f0c8d1e     2026-01-02T03:04:05Z  
b      fake      Balancer  b1  main  5f0c8d1e     2026-01-02T03:04:05Z  deletion is asked for
b      fake      Balancer  b2  main  5f0c8d1e     2026-01-02T03:04:05Z  
`, "\n")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := printOrphans(&out, 1, orphanEntries(nil), "json"); err != nil || out.String() != "[]\n" {
		t.Errorf("nothing is printed as %q, %v", out.String(), err)
	}
	for classes, want := range []string{"There is no LoadBalancerClass", "There are no orphans"} {
		out.Reset()
		if err := printOrphans(&out, classes, nil, "table"); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("nothing of %d classes is printed as %q, %v", classes, out.String(), err)
		}
	}
}

// TestOrphans lists what a class in a real API server has, and asks to have some of it deleted.
func TestOrphans(t *testing.T) {
	w := apiserver.New(t)
	class := classWith(w.Namespace, "older-request", "lb-1", "lb-2")
	status := class.Status
	w.Make(&class)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), &class)) })
	class.Status = status
	w.Must(w.Status().Update(t.Context(), &class))
	config := kubeconfig(t, w.Config)
	call := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"orphans", "-kubeconfig", config}, args...), &stdout, &stderr); code != want {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, want, stderr.String())
		}
		return stdout.String() + stderr.String()
	}
	var entries []orphanEntry
	w.Must(json.Unmarshal([]byte(call(exitFindings, "-o", "json")), &entries))
	if len(entries) != 2 || entries[0].ID != "lb-1" || entries[0].Class != w.Namespace || entries[0].Deleting {
		t.Errorf("it says %+v", entries)
	}
	asked := func() string {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(&class), &class))
		return class.Annotations[v1alpha1.AnnotationDeleteOrphans]
	}
	if text := call(exitFailed, "-delete", "lb-1", "lb-3"); !strings.Contains(text, `"lb-3"`) || asked() != "older-request" {
		t.Errorf("an id that no class lists: it says %q, and asks for %q", text, asked())
	}
	call(exitFine, "-delete", "lb-2")
	if got, want := asked(), "lb-2,older-request"; got != want {
		t.Errorf("the class asks for %q, want %q", got, want)
	}
	if text := call(exitFindings); !strings.Contains(text, "deletion is asked for") {
		t.Errorf("it says %q", text)
	}
}
