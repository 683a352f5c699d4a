package integration

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// holder is who holds the manager's lease; empty: nobody.
func holder(t *testing.T) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	err := suite.admin.Get(t.Context(), client.ObjectKey{Namespace: "fairlead-system", Name: "fairlead-manager"}, lease)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// newHolder waits for a holder other than those.
func newHolder(t *testing.T, others ...string) string {
	t.Helper()
	var found string
	eventually(t, waitFor, "a leader", func() error {
		found = holder(t)
		for _, other := range append(others, "") {
			if found == other {
				return fmt.Errorf("the lease is held by %q", found)
			}
		}
		return nil
	})
	return found
}

// expire has the claim of a leader that was killed run out within a second.
func expire(t *testing.T) {
	t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "fairlead-manager"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"leaseDurationSeconds":1}}`))
	if err := suite.admin.Patch(t.Context(), lease, patch); err != nil {
		t.Fatal(err)
	}
}

// TestLeaderElection: of two managers one works; the other is ready, and takes over when the first leaves, which gives its
// lease back, and once the lease of the first has run out when it dies.
func TestLeaderElection(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	first := startManager(t)
	leader := newHolder(t)
	second := startManager(t) // ready, though not leading
	a := applySample(t, "nginx-clusterip.yaml")
	ready(t, a, a.pods...)
	if holder(t) != leader {
		t.Errorf("the lease went to %q though its holder %q lives", holder(t), leader)
	}

	watching, err := client.NewWithWatch(suite.config, client.Options{Scheme: suite.admin.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	leases, err := watching.Watch(t.Context(), &coordinationv1.LeaseList{}, client.InNamespace("fairlead-system"))
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Stop()
	if err := first.stop(t); err != nil {
		t.Errorf("the leader ended with %v", err)
	}
	next := newHolder(t, leader)
	for given := false; !given; {
		lease, _ := (<-leases.ResultChan()).Object.(*coordinationv1.Lease)
		switch {
		case lease == nil:
			t.Fatal("the watch of the lease ended")
		case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "":
			given = true
		case *lease.Spec.HolderIdentity == next:
			t.Fatal("the leader that left did not give its lease back")
		}
	}
	setReady(t, a.pods[0], corev1.ConditionFalse)
	ready(t, a, a.pods[1:]...)

	third := startManager(t)
	second.kill(t)
	expire(t)
	last := newHolder(t, leader, next)
	setReady(t, a.pods[0], corev1.ConditionTrue)
	ready(t, a, a.pods...)
	if err := third.stop(t); err != nil {
		t.Errorf("the last leader ended with %v", err)
	}
	if got := holder(t); got == last {
		t.Errorf("the lease is still held by %q, which has ended", got)
	}
}

// TestCoexist: beside kube-controller-manager, Services with a selector are left to it and only Services of our classes
// get balancers.
func TestCoexist(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	startManager(t, "--mode=Coexist", "--cloud-provider=fake")
	other := applySample(t, "webapp-lb-cluster.yaml")
	ours := applySample(t, "loadbalancerclass-fake.yaml")
	hasAddress(t, ours)
	// By now the manager has seen the Service that came before ours.
	get(t, other.namespace, other.service.Name, other.service)
	if len(other.service.Status.LoadBalancer.Ingress) > 0 || len(other.service.Finalizers) > 0 {
		t.Errorf("a Service without a class of ours was served: %+v", other.service)
	}
	for _, a := range []*applied{other, ours} {
		found, err := slicesOf(t.Context(), a.namespace, a.service.Name)
		if err != nil || len(found) > 0 {
			t.Errorf("%s has %d slices of ours (%v)", a.service.Name, len(found), err)
		}
	}
}

// TestMetrics: /metrics is for those whom the API server knows and lets read it.
func TestMetrics(t *testing.T) {
	needsAPIServer(t)
	m := startManager(t)
	ns := namespace(t)
	for _, name := range []string{"scraper", "stranger"} {
		create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}})
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "scraper-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "fairlead-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "scraper"}},
	}
	create(t, binding)
	t.Cleanup(func() { remove(t, binding) })
	for name, tc := range map[string]struct {
		token string
		want  int
	}{
		"Nobody":   {"", http.StatusUnauthorized},
		"Stranger": {token(t, ns, "stranger"), http.StatusForbidden},
		"Scraper":  {token(t, ns, "scraper"), http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, waitFor, fmt.Sprintf("status %d", tc.want), func() error {
				status, body, err := scrape(t, m.metrics, tc.token)
				if err != nil {
					return err
				}
				if status != tc.want {
					return fmt.Errorf("status %d: %s", status, body)
				}
				if has := strings.Contains(body, "controller_runtime_reconcile_total"); has != (tc.want == http.StatusOK) {
					return fmt.Errorf("metrics given: %t", has)
				}
				return nil
			})
		})
	}
}

func scrape(t *testing.T, address, token string) (status int, body string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/metrics", nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: waitFor, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // its certificate is signed by itself
	}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return response.StatusCode, string(text), err
}
