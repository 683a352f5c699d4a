package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func service(name string, age time.Duration, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-age))},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports}}
}

func sample() *portsReport {
	pool := &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges: []v1alpha1.PortRange{{First: 30010, Last: 30019}}, Sticky: true}}
	pool.Status.Reservations = []v1alpha1.PortReservation{
		{Port: 30015, Namespace: "shop", Name: "old", Uses: []string{"80/TCP"}, Until: metav1.NewTime(now.Add(time.Minute))},
		{Port: 30016, Namespace: "shop", Name: "older", Uses: []string{"80/TCP"}, Until: metav1.NewTime(now.Add(-time.Minute))},
	}
	says := func(is metav1.ConditionStatus, message string, svc *corev1.Service) *corev1.Service {
		svc.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionNodePortsUnique, Status: metav1.ConditionFalse, Message: "of something else"},
			{Type: v1alpha1.ConditionNodePortsClear, Status: is, Message: message, LastTransitionTime: metav1.NewTime(now)}}
		return svc
	}
	return reportPorts(portalloc.Range{First: 30000, Last: 30029}, []*corev1.Service{
		says(metav1.ConditionFalse, "nginx on n1", service("hidden", 0, corev1.ServicePort{Port: 80, NodePort: 30013})),
		says(metav1.ConditionFalse, "sshd on n2", service("forgotten", 0, corev1.ServicePort{Port: 80, NodePort: 30002})),
		says(metav1.ConditionTrue, "over", service("clear", 0, corev1.ServicePort{Port: 80, NodePort: 30003})),
		service("young", time.Hour, corev1.ServicePort{Port: 80, NodePort: 30012}),
		service("dns", 2*time.Hour, corev1.ServicePort{Port: 53, NodePort: 30012}, corev1.ServicePort{Port: 53, Protocol: "UDP", NodePort: 30012}),
		service("free", 0, corev1.ServicePort{Port: 80, NodePort: 30001}),
		service("none", 0, corev1.ServicePort{Port: 80}),
	}, []*v1alpha1.NodePortPool{pool}, now)
}

func TestPortsTable(t *testing.T) {
	var out bytes.Buffer
	if err := sample().print(&out, "table"); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
POOL  RANGES                    PORTS  USED  RESERVED  FREE  FREE RANGES
web   30010-30019               10     2     1         7     30010-30011, 30014, 30016-30019
-     30000-30009, 30020-30029  20     3     0         17    30000, 30004-30009, 30020-30029

PORT   POOL  SERVICE         FOR            NOTE
30001  -     shop/free       80/TCP
30002  -     shop/forgotten  80/TCP
30003  -     shop/clear      80/TCP
30012  web   shop/dns        53/TCP,53/UDP
30012  web   shop/young      80/TCP         DUPLICATE: shop/dns has it
30013  web   shop/hidden     80/TCP
30015  web   shop/old        80/TCP         deleted, kept until 2026-01-02T03:05:05Z

SERVICE         SINCE                 IN THE WAY
shop/forgotten  2026-01-02T03:04:05Z  sshd on n2
shop/hidden     2026-01-02T03:04:05Z  nginx on n1
`, "\n")
	got := out.String()
	lines := strings.Split(got, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestOnePool(t *testing.T) {
	part, err := sample().only("web")
	if err != nil || len(part.Pools) != 1 || len(part.Ports) != 4 || len(part.Clashes) != 1 || part.Clashes[0].Service != "shop/hidden" {
		t.Errorf("got %+v, %v", part, err)
	}
	if _, err := sample().only("wbe"); err == nil || !strings.Contains(err.Error(), "there are web") {
		t.Errorf("a pool that is not there: %v", err)
	}
	var out bytes.Buffer
	if err := part.print(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var again portsReport
	if err := json.Unmarshal(out.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*part, again); diff != "" {
		t.Errorf("read back (-printed +read):\n%s", diff)
	}
}

func TestMistakes(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"Nothing":  {nil, exitFailed, "Usage:"},
		"Help":     {[]string{"--help"}, exitFine, "Usage:"},
		"Unknown":  {[]string{"prots"}, exitFailed, `"prots"`},
		"Format":   {[]string{"ports", "-o", "yaml"}, exitFailed, "neither table nor json"},
		"Range":    {[]string{"ports", "-node-port-range", "3-1"}, exitFailed, "write 1-3"},
		"Argument": {[]string{"ports", "web"}, exitFailed, "only flags"},
		"NoIDs":    {[]string{"orphans", "-delete"}, exitFailed, "needs the ids"},
		"NoDelete": {[]string{"orphans", "lb-1"}, exitFailed, "-delete"},
		"NoFile":   {[]string{"ports", "-kubeconfig", "/does/not/exist"}, exitFailed, "reading the kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &out); code != tc.code || !strings.Contains(out.String(), tc.want) {
				t.Errorf("exit code %d and %q, want %d and %q", code, out.String(), tc.code, tc.want)
			}
		})
	}
}
