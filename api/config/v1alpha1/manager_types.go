package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func init() { register(&ManagerConfiguration{}) }

// ManagerConfiguration is the configuration file of the manager. Every field may be left out; the zero value
// means the default that its comment names.
//
// +kubebuilder:object:root=true
type ManagerConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// Mode says whether kube-controller-manager's Service controllers are switched off (Replace) or still run
	// beside this manager (Coexist). Default: Replace.
	Mode Mode `json:"mode,omitempty"`

	// Controllers lists the controllers to run: a name turns one on, "*" all, "-name" one off. A name stands
	// for itself wherever in the list it is. Default: "*".
	Controllers []string `json:"controllers,omitempty"`

	// ClusterID tells this cluster's resources in a cloud apart from another's: at most 63 letters, digits,
	// '-', '_' and '.'. It must never change while anything made under it exists. Default: the UID of the
	// namespace kube-system, read when the manager starts.
	ClusterID string `json:"clusterID,omitempty"`

	// NodePortRange is the API server's --service-node-port-range, as first-last. Default: 30000-32767.
	NodePortRange string `json:"nodePortRange,omitempty"`

	// EndpointSlice tunes the controller endpointslice.
	EndpointSlice EndpointSlice `json:"endpointSlice,omitempty"`

	// Endpoints tunes the controller endpoints.
	Endpoints Endpoints `json:"endpoints,omitempty"`

	// EndpointSelector bounds what EndpointSelectors can do.
	EndpointSelector EndpointSelector `json:"endpointSelector,omitempty"`

	// Cloud says where load balancers come from.
	Cloud Cloud `json:"cloud,omitempty"`

	// LeaderElection keeps all but one of several managers waiting.
	LeaderElection LeaderElection `json:"leaderElection,omitempty"`

	// Metrics is the endpoint /metrics.
	Metrics Metrics `json:"metrics,omitempty"`

	// Health is the endpoint of /healthz and /readyz.
	Health Health `json:"health,omitempty"`

	// NodeReports is how the node agents are asked what listens on node ports.
	NodeReports NodeReports `json:"nodeReports,omitempty"`

	// Webhook is where the API server reaches the manager's webhooks.
	Webhook Webhook `json:"webhook,omitempty"`

	// ClientConnection is how the manager reaches the API server.
	ClientConnection ClientConnection `json:"clientConnection,omitempty"`
}

// Mode is how the manager shares the cluster with the controllers that Kubernetes brings along.
type Mode string

const (
	// ModeReplace: kube-controller-manager's endpoint controllers and the cloud's service controller are off,
	// and every Service is ours.
	ModeReplace Mode = "Replace"
	// ModeCoexist: they run, and only Services that ask for us are ours.
	ModeCoexist Mode = "Coexist"
)

// EndpointSelector bounds what EndpointSelectors can do.
type EndpointSelector struct {
	// AllowedCIDRs are the ranges of the secondary networks on which Pods may be served. The annotation that names a
	// Pod's addresses there can be written by whoever may write Pods, and whether an address is really that Pod's
	// cannot be told: a range that also holds addresses of nodes, of other systems or of networks that tenants share
	// lets one tenant send a Service's clients to another's. Empty: EndpointSelectors of a network are not accepted.
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`
}

// EndpointSlice tunes the controller endpointslice.
type EndpointSlice struct {
	// MaxEndpointsPerSlice is the size of a full slice, 1 to 1000. Nil: 100.
	MaxEndpointsPerSlice *int32 `json:"maxEndpointsPerSlice,omitempty"`

	// MaxBatchDelay bounds how long a change of a Service that changes over and over waits for others to be written
	// with it: longer means fewer writes of each Service, and later. The first change after a quiet time never waits;
	// after a write of one slice the next one waits up to a fifth of this, after one of five or more up to the whole. It
	// waits longer only while the API server takes longer than this for a write. 0s writes every change by itself; at
	// most 1m. Nil: 200ms.
	MaxBatchDelay *metav1.Duration `json:"maxBatchDelay,omitempty"`

	// ConcurrentSyncs is how many Services are worked on at once, 1 to 1000. Nil: 5.
	ConcurrentSyncs *int32 `json:"concurrentSyncs,omitempty"`
}

// Endpoints tunes the controller endpoints.
type Endpoints struct {
	// MaxBatchDelay is as for endpointSlice, but that changes which only add addresses to others wait three times as
	// long. Nil: 3s, since every write is of the whole object, and who still reads Endpoints can wait.
	MaxBatchDelay *metav1.Duration `json:"maxBatchDelay,omitempty"`

	// ConcurrentSyncs is how many Services are worked on at once, 1 to 1000. Nil: 5.
	ConcurrentSyncs *int32 `json:"concurrentSyncs,omitempty"`
}

// Cloud says which provider serves load balancers and how it is reached.
type Cloud struct {
	// Provider serves the Services without a loadBalancerClass where no LoadBalancerClass is the default one
	// (in mode Replace only). Empty: nobody does.
	Provider string `json:"provider,omitempty"`

	// ConfigFile is a file in the provider's own format. Empty: the provider does without.
	ConfigFile string `json:"configFile,omitempty"`

	// Fake configures the provider "fake". Nil: its defaults.
	Fake *FakeCloud `json:"fake,omitempty"`

	// Plugins are providers in processes of their own. The manager starts without them, and finds them when they come.
	Plugins []CloudPlugin `json:"plugins,omitempty"`

	// Limits of accounts, by the name of the provider. A provider that is not named keeps to what it states itself.
	Limits map[string]CloudLimits `json:"limits,omitempty"`
}

// CloudPlugin is a provider in a process of its own, beside the manager.
type CloudPlugin struct {
	// Name of the provider, as classes and cloud.provider name it: a DNS label that no other provider has.
	Name string `json:"name"`

	// Socket is the absolute path of the unix socket that the plugin listens on. The manager must be the plugin's user, or
	// root.
	Socket string `json:"socket"`

	// Timeout is how long a call may take, 1s to 4m. Nil: 1m.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// FakeCloud configures the cloud that exists only for trials and tests.
type FakeCloud struct {
	// Endpoint is where the fake cloud listens: http://host:port, or unix:///path. Empty: a cloud inside the
	// manager itself, whose balancers forward nothing and are forgotten when the manager ends.
	Endpoint string `json:"endpoint,omitempty"`
}

// LeaderElection is the lease that managers compete for.
type LeaderElection struct {
	// Enabled turns the election on. Nil: true.
	Enabled *bool `json:"enabled,omitempty"`

	// Namespace holds the Lease. Default: the namespace that the manager's Pod runs in, fairlead-system outside
	// of Pods.
	Namespace string `json:"namespace,omitempty"`

	// Name is the Lease's name. Default: fairlead-manager.
	Name string `json:"name,omitempty"`

	// LeaseDuration is how long a leader's claim stands after it was last renewed. Nil: 15s.
	LeaseDuration *metav1.Duration `json:"leaseDuration,omitempty"`

	// RenewDeadline is how long the leader tries to renew before it gives up; less than LeaseDuration. Nil: 10s.
	RenewDeadline *metav1.Duration `json:"renewDeadline,omitempty"`

	// RetryPeriod is how long everyone waits between tries; less than RenewDeadline. Nil: 2s.
	RetryPeriod *metav1.Duration `json:"retryPeriod,omitempty"`
}

// Metrics is the endpoint /metrics.
type Metrics struct {
	// BindAddress is host:port to listen on; "0" turns the endpoint off. Default: ":8443".
	BindAddress string `json:"bindAddress,omitempty"`

	// Secure serves HTTPS and asks the API server who the caller is and whether it may GET /metrics. Nil: true.
	Secure *bool `json:"secure,omitempty"`

	// CertDir holds tls.crt and tls.key, reread when they change. Empty: a certificate signed by itself, made
	// at every start.
	CertDir string `json:"certDir,omitempty"`
}

// Health is the endpoint of /healthz and /readyz, plain HTTP.
type Health struct {
	// BindAddress is host:port to listen on; "0" turns the endpoint off. Default: ":8081".
	BindAddress string `json:"bindAddress,omitempty"`
}

// NodeReports is how the manager asks the node agents which programs listen on node ports of Services.
type NodeReports struct {
	// Port is that of the agents' reportBindAddress. 0: nobody is asked.
	Port int32 `json:"port,omitempty"`

	// Interval is the time between two questions to one agent, 1s to 1h. Nil: 1m, which is how often agents look.
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// WebhookConfigurationName is that of the MutatingWebhookConfiguration that names the manager's webhooks. The manager keeps
// its caBundle, and whoever has the key of a certificate in it is the manager to the node agents.
const WebhookConfigurationName = "fairlead-manager"

// Webhook is the endpoint of the webhooks, HTTPS with a certificate that the manager keeps by itself. It is made for the
// hosts that the MutatingWebhookConfiguration names.
type Webhook struct {
	// BindAddress is host:port to listen on. Default: ":9443".
	BindAddress string `json:"bindAddress,omitempty"`
}

// ClientConnection is how a program reaches the API server. The defaults named here are the manager's.
type ClientConnection struct {
	// Kubeconfig is a file. Empty: what KUBECONFIG names, else ~/.kube/config, else the service account of the Pod
	// that the manager runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`

	// QPS is how many requests a second may be sent on average, watches and leader election apart; negative
	// leaves the limit to the API server's priority and fairness. Nil: 500.
	QPS *float32 `json:"qps,omitempty"`

	// Burst is how many requests may be sent at once after a quiet time; not below QPS. Nil: twice the QPS.
	Burst *int32 `json:"burst,omitempty"`
}
