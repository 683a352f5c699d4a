package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/pki"
)

// Manifests are Fairlead's own objects, as an administrator would apply them: kinds, namespaces, service accounts, roles,
// webhooks. Its programs run as processes here, not as Pods.
type Manifests []*unstructured.Unstructured

// RenderManifests puts them together; it needs no API server.
func (c *Cluster) RenderManifests() (Manifests, error) {
	var all Manifests
	for _, dir := range []string{"crd", "rbac", "webhook"} {
		objects, err := c.render(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	// No Service leads to a process.
	all = slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	for _, object := range all {
		if object.GetKind() == "MutatingWebhookConfiguration" {
			if err := reachByURL(object); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// reachByURL has the API server ask the manager beside it.
func reachByURL(configuration *unstructured.Unstructured) error {
	webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil {
		return fmt.Errorf("reading the webhooks: %w", err)
	}
	for _, w := range webhooks {
		webhook, _ := w.(map[string]any)
		path, _, err := unstructured.NestedString(webhook, "clientConfig", "service", "path")
		if err != nil {
			return fmt.Errorf("reading a webhook: %w", err)
		}
		webhook["clientConfig"] = map[string]any{"url": "https://" + managerWebhook + path}
	}
	return unstructured.SetNestedSlice(configuration.Object, webhooks, "webhooks")
}

// Install applies the manifests and lets the API server reach the kubelets.
func (c *Cluster) Install(ctx context.Context, manifests Manifests) error {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: kubeletClientUser},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:kubelet-api-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: kubeletClientUser}},
	}
	if _, err := c.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("letting the API server reach kubelets: %w", err)
	}
	if err := c.apply(ctx, manifests); err != nil {
		return err
	}
	kinds := 0
	for _, object := range manifests {
		if object.GetKind() == "CustomResourceDefinition" {
			kinds++
		}
	}
	return c.awaitKinds(ctx, v1alpha1.SchemeGroupVersion.String(), kinds)
}

// serviceAccount is whom a program of Fairlead's is to the API server.
type serviceAccount struct{ namespace, name string }

var (
	managerAccount = serviceAccount{"fairlead-system", "fairlead-manager"}
	agentAccount   = serviceAccount{"fairlead-node-agent", "fairlead-node-agent"}
)

// tokenLifetime outlives any playground; the programs would not fetch a new one.
const tokenLifetime = 30 * 24 * time.Hour

// accountKubeconfig writes the kubeconfig of a service account and returns its path.
func (c *Cluster) accountKubeconfig(ctx context.Context, account serviceAccount) (string, error) {
	seconds := int64(tokenLifetime.Seconds())
	request, err := c.Client.CoreV1().ServiceAccounts(account.namespace).CreateToken(ctx, account.name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of service account %s/%s: %w", account.namespace, account.name, err)
	}
	path := c.path("pki", account.name+".kubeconfig")
	return path, c.authority.WriteKubeconfig(path, serverURL(), account.name, pki.Credentials{Token: request.Status.Token})
}

func (c *Cluster) cloudSocket() string { return c.path("cloud.sock") }

// StartCloud starts the fake cloud's API, an emulated AWS, and the load balancers of both.
func (c *Cluster) StartCloud(ctx context.Context) {
	args := []string{"/proc/self/exe", "cloud", "--socket=" + c.cloudSocket()}
	for cidr := range strings.SplitSeq(network.BalancerCIDRs, ",") {
		args = append(args, "--pool=default="+cidr)
	}
	args = append(args, "--aws="+network.Amazon)
	for _, n := range c.Nodes {
		args = append(args, "--machine="+strings.Join(append([]string{n.Instance(), n.Zone}, addresses(n)...), "="))
	}
	c.Programs.Run(ctx, "cloud", c.Network.Cloud, args...)
}

// StartFairlead starts the manager and a node agent on every node.
func (c *Cluster) StartFairlead(ctx context.Context) error {
	manager, err := c.accountKubeconfig(ctx, managerAccount)
	if err != nil {
		return err
	}
	agent, err := c.accountKubeconfig(ctx, agentAccount)
	if err != nil {
		return err
	}
	alone := false
	config := &configv1alpha1.ManagerConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: configv1alpha1.GroupVersion.String(), Kind: "ManagerConfiguration"},
		Mode:     configv1alpha1.ModeReplace,
		Cloud: configv1alpha1.Cloud{
			Provider: "fake", Fake: &configv1alpha1.FakeCloud{Endpoint: "unix://" + c.cloudSocket()},
		},
		// There is one manager, and a restarted one need not wait for its predecessor's lease.
		LeaderElection: configv1alpha1.LeaderElection{Enabled: &alone},
		Metrics:        configv1alpha1.Metrics{BindAddress: "127.0.0.1:8443"},
		Health:         configv1alpha1.Health{BindAddress: managerHealth},
		Webhook:        configv1alpha1.Webhook{BindAddress: managerWebhook},
		// More often than in a cluster: people who try it are watching.
		NodeReports:      configv1alpha1.NodeReports{Port: agentReports, Interval: &metav1.Duration{Duration: 5 * time.Second}},
		ClientConnection: configv1alpha1.ClientConnection{Kubeconfig: manager},
	}
	managerConfig, err := c.writeYAML("manager.yaml", config)
	if err != nil {
		return err
	}
	agentConfig, err := c.writeYAML("node-agent.yaml", map[string]any{
		"apiVersion":        configv1alpha1.GroupVersion.String(),
		"kind":              "NodeAgentConfiguration",
		"localDetection":    map[string]any{"clusterCIDRs": strings.Split(network.PodCIDRs, ",")},
		"reportBindAddress": fmt.Sprintf(":%d", agentReports),
	})
	if err != nil {
		return err
	}
	// As on a machine of AWS: the SDK finds what it needs in the metadata. Settings of this machine's user are not for it.
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "AWS_") })
	env = append(env, "AWS_ENDPOINT_URL=http://"+network.Amazon, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://"+network.Amazon,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	c.Programs.RunWith(ctx, "manager", c.Network.Root, env, c.Config.Bin+"/manager", "--config="+managerConfig)
	for _, n := range c.Nodes {
		c.Programs.Run(ctx, "node-agent-"+n.Name, c.Network.Nodes[n.Name], c.Config.Bin+"/node-agent",
			"--kubeconfig="+agent, "--node-name="+n.Name, "--config="+agentConfig)
	}
	return nil
}

func (c *Cluster) writeYAML(name string, content any) (path string, err error) {
	text, err := yaml.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("encoding %s: %w", name, err)
	}
	path = c.path(name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return path, nil
}

const (
	managerHealth  = "127.0.0.1:8081"
	managerWebhook = "127.0.0.1:9443"
	agentReports   = 10268
	// agentHealth is kube-proxy's port, which load balancers know.
	agentHealth = "127.0.0.1:10256"
)

// AwaitFairlead waits until the manager is ready and every agent has programmed its node.
func (c *Cluster) AwaitFairlead(ctx context.Context) error {
	type endpoint struct{ what, namespace, url string }
	endpoints := []endpoint{{"the manager", network.RootName, "http://" + managerHealth + "/readyz"}}
	for _, n := range c.Nodes {
		endpoints = append(endpoints, endpoint{"the node agent of " + n.Name, n.Namespace(), "http://" + agentHealth + "/readyz"})
	}
	for _, e := range endpoints {
		err := c.Programs.await(ctx, e.what, func(ctx context.Context) (bool, error) {
			return healthy(ctx, e.namespace, e.url)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// healthy asks a health endpoint, from a namespace.
func healthy(ctx context.Context, namespace, url string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, fmt.Errorf("asking %s: %w", url, err)
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: network.Transport(namespace)}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s says %s", url, response.Status)
	}
	return true, nil
}
