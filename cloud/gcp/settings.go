package gcp

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Annotations on Services that the provider reads: those of Google's own controllers, with their meaning.
const (
	annotationType          = "networking.gke.io/load-balancer-type"
	annotationTypeOlder     = "cloud.google.com/load-balancer-type"
	annotationRBS           = "cloud.google.com/l4-rbs"
	annotationTier          = "cloud.google.com/network-tier"
	annotationAddresses     = "networking.gke.io/load-balancer-ip-addresses"
	annotationSubnet        = "networking.gke.io/load-balancer-subnet"
	annotationSubnetOlder   = "networking.gke.io/internal-load-balancer-subnet"
	annotationGlobalAccess  = "networking.gke.io/internal-load-balancer-allow-global-access"
	annotationWeighted      = "networking.gke.io/weighted-load-balancing"
	annotationStrong        = "networking.gke.io/l4-strong-session-affinity"
	weightedByPods          = "pods-per-node"
	schemeInternal          = "INTERNAL"
	schemeExternal          = "EXTERNAL"
	defaultDrainingSeconds  = 30
	lowestStrongAffinity    = 60
	highestStrongAffinity   = 57600
	lowestDraining, longest = 0, 3600
)

// annotationPrefixes leave out what other controllers of Google's put on Services, such as cloud.google.com/neg.
var annotationPrefixes = []string{
	"networking.gke.io/load-balancer-", "networking.gke.io/internal-load-balancer-", "networking.gke.io/l4-", annotationWeighted,
	annotationTypeOlder, "cloud.google.com/l4-", annotationTier,
}

// Annotations is the table of docs/gcp.md. A test holds it to what is read.
var Annotations = []cloud.AnnotationDoc{
	{Key: annotationType, Values: "`Internal`, `External`", Default: "`External`",
		Meaning: "from where it is reached; `internal` means the same as `Internal`; parameter `scheme`"},
	{Key: annotationTypeOlder, Values: "`Internal`, `External`", Default: "`External`",
		Meaning: "older name of the same"},
	{Key: annotationRBS, Values: "`enabled`", Default: "",
		Meaning: "nothing: every balancer has a regional backend service"},
	{Key: annotationTier, Values: "`Premium`, `Standard`", Default: "`Premium`",
		Meaning: "network tier of an external IPv4 address; parameter `networkTier`"},
	{Key: annotationAddresses, Values: "names of reserved addresses, one for each family", Default: "one that is made",
		Meaning: "use these rather than addresses of ours; they are never changed or deleted; parameter `addresses`"},
	{Key: annotationSubnet, Values: "name of a subnetwork", Default: "that of the configuration",
		Meaning: "where an internal address, or one of IPv6, comes from; parameter `subnetwork`"},
	{Key: annotationSubnetOlder, Values: "name of a subnetwork", Default: "that of the configuration",
		Meaning: "older name of the same"},
	{Key: annotationGlobalAccess, Values: "`true`, `false`", Default: "`false`",
		Meaning: "clients of other regions reach an internal address; parameter `globalAccess`"},
	{Key: annotationWeighted, Values: "`pods-per-node`", Default: "all nodes alike",
		Meaning: "with `externalTrafficPolicy: Local`, nodes get traffic as they have Pods; parameter `weighted`"},
	{Key: annotationStrong, Values: "`true`, `false`", Default: "`false`",
		Meaning: "with `sessionAffinity: ClientIP`, a client of an external balancer stays on its node for as long as the Service says, 60 to 57600 seconds, also while nodes come; parameter `strongSessionAffinity`"},
}

// parameters are spec.parameters.gcp of a class.
type parameters struct {
	Project               string   `json:"project"`
	Region                string   `json:"region"`
	Scheme                string   `json:"scheme"`
	Subnetwork            string   `json:"subnetwork"`
	GlobalAccess          bool     `json:"globalAccess"`
	NetworkTier           string   `json:"networkTier"`
	Addresses             []string `json:"addresses"`
	Weighted              bool     `json:"weighted"`
	StrongSessionAffinity bool     `json:"strongSessionAffinity"`
	DrainingSeconds       int      `json:"drainingSeconds"`
	InstanceGroups        []string `json:"instanceGroups"`
}

// settings are what one Service asks for, in the API's words.
type settings struct {
	scheme        string // INTERNAL or EXTERNAL
	tier          string // PREMIUM or STANDARD; empty: internal
	subnetwork    string
	globalAccess  bool
	weighted      bool
	strongSeconds int // 0: no strong affinity
	draining      int
	// addresses are the names of reserved ones that the Service asks for, with commas between; ip is the address that it asks
	// for. At most one of them is set.
	addresses, ip  string
	instanceGroups []string // zone/name
}

var isName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString

// readSettings reads the class's parameters, and what annotations say instead. The error names everything that is wrong.
func readSettings(config *Config, spec *cloud.Spec) (settings, error) {
	given := parameters{Scheme: "External", NetworkTier: "Premium", DrainingSeconds: defaultDrainingSeconds}
	unread := cloud.DecodeParameters(spec.Parameters, &given)
	a := cloud.NewAnnotations(spec.Annotations, annotationPrefixes...)
	var rbs, weighted string
	if given.Weighted {
		weighted = weightedByPods
	}
	// Google's controllers take the lower case, too.
	cloud.Enum(a, annotationTypeOlder, &given.Scheme, "Internal", "External", "internal")
	cloud.Enum(a, annotationType, &given.Scheme, "Internal", "External", "internal")
	cloud.Enum(a, annotationRBS, &rbs, "enabled")
	cloud.Enum(a, annotationTier, &given.NetworkTier, "Premium", "Standard")
	a.List(annotationAddresses, &given.Addresses)
	a.String(annotationSubnetOlder, &given.Subnetwork)
	a.String(annotationSubnet, &given.Subnetwork)
	a.Bool(annotationGlobalAccess, &given.GlobalAccess)
	cloud.Enum(a, annotationWeighted, &weighted, weightedByPods)
	a.Bool(annotationStrong, &given.StrongSessionAffinity)
	s := settings{scheme: strings.ToUpper(given.Scheme), subnetwork: config.Subnetwork, globalAccess: given.GlobalAccess,
		weighted: weighted != "", draining: given.DrainingSeconds, instanceGroups: given.InstanceGroups}
	if s.scheme == schemeExternal {
		s.tier = strings.ToUpper(given.NetworkTier)
	}
	if given.Subnetwork != "" {
		s.subnetwork = given.Subnetwork
	}
	if given.StrongSessionAffinity {
		s.strongSeconds = int(spec.AffinitySeconds)
	}
	errs := append([]error{unread, a.Err()}, checkPlace(config, &given)...)
	errs = append(errs, checkSettings(spec, &s, &given)...)
	errs = append(errs, s.readAddresses(spec, given.Addresses))
	return s, cloud.UserErrors(errs...)
}

// checkPlace refuses another project or region than the one that the provider works in: what is made there would not be found.
func checkPlace(config *Config, given *parameters) []error {
	var errs []error
	if given.Project != "" && given.Project != config.Project {
		errs = append(errs, fmt.Errorf("parameter project: the manager works in project %q: leave it out", config.Project))
	}
	if given.Region != "" && given.Region != config.Region {
		errs = append(errs, fmt.Errorf("parameter region: the manager works in region %q: leave it out", config.Region))
	}
	return errs
}

// checkSettings refuses what cannot be together.
func checkSettings(spec *cloud.Spec, s *settings, given *parameters) []error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	internal := s.scheme == schemeInternal
	wrong(s.scheme != schemeInternal && s.scheme != schemeExternal, "parameter scheme: %q is not Internal or External", given.Scheme)
	wrong(!internal && s.tier != "PREMIUM" && s.tier != "STANDARD", "parameter networkTier: %q is not Premium or Standard", given.NetworkTier)
	wrong(internal && given.NetworkTier == "Standard", "an internal balancer has no network tier: remove %s, or networkTier in the class", annotationTier)
	wrong(!internal && s.globalAccess, "global access is of internal balancers only: remove %s, or globalAccess in the class", annotationGlobalAccess)
	wrong(s.tier == "STANDARD" && hasFamily(spec, cloud.IPv6), "IPv6 is of the Premium tier only: remove %s, or networkTier in the class", annotationTier)
	wrong(s.weighted && !spec.LocalOnly, "weights follow the Pods of each node, which only externalTrafficPolicy: Local tells: set it, or remove %s, or weighted in the class", annotationWeighted)
	wrong(given.StrongSessionAffinity && internal, "strong session affinity is of external balancers only: remove %s, or strongSessionAffinity in the class", annotationStrong)
	wrong(given.StrongSessionAffinity && spec.AffinitySeconds == 0, "strong session affinity needs sessionAffinity: ClientIP: set it, or remove %s, or strongSessionAffinity in the class", annotationStrong)
	wrong(s.strongSeconds != 0 && (s.strongSeconds < lowestStrongAffinity || s.strongSeconds > highestStrongAffinity),
		"sessionAffinityConfig.clientIP.timeoutSeconds: %d is not from %d to %d, as strong session affinity needs it", s.strongSeconds, lowestStrongAffinity, highestStrongAffinity)
	wrong(s.draining < lowestDraining || s.draining > longest, "parameter drainingSeconds: %d is not from %d to %d", s.draining, lowestDraining, longest)
	wrong(!isName(s.subnetwork), "subnetwork %q: not the name of one: correct %s, %s, or subnetwork in the class", s.subnetwork, annotationSubnet, annotationSubnetOlder)
	for _, group := range s.instanceGroups {
		zone, name, ok := strings.Cut(group, "/")
		wrong(!ok || !isName(zone) || !isName(name), "parameter instanceGroups: %q is not a zone, a slash and a name", group)
	}
	return errs
}

func hasFamily(spec *cloud.Spec, family cloud.Family) bool {
	for _, f := range spec.Families {
		if f == family {
			return true
		}
	}
	return false
}

// readAddresses says where rules have their address from.
func (s *settings) readAddresses(spec *cloud.Spec, names []string) error {
	switch {
	case len(names) > 0 && spec.RequestedAddress != "":
		return fmt.Errorf("spec.loadBalancerIP and %s: set one of them", annotationAddresses)
	case len(names) > 0:
		if len(names) != len(spec.Families) {
			return fmt.Errorf("%s: %d names for %d families: name one reserved address for each family", annotationAddresses, len(names), len(spec.Families))
		}
		for _, name := range names {
			if !isName(name) {
				return fmt.Errorf("%s: %q is not the name of an address", annotationAddresses, name)
			}
		}
		s.addresses = cloud.List(names)
	case spec.RequestedAddress != "":
		address, err := netip.ParseAddr(spec.RequestedAddress)
		if err != nil {
			return fmt.Errorf("spec.loadBalancerIP: %q is not an IP address", spec.RequestedAddress)
		}
		s.ip = address.String()
	}
	return nil
}

// addressOf is what a Service asks for of the address of a family, as an attribute that the address in effect has to have: to be one of
// the names, or the address itself; or, where it asks for none, not to be somebody else's that it asked for before.
func (s *settings) addressOf(family cloud.Family) (attribute, value string) {
	switch {
	case s.addresses != "":
		return attrAddresses, s.addresses
	case s.ip != "" && strings.Contains(s.ip, ":") == (family == cloud.IPv6):
		return attrIP, s.ip
	}
	return attrUsers, "false"
}
