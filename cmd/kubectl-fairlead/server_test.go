package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{CRDs: "../../config/crd/bases"}) }

// kubeconfig writes what kubectl would be given.
func kubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.Host, CertificateAuthorityData: c.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: c.CertData, ClientKeyData: c.KeyData, Token: c.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPorts asks a real API server, by way of a kubeconfig. What the manager says of a Service is a finding.
func TestPorts(t *testing.T) {
	w := apiserver.New(t)
	objects := []client.Object{
		&v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
			Ranges: []v1alpha1.PortRange{{First: 31000, Last: 31009}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "cart"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 31004}}}},
	}
	for _, object := range objects {
		w.Make(object)
		t.Cleanup(func() { w.Must(w.Delete(context.Background(), object)) })
	}
	file := kubeconfig(t, w.Config)
	ask := func(want int) (report portsReport, text string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"ports", "-kubeconfig", file, "-pool", "web", "-o", "json"}, &stdout, &stderr); code != want {
			t.Fatalf("exit code %d, want %d: %s%s", code, want, stdout.String(), stderr.String())
		}
		w.Must(json.Unmarshal(stdout.Bytes(), &report))
		return report, stdout.String()
	}
	report, text := ask(exitFine)
	if len(report.Pools) != 1 || report.Pools[0].FreeRanges != "31000-31003, 31005-31009" || len(report.Ports) != 1 ||
		report.Ports[0].Service != w.Namespace+"/cart" || !slices.Equal(report.Ports[0].Uses, []string{"80/TCP"}) {
		t.Errorf("it says %s", text)
	}
	cart := objects[1].(*corev1.Service)
	cart.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionNodePortsClear, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonListener,
		Message: "nginx listens there", LastTransitionTime: metav1.Now()}}
	w.Must(w.Client.Status().Update(t.Context(), cart))
	report, text = ask(exitFindings)
	if len(report.Clashes) != 1 || report.Clashes[0].Service != w.Namespace+"/cart" || report.Clashes[0].Message != "nginx listens there" {
		t.Errorf("of a program in the way it says %s", text)
	}
}
