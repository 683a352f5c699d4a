package v1alpha1

// Annotations on Services. What a Service says overrides what its class says.
const (
	// AnnotationPrefix begins every annotation of ours. One that begins so and is not listed here, or in package topology,
	// is an error, since it can only be a typing mistake.
	AnnotationPrefix = "fairlead.dev/"
	// AnnotationPolicy is Apply, Plan or Retain (see Policy). In force before the first call to the cloud.
	AnnotationPolicy = "fairlead.dev/policy"
	// AnnotationReplacement is Never or Recreate (see Replacement).
	AnnotationReplacement = "fairlead.dev/replacement"
	// AnnotationTargets is Nodes or Pods (see Targets).
	AnnotationTargets = "fairlead.dev/targets"
	// AnnotationAdopt is the id of an existing balancer to adopt, with its owner's consent; or AdoptNone, to have one made
	// though another controller made one for the Service.
	AnnotationAdopt = "fairlead.dev/adopt"
	AdoptNone       = "None"
	// AnnotationTold, on a LoadBalancerRecord, is what an opaque provider was last told, in the provider's own form. The
	// manager writes it.
	AnnotationTold = "fairlead.dev/told"
	// AnnotationServedBy says which provider and class serve the Service with this UID, and under which policy, for the case
	// that its LoadBalancerRecord is lost. The manager writes it together with FinalizerLoadBalancer, and takes it off with
	// that. It begins otherwise than the rest, or a manager from before it would take it for a typing mistake.
	AnnotationServedBy = "loadbalancer.fairlead.dev/served-by"
	// AnnotationShare names the group of Services, within one namespace, that share one balancer.
	AnnotationShare = "fairlead.dev/share"
	// AnnotationSourceRanges is upstream's older form of spec.loadBalancerSourceRanges: CIDRs separated by commas.
	AnnotationSourceRanges = "service.beta.kubernetes.io/load-balancer-source-ranges"
)

// ClassPrefix begins values of spec.loadBalancerClass that are no other controller's: a Service that names such a class, where no
// LoadBalancerClass has it, is told so.
const ClassPrefix = "fairlead.dev/"

// TagAdoptableBy, on a balancer in a cloud, lets the Service that its value names adopt it: cluster id, namespace and name,
// with slashes between.
const TagAdoptableBy = "fairlead.dev/adoptable-by"

// AnnotationDeleteOrphans, on a LoadBalancerClass, has the orphans with these ids deleted, separated by commas, as far as they
// are in its status. The manager removes it once it is done with all of them.
const AnnotationDeleteOrphans = "fairlead.dev/delete-orphans"

// LabelTopologyHints, with the value "true" on a Service, has its topology mode served in coexist mode, where
// kube-controller-manager writes the Service's EndpointSlices and copies the label to them. In replace mode it means
// nothing.
const LabelTopologyHints = "fairlead.dev/topology-hints"

// ReadinessGatePrefix and the name of a Service make the conditionType of a Pod's readinessGate: the Pod is not ready before
// the balancer of that Service, which sends to Pods, finds it healthy.
const ReadinessGatePrefix = "target-health.fairlead.dev/"

// LabelReadinessGates, with the value "enabled" on a Namespace or a Pod, has new Pods get a readiness gate for each Service
// that picks them and sends to Pods. "disabled" on a Pod excepts it.
const LabelReadinessGates = "fairlead.dev/readiness-gates"

// FinalizerLoadBalancer is the finalizer that upstream's service controller uses. Ours takes the same one, so that
// either can take over from the other without an edit.
const FinalizerLoadBalancer = "service.kubernetes.io/load-balancer-cleanup"

// Condition types.
const (
	// ConditionAccepted, on a LoadBalancerClass: its provider is known and its parameters are understood. On an
	// EndpointSelector: it is understood and it has the Service that it names. On a NodePortPool: it has every port of
	// its ranges.
	ConditionAccepted = "Accepted"
	// ConditionAvailable, on a NodePortPool: there is a port for the next Service.
	ConditionAvailable = "Available"
	// ConditionExclusive, on a NodePortPool: only Services of its namespaces have its ports, those have no others, and no
	// two have the same.
	ConditionExclusive = "Exclusive"
	// ConditionProgrammed, on an EndpointSelector: every Pod that it picks is in the Service's EndpointSlices, with the
	// exception of groups that stand by.
	ConditionProgrammed = "Programmed"
	// ConditionReady, on a LoadBalancerRecord: the cloud has what the Service asks for.
	ConditionReady = "Ready"
	// ConditionLoadBalancerReady, on a Service: the same as ConditionReady of its record, where users look first.
	ConditionLoadBalancerReady = "fairlead.dev/LoadBalancerReady"
	// ConditionNodePortsUnique, on a Service: False while an older Service has one of its node ports. A Service to which
	// that never happened has no such condition.
	ConditionNodePortsUnique = "fairlead.dev/NodePortsUnique"
	// ConditionNodePortsClear, on a Service: False while a program on a node listens where one of its node ports, or its
	// healthCheckNodePort, is served. A Service to which that never happened has no such condition.
	ConditionNodePortsClear = "fairlead.dev/NodePortsClear"
	// ConditionNodePortsAllocated, on a Service of a class with nodePorts Auto: every port has a node port.
	ConditionNodePortsAllocated = "fairlead.dev/NodePortsAllocated"
	// ConditionPortsResolved, on a Service: False while a named targetPort is on none, or not on all, of its Pods. A
	// Service that never had such a port has no such condition.
	ConditionPortsResolved = "fairlead.dev/PortsResolved"
	// ConditionTopologyHints, on a Service with a topology mode: True while its endpoints have hints.
	ConditionTopologyHints = "fairlead.dev/TopologyHints"
	// ConditionSliceOwnershipConflict, on a Service: True while its EndpointSlices are not written for ten minutes,
	// because someone else overwrote one of them three times within a minute. A Service to which that never happened
	// has no such condition.
	ConditionSliceOwnershipConflict = "fairlead.dev/SliceOwnershipConflict"
)

// Reasons of ConditionAccepted.
const (
	ReasonAccepted = "Accepted"
	// ReasonProviderUnknown: the manager has no provider of that name.
	ReasonProviderUnknown = "ProviderUnknown"
	// ReasonProviderNotStarted: the manager has the provider, and it does not start, as the message says. It is tried again.
	ReasonProviderNotStarted = "ProviderNotStarted"
	// ReasonInvalidParameters: the provider, or its cloud, refuses the class's parameters.
	ReasonInvalidParameters = "InvalidParameters"
	// ReasonProviderUnavailable: the provider, a plugin, cannot be asked. It is tried again.
	ReasonProviderUnavailable = "ProviderUnavailable"
	// ReasonDuplicate: an older LoadBalancerClass has the same className, or is the default already.
	ReasonDuplicate = "Duplicate"
)

// Reasons of ConditionAccepted on an EndpointSelector, beside ReasonAccepted. What is not accepted changes nothing: the
// endpoints that are there stay, but for those of Pods that go.
const (
	// ReasonServiceNotFound: there is no Service of that name.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonServiceHasSelector: the Service picks its endpoints itself. Those of the EndpointSelector are gone, or
	// clients would reach both.
	ReasonServiceHasSelector = "ServiceHasSelector"
	// ReasonServiceIsExternalName: such a Service has no endpoints.
	ReasonServiceIsExternalName = "ServiceIsExternalName"
	// ReasonServiceReserved: the endpoints of default/kubernetes are the API servers.
	ReasonServiceReserved = "ServiceReserved"
	// ReasonServiceTaken: an older EndpointSelector has the Service.
	ReasonServiceTaken = "ServiceTaken"
	// ReasonInvalidSelector: a selector cannot be read.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonNetworksNotAllowed: the manager's configuration allows no secondary networks.
	ReasonNetworksNotAllowed = "NetworksNotAllowed"
	// ReasonNetworkUnknown: none of the Pods is on the network.
	ReasonNetworkUnknown = "NetworkUnknown"
)

// Reasons of ConditionProgrammed.
const (
	ReasonProgrammed = "Programmed"
	// ReasonNotAccepted: see the condition Accepted.
	ReasonNotAccepted = "NotAccepted"
	// ReasonAddressesExcluded: Pods have addresses on the network that must not be served. The others are.
	ReasonAddressesExcluded = "AddressesExcluded"
	// ReasonPodsLeftOut: some Pods have no address on the network, or none of the Service's families, or their node is
	// not known. The others are served.
	ReasonPodsLeftOut = "PodsLeftOut"
	// ReasonSliceOwnershipConflict: see the condition of the Service.
	ReasonSliceOwnershipConflict = "SliceOwnershipConflict"
	// ReasonWriteFailed: the API server refused a slice. It is tried again.
	ReasonWriteFailed = "WriteFailed"
)

// Reasons of ConditionReady and ConditionLoadBalancerReady.
const (
	ReasonEnsured = "Ensured"
	// ReasonPending: the cloud works on it and has refused nothing.
	ReasonPending = "Pending"
	// ReasonPlanned: the policy is Plan and the plan, which stands in the record, is not empty.
	ReasonPlanned = "Planned"
	// ReasonClassNotAccepted: the class of the Service has Accepted=False.
	ReasonClassNotAccepted = "ClassNotAccepted"
	// ReasonInvalidService: the Service asks for something that the provider cannot do, or an annotation is wrong. The
	// balancer that runs is left as it is.
	ReasonInvalidService = "InvalidService"
	// ReasonReplacementNeeded: only a new balancer, with a new address, could do it, and replacement is Never. Nothing else of
	// the balancer is changed, either, but what follows the cluster, such as targets.
	ReasonReplacementNeeded = "ReplacementNeeded"
	// ReasonReplacementRefused: a new balancer or address is needed and allowed, and the cloud would not give it, as the message
	// says. What there is stays, and but for what follows the cluster nothing of it is changed.
	ReasonReplacementRefused = "ReplacementRefused"
	// ReasonConflict: something foreign stands in the way, which is never changed, or the Services that share a balancer
	// ask for different things.
	ReasonConflict = "Conflict"
	// ReasonAdoptionRefused: the balancer that the Service is to adopt is not there, is somebody else's, or its owner does not
	// consent. A balancer that the Service has goes on.
	ReasonAdoptionRefused = "AdoptionRefused"
	// ReasonAdoptionOffered: another controller made a balancer for this Service. None is made beside it until somebody
	// decides, as the message says.
	ReasonAdoptionOffered = "AdoptionOffered"
	// ReasonQuotaExceeded: the account has no room left.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonThrottled: the cloud asked for fewer calls.
	ReasonThrottled = "Throttled"
	// ReasonCloudError: any other refusal, retried with a growing delay.
	ReasonCloudError = "CloudError"
	// ReasonDeleting: the resources are being released.
	ReasonDeleting = "Deleting"
	// ReasonRetained, on a LoadBalancerRecord: the Service is gone, or needs no balancer any more, and what it had stays in the
	// cloud under PolicyRetain. The condition is False: nobody sees to it.
	ReasonRetained = "Retained"
	// ReasonClassNotFound: the class that the Service names begins as ours do, and no LoadBalancerClass has it.
	ReasonClassNotFound = "ClassNotFound"
)

// Reasons of the condition of a Pod's readiness gate. Once it is True it stays so.
const (
	// ReasonHealthy: the balancer sends to the Pod.
	ReasonHealthy = "Healthy"
	// ReasonRegistered: the balancer has the Pod, and does not tell what it makes of it. The condition is True.
	ReasonRegistered = "Registered"
	// ReasonNotAwaited: there is no balancer of that Service that sends to Pods. The condition is True.
	ReasonNotAwaited = "NotAwaited"
	// ReasonContainersNotReady: the Pod is not offered to the balancer before its containers are ready.
	ReasonContainersNotReady = "ContainersNotReady"
	// ReasonNotRegistered: the balancer does not have the Pod yet.
	ReasonNotRegistered = "NotRegistered"
	// ReasonHealthUnknown: the balancer has the Pod, and no verdict yet.
	ReasonHealthUnknown = "HealthUnknown"
	// ReasonUnhealthy: the Pod fails the balancer's health check.
	ReasonUnhealthy = "Unhealthy"
)

// Reasons of ConditionNodePortsAllocated.
const (
	ReasonAllocated = "Allocated"
	// ReasonExhausted: the range of node ports has none left.
	ReasonExhausted = "Exhausted"
	// ReasonRefused: the API server refused the ports that were chosen for another reason than being taken.
	ReasonRefused = "Refused"
)

// Reasons of ConditionAccepted on a NodePortPool, beside ReasonAccepted. Ports that the pool does not have are left out;
// Services that have them keep them.
const (
	// ReasonOutsideRange: the API server does not hand out some of the ports.
	ReasonOutsideRange = "OutsideRange"
	// ReasonOverlap: an older pool has some of the ports.
	ReasonOverlap = "Overlap"
	// ReasonNotEnforced: the API server asks no webhook of the manager, and the pool is best effort, whatever it says.
	ReasonNotEnforced = "NotEnforced"
	// ReasonNoPorts: both, or either, leave none.
	ReasonNoPorts = "NoPorts"
)

// Reasons of ConditionAvailable, beside ReasonExhausted.
const (
	ReasonAvailable = "Available"
	// ReasonNearlyExhausted: four of five ports are taken. The condition is True.
	ReasonNearlyExhausted = "NearlyExhausted"
	// ReasonNamedOnly: the allocation is Static. The condition is True.
	ReasonNamedOnly = "NamedOnly"
)

// Reasons of ConditionExclusive.
const (
	ReasonExclusive = "Exclusive"
	// ReasonForeignServices: Services of other namespaces have ports of the pool. They keep them.
	ReasonForeignServices = "ForeignServices"
	// ReasonPortsElsewhere: Services of the pool's namespaces have ports that are in none of their pools, such as those
	// that a pool had before it was narrowed. They keep them.
	ReasonPortsElsewhere = "PortsElsewhere"
	// ReasonDuplicates: two Services have one port.
	ReasonDuplicates = "Duplicates"
)

// Reasons of ConditionNodePortsUnique.
const (
	// ReasonDuplicate, see above: the message names the port and the Service that keeps it.
	// ReasonMoved: the Service got other node ports.
	ReasonMoved = "Moved"
	// ReasonUnique: the other Service is gone or has another port.
	ReasonUnique = "Unique"
)

// Reasons of ConditionNodePortsClear.
const (
	// ReasonListener: the message names ports, nodes and programs.
	ReasonListener = "Listener"
	// ReasonClear: the programs, or the ports, are gone.
	ReasonClear = "Clear"
)

// Reasons of ConditionPortsResolved.
const (
	// ReasonTargetPortMissing: the message names Service port, targetPort, and the ports that the Pods have.
	ReasonTargetPortMissing = "TargetPortMissing"
	// ReasonResolved: every Pod has every targetPort.
	ReasonResolved = "Resolved"
)

// Reasons of ConditionSliceOwnershipConflict.
const (
	// ReasonOverwritten: the message names the field manager that writes, too.
	ReasonOverwritten = "Overwritten"
	// ReasonResumed: the slices are written again.
	ReasonResumed = "Resumed"
)

// Reasons of ConditionTopologyHints, beside those of package topology.
const (
	// ReasonNotLabelled: in coexist mode the Service needs LabelTopologyHints.
	ReasonNotLabelled = "NotLabelled"
	// ReasonHintsRemoved: in coexist mode someone takes hints off again, so that the webhook cannot be in place. Nothing is
	// written for ten minutes.
	ReasonHintsRemoved = "HintsRemoved"
)
