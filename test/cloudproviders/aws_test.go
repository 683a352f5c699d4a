package cloudproviders

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	_ "k8s.io/cloud-provider-aws/pkg/providers/v1" // registers itself as "aws"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/adapter"
)

// memory outlives providers. As the manager's it knows Services by name.
type memory struct {
	mu    sync.Mutex
	texts map[string]string
}

func (m *memory) Recall(_ context.Context, owner cloud.Owner) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.texts[owner.Namespace+"/"+owner.Name], nil
}

func (m *memory) Keep(_ context.Context, owner cloud.Owner, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.texts[owner.Namespace+"/"+owner.Name] = text
	return nil
}

// world is a cloud, an API server as far as the provider asks it for anything, and what a manager knows.
type world struct {
	t       *testing.T
	amazon  *amazon
	cluster *httptest.Server
	memory  *memory
	service *corev1.Service
	nodes   []*corev1.Node
	// provider of the manager that runs.
	provider *adapter.Provider
}

const (
	annotationType    = "service.beta.kubernetes.io/aws-load-balancer-type"
	annotationTargets = "service.beta.kubernetes.io/aws-load-balancer-target-node-labels"
)

func newWorld(t *testing.T) *world {
	klog.SetLogger(logr.Discard()) // The provider tells much.
	w := &world{t: t, amazon: newAmazon(t), memory: &memory{texts: map[string]string{}}, nodes: newNodes(3)}
	w.cluster = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = w.Write([]byte(`{"major": "1", "minor": "37"}`))
		case r.URL.Query().Get("watch") != "":
			<-r.Context().Done()
		default:
			_, _ = w.Write([]byte(`{"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}`))
		}
	}))
	t.Cleanup(w.cluster.CloseClientConnections)
	t.Cleanup(w.cluster.Close)
	w.service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "7f3e0c1a-0000-4000-8000-000000000001",
			Annotations: map[string]string{annotationType: "nlb"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, SessionAffinity: corev1.ServiceAffinityNone,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP},
				{Name: "https", Port: 443, NodePort: 30443, Protocol: corev1.ProtocolTCP},
			}},
	}
	// The SDK is to ask nobody but the server of the test.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_EC2_METADATA_SERVICE_ENDPOINT": w.amazon.server.URL,
	} {
		t.Setenv(name, value)
	}
	w.restart()
	return w
}

func newNodes(n int) []*corev1.Node {
	var nodes []*corev1.Node
	for i, machine := range machines[:n] {
		nodes = append(nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d.internal", i), Labels: map[string]string{"pool": string("ab"[i%2])}},
			Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zones[i%2] + "/" + machine},
		})
	}
	return nodes
}

// restart begins with a provider that remembers nothing, as another process would.
func (w *world) restart() {
	w.t.Helper()
	var overrides strings.Builder
	for i, service := range []string{"EC2", "Elastic Load Balancing", "Elastic Load Balancing v2", "KMS"} {
		fmt.Fprintf(&overrides, "[ServiceOverride \"%d\"]\nService=%s\nRegion=%s\nURL=%s\nSigningRegion=%[3]s\n", i, service, region, w.amazon.server.URL)
	}
	config := fmt.Sprintf("[Global]\nRegion=%s\nVPC=%s\nSubnetID=subnet-0\nKubernetesClusterID=%s\n%s", region, vpc, cluster, overrides.String())
	start := adapter.Registered("aws")
	start.RESTConfig, start.Stop = &rest.Config{Host: w.cluster.URL}, w.t.Context().Done()
	provider, err := start.Provider(cloud.Config{ClusterID: cluster, File: []byte(config), Memory: w.memory}, adapter.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.provider = provider
}

// pass ensures the Service.
func (w *world) pass(ctx context.Context) (cloud.Outcome, error) {
	w.t.Helper()
	spec, options, err := cloud.BuildSpec(cloud.Input{ClusterID: cluster, Service: w.service, Nodes: w.nodes, Capabilities: w.provider.Capabilities()})
	if err != nil {
		w.t.Fatal(err)
	}
	desired, err := w.provider.Desired(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return cloud.Converge(ctx, w.provider, spec.Owner, desired, options)
}

// release deletes what the Service has.
func (w *world) release(ctx context.Context) (cloud.Outcome, error) {
	owner := cloud.OwnerOf(cluster, w.service)
	owner.Service = w.service
	return cloud.Converge(ctx, w.provider, owner, nil, cloud.Options{})
}

func (w *world) settled(out cloud.Outcome, err error) cloud.Outcome {
	w.t.Helper()
	if err != nil || !out.Left.Empty() {
		w.t.Fatalf("the pass ended with %v and left %+v", err, out.Left)
	}
	return out
}

// expect holds the provider to what it changed since the last time, without repetitions, sorted.
func (w *world) expect(what string, want ...string) {
	w.t.Helper()
	writes, _ := w.amazon.takeActions()
	slices.Sort(writes)
	if diff := cmp.Diff(want, slices.Compact(writes)); diff != "" {
		w.t.Errorf("%s changed the cloud otherwise (-want +got):\n%s", what, diff)
	}
}

func (w *world) things(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.amazon.things(w.t)); diff != "" {
		w.t.Errorf("the cloud has (-want +got):\n%s", diff)
	}
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	out := w.settled(w.pass(t.Context()))
	w.expect("the first pass", "AuthorizeSecurityGroupIngress", "CreateListener", "CreateLoadBalancer", "CreateTargetGroup", "RegisterTargets")
	created := w.amazon.things(w.t)
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || !strings.HasSuffix(got[0].Hostname, ".elb.eu-north-1.amazonaws.com") {
		t.Errorf("addresses: %+v", got)
	}
	if !slices.ContainsFunc(created, func(thing string) bool {
		return strings.HasPrefix(thing, "group ") && strings.HasSuffix(thing, "TCP 30443 with "+strings.Join(machines[:3], ","))
	}) {
		t.Errorf("there is no group for port 30443 with three nodes: %q", created)
	}

	w.settled(w.pass(t.Context()))
	w.restart()
	w.settled(w.pass(t.Context()))
	if writes, reads := w.amazon.takeActions(); len(writes)+reads > 0 {
		t.Errorf("a pass without a change, and one after a restart, made %d calls and %q", reads, writes)
	}

	w.nodes = newNodes(4)[1:]
	w.settled(w.pass(t.Context()))
	w.expect("other nodes", "DeregisterTargets", "RegisterTargets")

	w.service = w.service.DeepCopy()
	w.service.Annotations[annotationTargets] = "pool=b"
	w.settled(w.pass(t.Context()))
	w.expect("an annotation about nodes' labels", "DeregisterTargets")

	w.service = w.service.DeepCopy()
	w.service.Spec.Ports = w.service.Spec.Ports[:1]
	w.service.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
	w.settled(w.pass(t.Context()))
	w.expect("another spec", "AuthorizeSecurityGroupIngress", "DeleteListener", "DeleteTargetGroup", "RevokeSecurityGroupIngress")

	w.settled(w.release(t.Context()))
	w.expect("the deletion", "DeleteLoadBalancer", "DeleteTargetGroup", "RevokeSecurityGroupIngress")
	w.things()
}

// TestExternal: the provider leaves Services of another type to the AWS Load Balancer Controller. Its own balancer of such
// a Service is deleted all the same in the end, which by itself it would not do.
func TestExternal(t *testing.T) {
	w := newWorld(t)
	w.settled(w.pass(t.Context()))
	w.amazon.takeActions()
	w.service = w.service.DeepCopy()
	w.service.Annotations[annotationType] = "external"
	w.service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "other.example.com"}}
	out, err := w.pass(t.Context())
	if !cloud.IsClass(err, cloud.UserError) {
		t.Errorf("the error is %v, want one of class UserError", err)
	}
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].Hostname != "other.example.com" {
		t.Errorf("the other controller's address is not left alone: %+v", got)
	}
	w.expect("a pass for somebody else's Service")
	w.restart()
	w.settled(w.release(t.Context()))
	w.things()
}

// TestRefused: what the provider refuses is retried, and the balancer stays.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.settled(w.pass(t.Context()))
	before := w.amazon.things(w.t)
	w.service = w.service.DeepCopy()
	w.service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	if _, err := w.pass(t.Context()); !cloud.IsClass(err, cloud.Retry) || !strings.Contains(err.Error(), "affinity") {
		t.Errorf("the error is %v", err)
	}
	w.things(before...)
}
