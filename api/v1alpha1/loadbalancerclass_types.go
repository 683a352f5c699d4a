package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Policy says how far the manager may go with a balancer.
// +kubebuilder:validation:Enum=Apply;Plan;Retain
type Policy string

const (
	// PolicyApply creates, changes and deletes.
	PolicyApply Policy = "Apply"
	// PolicyPlan writes nothing to the cloud: the operations that would be done stand in the LoadBalancerRecord.
	PolicyPlan Policy = "Plan"
	// PolicyRetain creates and changes, and leaves everything in the cloud when the Service goes.
	PolicyRetain Policy = "Retain"
)

// Replacement says whether something that carries the balancer's address may be replaced, which changes the address.
// +kubebuilder:validation:Enum=Never;Recreate
type Replacement string

const (
	// ReplacementNever reports a change that would need a replacement, and leaves the balancer as it is.
	ReplacementNever Replacement = "Never"
	// ReplacementRecreate replaces, with an interruption where the cloud cannot hold both at once.
	ReplacementRecreate Replacement = "Recreate"
)

// NodePortsMode says who numbers the node ports of Services with allocateLoadBalancerNodePorts=false.
// +kubebuilder:validation:Enum=Auto;None
type NodePortsMode string

const (
	// NodePortsAuto gives each port of such a Service a node port, because the balancer sends to node ports.
	NodePortsAuto NodePortsMode = "Auto"
	// NodePortsNone leaves such Services without, which is what the flag says by itself.
	NodePortsNone NodePortsMode = "None"
)

// Targets says what a balancer sends to.
// +kubebuilder:validation:Enum=Nodes;Pods
type Targets string

const (
	// TargetsNodes sends to node ports, from where the dataplane goes on to Pods.
	TargetsNodes Targets = "Nodes"
	// TargetsPods sends to the Pods themselves, which must be reachable from where the balancer is.
	TargetsPods Targets = "Pods"
)

// LoadBalancerClass is a kind of load balancer that Services can ask for by spec.loadBalancerClass.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=lbc,categories=fairlead
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.className`
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.spec.provider`
// +kubebuilder:printcolumn:name="Default",type=boolean,JSONPath=`.spec.default`
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.spec.policy`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type LoadBalancerClass struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec LoadBalancerClassSpec `json:"spec"`
	// +optional
	Status LoadBalancerClassStatus `json:"status,omitempty"`
}

// LoadBalancerClassSpec says which balancers a class makes.
//
// +kubebuilder:validation:XValidation:rule="!has(self.parameters) || (self.provider in ['fake','aws','gcp','azure'] ? (self.provider == 'fake' ? has(self.parameters.fake) : self.provider == 'aws' ? has(self.parameters.aws) : self.provider == 'gcp' ? has(self.parameters.gcp) : has(self.parameters.azure)) : has(self.parameters.custom))",message="parameters must hold the member named as the provider (custom for a provider other than fake, aws, gcp, azure)",fieldPath=".parameters"
type LoadBalancerClassSpec struct {
	// className is the value of spec.loadBalancerClass of the Services that this class serves. It is a field, not the
	// object's name, because values such as service.k8s.aws/nlb cannot be names of objects. Immutable: a Service cannot
	// change its class either, and would be left without one.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="className is immutable: make another LoadBalancerClass"
	ClassName string `json:"className"`

	// provider is the name under which a provider is registered: fake, or that of a plugin. Immutable, since
	// the next provider would not know the resources of the one before.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="provider is immutable: make another LoadBalancerClass"
	Provider string `json:"provider"`

	// parameters are the provider's own. Omitted means the provider's defaults.
	// +optional
	Parameters *Parameters `json:"parameters,omitempty"`

	// nodePorts says whether Services of this class with allocateLoadBalancerNodePorts=false get node ports all the
	// same. None, the default, is what that flag asks for by itself.
	// +optional
	// +kubebuilder:default=None
	NodePorts NodePortsMode `json:"nodePorts,omitempty"`

	// targets says what balancers of this class send to, for Services that do not say otherwise by the annotation
	// fairlead.dev/targets: Nodes, by node ports, or Pods, where the provider can, without node ports. A Service that
	// changes over keeps its address.
	// +optional
	// +kubebuilder:default=Nodes
	Targets Targets `json:"targets,omitempty"`

	// policy is what may be done in the cloud for Services that do not say otherwise by the annotation
	// fairlead.dev/policy.
	// +optional
	// +kubebuilder:default=Apply
	Policy Policy `json:"policy,omitempty"`

	// replacement says whether a balancer may lose its address to a change that cannot be made in place, for Services
	// that do not say otherwise by the annotation fairlead.dev/replacement.
	// +optional
	// +kubebuilder:default=Never
	Replacement Replacement `json:"replacement,omitempty"`

	// adoption says which balancers that are there already the Services of this class may take over. Omitted means those
	// whose owner consents by a tag in the cloud.
	// +optional
	Adoption *Adoption `json:"adoption,omitempty"`

	// default makes this the class of Services that name none. A Service keeps the class that it was first served by.
	// Of several defaults the oldest counts; the others have Accepted=False. Not heeded in coexist mode, where another
	// controller serves Services without a class.
	// +optional
	// +kubebuilder:default=false
	Default bool `json:"default,omitempty"`
}

// TakeOver says what becomes of a balancer that another controller made for a Service.
// +kubebuilder:validation:Enum=Offer;Automatic
type TakeOver string

const (
	// TakeOverOffer tells of it, and makes nothing until the Service says by the annotation fairlead.dev/adopt what to do.
	TakeOverOffer TakeOver = "Offer"
	// TakeOverAutomatic adopts it, where there is one only.
	TakeOverAutomatic TakeOver = "Automatic"
)

// Adoption of balancers that are there already.
type Adoption struct {
	// grants stand for the consent of a balancer's owner, where the balancer itself has no tag that says so. The Service has
	// to ask for it, too, by the annotation fairlead.dev/adopt.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(g, g.ids.all(id, self.exists_one(other, id in other.ids)))",message="an id is granted to one Service only"
	Grants []AdoptionGrant `json:"grants,omitempty"`

	// takeOver says what becomes of a balancer that another controller made for a Service of this class. Offer, the default,
	// tells of it.
	// +optional
	// +kubebuilder:default=Offer
	TakeOver TakeOver `json:"takeOver,omitempty"`
}

// AdoptionGrant lets one Service adopt a balancer.
type AdoptionGrant struct {
	// namespace and name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// ids of balancers, as the cloud gives them. It adopts one of them.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="self != 'None'",message="None is no id"
	IDs []string `json:"ids"`
}

// Parameters holds exactly one member: the one that belongs to the provider.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:MaxProperties=1
type Parameters struct {
	// +optional
	Fake *FakeParameters `json:"fake,omitempty"`
	// +optional
	AWS *AWSParameters `json:"aws,omitempty"`
	// +optional
	GCP *GCPParameters `json:"gcp,omitempty"`
	// +optional
	Azure *AzureParameters `json:"azure,omitempty"`
	// custom is for providers that this API does not know. The provider checks the keys.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Custom map[string]string `json:"custom,omitempty"`
}

// Scheme says from where a balancer is reached.
// +kubebuilder:validation:Enum=Internal;External
type Scheme string

// Schemes: reached from the network of the nodes alone, or from the internet.
const (
	SchemeInternal Scheme = "Internal"
	SchemeExternal Scheme = "External"
)

// FakeParameters are those of the fake cloud, which the playground and the tests use.
type FakeParameters struct {
	// pool names the pool that addresses come from. Omitted means the cloud's first pool of the family.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Pool string `json:"pool,omitempty"`

	// healthCheckIntervalSeconds is the time between two health checks of a node. Omitted means 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=300
	HealthCheckIntervalSeconds int32 `json:"healthCheckIntervalSeconds,omitempty"`

	// unhealthyThreshold is the number of failed checks in a row that take a node out; as many passed ones bring it
	// back. Omitted means 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	UnhealthyThreshold int32 `json:"unhealthyThreshold,omitempty"`

	// ipMode is published with the address: VIP (nodes may answer for it themselves) or Proxy (they must not). Omitted
	// means VIP.
	// +optional
	// +kubebuilder:validation:Enum=VIP;Proxy
	IPMode corev1.LoadBalancerIPMode `json:"ipMode,omitempty"`
}

// AWSParameters are those of network load balancers on AWS.
//
// +kubebuilder:validation:XValidation:rule="!has(self.disableSecurityGroups) || !self.disableSecurityGroups || !has(self.securityGroups) && !has(self.prefixLists) && (!has(self.manageNodeSecurityGroups) || !self.manageNodeSecurityGroups)",message="without security groups there are neither groups nor prefix lists, and nothing that nodes could let in",fieldPath=".disableSecurityGroups"
// +kubebuilder:validation:XValidation:rule="!has(self.securityGroups) || !has(self.prefixLists)",message="security groups that are given are not changed: leave out one of them",fieldPath=".prefixLists"
// +kubebuilder:validation:XValidation:rule="!has(self.capacityUnits) || !has(self.tls)",message="AWS reserves no capacity for balancers with TLS",fieldPath=".capacityUnits"
type AWSParameters struct {
	// region, omitted: that of the manager's configuration.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Region string `json:"region,omitempty"`
	// +optional
	Scheme Scheme `json:"scheme,omitempty"`
	// subnets by id, or by name, which is their tag Name. Omitted means those tagged for balancers of the scheme.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^[^,]+$`
	// +kubebuilder:validation:items:MaxLength=256
	Subnets []string `json:"subnets,omitempty"`
	// ipAddressType of balancers. Omitted means DualStack for Services with IPv6, else IPv4.
	// +optional
	// +kubebuilder:validation:Enum=IPv4;DualStack
	IPAddressType string `json:"ipAddressType,omitempty"`
	// crossZone makes each zone's addresses send to the nodes of all zones.
	// +optional
	CrossZone *bool `json:"crossZone,omitempty"`
	// securityGroups by id, or by name, which is their tag Name. They are not changed. Omitted means one that is made.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=5
	// +kubebuilder:validation:items:Pattern=`^[^,]+$`
	// +kubebuilder:validation:items:MaxLength=256
	SecurityGroups []string `json:"securityGroups,omitempty"`
	// prefixLists by id, of clients that may connect, beside the source ranges of a Service.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^pl-[0-9a-f]+$`
	PrefixLists []string `json:"prefixLists,omitempty"`
	// disableSecurityGroups makes balancers without security groups. They cannot have any later.
	// +optional
	DisableSecurityGroups bool `json:"disableSecurityGroups,omitempty"`
	// manageNodeSecurityGroups lets balancers in to the nodes, by rules in the nodes' security groups, which are not changed otherwise.
	// +optional
	ManageNodeSecurityGroups bool `json:"manageNodeSecurityGroups,omitempty"`
	// pathMTUDiscovery lets ICMP's "fragmentation needed" in, from where clients are.
	// +optional
	PathMTUDiscovery bool `json:"pathMTUDiscovery,omitempty"`
	// nodeLabels that a node must have, all of them, to be a target. Omitted means all nodes.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	NodeLabels map[string]string `json:"nodeLabels,omitempty"`
	// capacityUnits that are reserved for each balancer. Omitted means that none are, and that what is reserved otherwise is left alone.
	// +optional
	// +kubebuilder:validation:Minimum=1
	CapacityUnits int32 `json:"capacityUnits,omitempty"`
	// deletionProtection is switched on where it is true, and never off: nothing deletes the balancer before somebody does.
	// +optional
	DeletionProtection bool `json:"deletionProtection,omitempty"`
	// proxyProtocol has targets get the PROXY protocol, version 2.
	// +optional
	ProxyProtocol bool `json:"proxyProtocol,omitempty"`
	// proxyProtocolPorts are ports of Services whose targets get the PROXY protocol, where not all do.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	ProxyProtocolPorts []int32 `json:"proxyProtocolPorts,omitempty"`
	// tcpUDPListeners has ports of one number that are TCP and UDP have one listener for both. Omitted means true; without it such
	// Services are refused.
	// +optional
	TCPUDPListeners *bool `json:"tcpUDPListeners,omitempty"`
	// quicPorts are ports of protocol UDP whose listeners are QUIC. Only for Services that send to Pods, and with
	// disableSecurityGroups.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	QUICPorts []int32 `json:"quicPorts,omitempty"`
	// idleTimeoutSeconds after which listeners of TCP forget a connection. Omitted means 350.
	// +optional
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=6000
	IdleTimeoutSeconds int32 `json:"idleTimeoutSeconds,omitempty"`
	// tls of listeners. Omitted means none.
	// +optional
	TLS *AWSTLS `json:"tls,omitempty"`
	// healthCheck of targets. What it leaves out has the defaults of the provider.
	// +optional
	HealthCheck *AWSHealthCheck `json:"healthCheck,omitempty"`
	// attributes of the balancer, by AWS's names.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Attributes map[string]string `json:"attributes,omitempty"`
	// targetGroupAttributes are those of all target groups, by AWS's names.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	TargetGroupAttributes map[string]string `json:"targetGroupAttributes,omitempty"`
	// tags on everything that is made, beside those of the manager's own.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Tags map[string]string `json:"tags,omitempty"`
}

// AWSTLS is TLS on network load balancers.
type AWSTLS struct {
	// certificateARN is that of the default certificate.
	// +kubebuilder:validation:Pattern=`^arn:[a-z-]+:(acm|iam):`
	// +kubebuilder:validation:MaxLength=2048
	CertificateARN string `json:"certificateARN"`
	// additionalCertificateARNs are those of certificates for clients that ask for their names (SNI).
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=25
	// +kubebuilder:validation:items:Pattern=`^arn:[a-z-]+:(acm|iam):`
	// +kubebuilder:validation:items:MaxLength=2048
	AdditionalCertificateARNs []string `json:"additionalCertificateARNs,omitempty"`
	// ports of the Service that are TLS. Omitted means all of protocol TCP.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	Ports []int32 `json:"ports,omitempty"`
	// policy names the protocols and ciphers. Omitted means AWS's default.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Policy string `json:"policy,omitempty"`
	// alpnPolicy says which protocol is agreed upon.
	// +optional
	// +kubebuilder:validation:Enum=HTTP1Only;HTTP2Only;HTTP2Optional;HTTP2Preferred;None
	ALPNPolicy string `json:"alpnPolicy,omitempty"`
	// backend has the balancer speak TLS to targets, too.
	// +optional
	Backend bool `json:"backend,omitempty"`
}

// AWSHealthCheck is how targets are checked. Where externalTrafficPolicy is Local the defaults are those of a check of the
// Service's healthCheckNodePort.
type AWSHealthCheck struct {
	// protocol of the check. Omitted means TCP.
	// +optional
	// +kubebuilder:validation:Enum=TCP;HTTP;HTTPS
	Protocol string `json:"protocol,omitempty"`
	// port that is checked. Omitted means the one that traffic is sent to.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// path that is asked for, of HTTP and HTTPS. Omitted means /.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
	// successCodes of HTTP and HTTPS. Omitted means 200-399.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	SuccessCodes string `json:"successCodes,omitempty"`
	// healthyThreshold is how many checks in a row bring a target in. Omitted means 3.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=10
	HealthyThreshold int32 `json:"healthyThreshold,omitempty"`
	// unhealthyThreshold is how many failed checks in a row take a target out. Omitted means 3.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=10
	UnhealthyThreshold int32 `json:"unhealthyThreshold,omitempty"`
	// timeoutSeconds of one check, at most the interval. Omitted means 10.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=120
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// intervalSeconds between two checks. Omitted means 10.
	// +optional
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=300
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
}

// NetworkTier of an external address on GCP.
// +kubebuilder:validation:Enum=Premium;Standard
type NetworkTier string

// NetworkTiers: over Google's own network as far as that goes, or over the internet.
const (
	NetworkTierPremium  NetworkTier = "Premium"
	NetworkTierStandard NetworkTier = "Standard"
)

// GCPParameters are those of passthrough network load balancers on GCP.
//
// +kubebuilder:validation:XValidation:rule="!has(self.networkTier) || self.networkTier == 'Premium' || !has(self.scheme) || self.scheme == 'External'",message="an internal balancer has no network tier",fieldPath=".networkTier"
// +kubebuilder:validation:XValidation:rule="!has(self.globalAccess) || !self.globalAccess || (has(self.scheme) && self.scheme == 'Internal')",message="global access is of internal balancers only",fieldPath=".globalAccess"
// +kubebuilder:validation:XValidation:rule="!has(self.strongSessionAffinity) || !self.strongSessionAffinity || !has(self.scheme) || self.scheme == 'External'",message="strong session affinity is of external balancers only",fieldPath=".strongSessionAffinity"
type GCPParameters struct {
	// project that balancers are made in. Omitted means that of the manager's configuration; another one is refused.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Project string `json:"project,omitempty"`
	// region that balancers are made in. Omitted means that of the manager's configuration; another one is refused.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Region string `json:"region,omitempty"`
	// scheme says from where balancers are reached. Omitted means External.
	// +optional
	Scheme Scheme `json:"scheme,omitempty"`
	// subnetwork that an internal address, or one of IPv6, comes from. Omitted means that of the manager's configuration.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Subnetwork string `json:"subnetwork,omitempty"`
	// globalAccess lets clients of other regions reach an internal address.
	// +optional
	GlobalAccess *bool `json:"globalAccess,omitempty"`
	// networkTier of an external IPv4 address. Omitted means Premium.
	// +optional
	NetworkTier NetworkTier `json:"networkTier,omitempty"`
	// addresses are names of reserved addresses, one for each family of the Service, which balancers use and never change
	// or delete. Omitted means that one is reserved for each balancer.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Addresses []string `json:"addresses,omitempty"`
	// weighted has nodes get traffic as they have Pods. Only for Services with externalTrafficPolicy Local.
	// +optional
	Weighted *bool `json:"weighted,omitempty"`
	// strongSessionAffinity keeps a client of a Service with sessionAffinity ClientIP on its node for as long as the Service
	// says, also while nodes come.
	// +optional
	StrongSessionAffinity *bool `json:"strongSessionAffinity,omitempty"`
	// drainingSeconds for which connections to a node that leaves go on. Omitted means 30.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	DrainingSeconds *int32 `json:"drainingSeconds,omitempty"`
	// instanceGroups that balancers send to, each as its zone, a slash and its name. Somebody else keeps the nodes in them.
	// Omitted means endpoint groups that follow the nodes.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MaxLength=127
	// +kubebuilder:validation:items:Pattern=`^[a-z][-a-z0-9]*/[a-z]([-a-z0-9]*[a-z0-9])?$`
	InstanceGroups []string `json:"instanceGroups,omitempty"`
}

// AzureParameters are those of standard load balancers on Azure.
type AzureParameters struct {
	// resourceGroup of public addresses that Services name or ask for. Omitted means that of the manager's configuration.
	// +optional
	// +kubebuilder:validation:MaxLength=90
	ResourceGroup string `json:"resourceGroup,omitempty"`
	// +optional
	Scheme Scheme `json:"scheme,omitempty"`
	// subnet that an internal address comes from.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Subnet string `json:"subnet,omitempty"`
	// idleTimeoutMinutes after which an idle connection is dropped.
	// +optional
	// +kubebuilder:validation:Minimum=4
	// +kubebuilder:validation:Maximum=100
	IdleTimeoutMinutes *int32 `json:"idleTimeoutMinutes,omitempty"`
	// tcpReset, where false, has idle connections dropped without a reset. Omitted means true.
	// +optional
	TCPReset *bool `json:"tcpReset,omitempty"`
	// floatingIP, where false, has balancers send to node ports, rather than to their own address and port on the node.
	// Omitted means true.
	// +optional
	FloatingIP *bool `json:"floatingIP,omitempty"`
	// publicIPPrefix that IPv4 addresses are taken from, by id, where a Service names none. Omitted means Azure's own.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	PublicIPPrefix string `json:"publicIPPrefix,omitempty"`
	// publicIPPrefixIPv6 is the same for IPv6.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	PublicIPPrefixIPv6 string `json:"publicIPPrefixIPv6,omitempty"`
	// tags of the public addresses that are made. No name has a comma or =, and no value a comma.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(name, !name.contains(',') && !name.contains('='))",message="the name of a tag has no comma and no ="
	Tags map[string]string `json:"tags,omitempty"`
	// healthProbe of nodes. What it leaves out has the defaults of the provider.
	// +optional
	HealthProbe *AzureHealthProbe `json:"healthProbe,omitempty"`
}

// AzureHealthProbe is how nodes are probed.
// +kubebuilder:validation:XValidation:rule="!has(self.intervalSeconds) || !has(self.threshold) || self.intervalSeconds * self.threshold <= 120",message="intervalSeconds times threshold is 120 at most",fieldPath=".threshold"
type AzureHealthProbe struct {
	// protocol of probes of an application's own port. Those of Services with externalTrafficPolicy Local, or of UDP alone, ask the
	// node at /healthz whatever the class says. Omitted means TCP.
	// +optional
	// +kubebuilder:validation:Enum=TCP;HTTP;HTTPS
	Protocol string `json:"protocol,omitempty"`
	// path that probes of an application's own port ask for, of HTTP and HTTPS. Omitted means /.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
	// intervalSeconds between two probes. Omitted means 5.
	// +optional
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=120
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
	// threshold is how many probes in a row take a node out, or bring it back. Omitted means 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	Threshold int32 `json:"threshold,omitempty"`
}

// LoadBalancerClassStatus is what the manager made of a class.
type LoadBalancerClassStatus struct {
	// conditions: Accepted.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// orphans are what the provider has of Services of this cluster that are gone, or have no balancer of it any more, and that no
	// LoadBalancerRecord knows there; the first hundred by kind and id. Of several classes with one provider the oldest has them.
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=100
	Orphans []Orphan `json:"orphans,omitempty"`
}

// Orphan is something in a cloud that carries the cluster's mark and whose Service is gone, or has no balancer of its provider any more,
// by what is left of Services and LoadBalancerRecords. It is deleted when somebody says so, see the annotation fairlead.dev/delete-orphans.
type Orphan struct {
	// kind is the provider's word for it.
	Kind string `json:"kind"`
	// id that the cloud knows it by.
	ID string `json:"id"`
	// key tells it from others of its kind and Service.
	// +optional
	Key string `json:"key,omitempty"`
	// serviceUIDs of the Services that had it, sorted.
	// +optional
	// +listType=set
	ServiceUIDs []types.UID `json:"serviceUIDs,omitempty"`
	// since when it is seen.
	Since metav1.Time `json:"since"`
}

// LoadBalancerClassList is a list of LoadBalancerClass.
// +kubebuilder:object:root=true
type LoadBalancerClassList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LoadBalancerClass `json:"items"`
}
