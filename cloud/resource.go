package cloud

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// Owner is the Service that resources belong to.
type Owner struct {
	// ClusterID and ServiceUID are the identity.
	ClusterID  string `json:"clusterID"`
	ServiceUID string `json:"serviceUID"`
	// Namespace and Name of the Service are for people who read the cloud's console: nothing is decided by them.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Group of Services of the namespace that share a balancer; empty: this one shares with nobody.
	Group string `json:"group,omitempty"`
	// Service itself, for a provider that is Opaque; not changed. Nil for the others, and where the Service is gone or all
	// that is known of it stands in a Spec. No part of the identity.
	Service *corev1.Service `json:"-"`
}

// OwnerID is the identity of an Owner in one string: the cluster's id, a slash, the Service's UID. It fits in a tag.
type OwnerID string

// ID returns the owner's identity.
func (o Owner) ID() OwnerID { return OwnerID(o.ClusterID + "/" + o.ServiceUID) }

// GroupID is the identity of the owner's group, for a tag: the cluster's id, the namespace and the group with slashes
// between; empty where there is none.
func (o Owner) GroupID() string {
	if o.Group == "" {
		return ""
	}
	return o.ClusterID + "/" + o.Namespace + "/" + o.Group
}

// State of an observed resource.
type State string

const (
	// StateReady: it does its work. Also the meaning of the empty string.
	StateReady State = "Ready"
	// StatePending: the cloud is still making or changing it. It is neither changed nor used meanwhile.
	StatePending State = "Pending"
	// StateDeleting: the cloud is removing it. Nothing takes its place until it is gone.
	StateDeleting State = "Deleting"
	// StateFailed: it is half made and will not get better: it is deleted and made anew.
	StateFailed State = "Failed"
)

// Resource is one thing in a cloud, wanted or observed.
type Resource struct {
	// Kind is the provider's word for what it is, in UpperCamel.
	Kind string `json:"kind"`
	// Key tells it from others of its kind and owner. Stable for as long as the Service wants the same thing.
	Key string `json:"key"`
	// ID by which the cloud knows it. Empty in what Desired returns.
	ID string `json:"id,omitempty"`
	// Attributes in canonical form: equal strings are equal settings. Lists are sorted and joined with commas.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Immutable names the attributes that cannot change in place. Set by Desired.
	Immutable []string `json:"immutable,omitempty"`
	// Follows names attributes that follow the cluster as targets do, such as where health is asked: they change in place also
	// while nothing else may, since something would have to be replaced. Set by Desired.
	Follows []string `json:"follows,omitempty"`
	// Fixed: it cannot be in two places, or replacing it changes what clients connect to. Set by Desired.
	Fixed bool `json:"fixed,omitempty"`
	// Beside: though it is Fixed, another one of its key can stand beside it. Where replacement is allowed, it is made first,
	// and what there was is deleted once it is ready. Set by Desired.
	Beside bool `json:"beside,omitempty"`
	// Excludes names attributes: as long as it is there, there can be nothing else of its kind that is the same in all of them,
	// whatever its key, as where it has a place whole that others want in parts. What it is in the way of is to be Fixed, and not
	// Beside, or that is made first, which the cloud refuses. Set by Observe and Adoptable. Empty: it is in nobody's way but that
	// of what has its key.
	Excludes []string `json:"excludes,omitempty"`
	// Shared: the Services of the owner's Group use it together. It has the same key for all of them, and only
	// attributes that they agree upon. Set by Desired where the owner has a Group, and by Observe.
	Shared bool `json:"shared,omitempty"`
	// DependsOn is what has to be there before it, and until it is gone.
	DependsOn []Ref `json:"dependsOn,omitempty"`
	// HasTargets: Targets are part of it, even when there are none.
	HasTargets bool `json:"hasTargets,omitempty"`
	// Targets that it sends to, sorted by ID.
	Targets []Target `json:"targets,omitempty"`
	// Nodes that the targets stand for, where Desired sets them: the provider gets them back in Create, Update and
	// SyncTargets. Not compared, and not sent to plugins.
	Nodes []Node `json:"-"`
	// State as observed.
	State State `json:"state,omitempty"`
	// Owners whose marks it carries. The core adds the owner's own to what Desired returns.
	Owners []OwnerID `json:"owners,omitempty"`
	// Lent: it was adopted and stays somebody else's, and is never replaced or deleted, but let go.
	Lent bool `json:"lent,omitempty"`
	// Adopted, of what is Lent, is the id of the balancer that it was adopted with; of what is not, its own id as long as
	// parts of it are still to be adopted. Else empty. Both are kept in the cloud beside the owner's mark.
	Adopted string `json:"adopted,omitempty"`
	// Ingress is what clients can connect to thanks to this resource, as observed.
	Ingress []Ingress `json:"ingress,omitempty"`
}

// Ref points to another resource of the same owner.
type Ref struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// ID is set in what was observed, and by the core before Create and Update.
	ID string `json:"id,omitempty"`
	// Parent: the resource lives inside the other, goes with it, and cannot be moved to another.
	Parent bool `json:"parent,omitempty"`
}

// Target is a machine, or a Pod, that traffic is sent to.
type Target struct {
	// ID by which the cloud knows it: an instance's id, an address, or that of a Pod with the port behind a colon. No two
	// targets of a resource have the same.
	ID string `json:"id"`
	// Address, Port and Zone, where the cloud needs them.
	Address string `json:"address,omitempty"`
	Port    int32  `json:"port,omitempty"`
	Zone    string `json:"zone,omitempty"`
}

// Ingress is what clients connect to: an IP with its mode, or a host name.
type Ingress struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	// IPMode is VIP or Proxy; empty means VIP. Only with IP.
	IPMode string `json:"ipMode,omitempty"`
}

// Published is what a Service's status says of the address. An error: it is not published, since the API server would not take it, nor is
// an IPv4 address that is written as an IPv6 one.
func (in Ingress) Published() (corev1.LoadBalancerIngress, error) {
	// It takes no capitals, which a balancer that was adopted may have in its name, and no dot at the end.
	published := corev1.LoadBalancerIngress{IP: in.IP, Hostname: strings.ToLower(strings.TrimSuffix(in.Hostname, "."))}
	if in.IP == "" || in.Hostname != "" {
		wrong := validation.IsDNS1123Subdomain(published.Hostname)
		if netutils.ParseIPSloppy(published.Hostname) != nil {
			wrong = append(wrong, "it is an address")
		}
		if len(wrong) > 0 {
			return published, fmt.Errorf("the host name %q is none: %s", in.Hostname, strings.Join(wrong, ", "))
		}
	}
	if in.IP == "" {
		return published, nil
	}
	mode := corev1.LoadBalancerIPMode(cmp.Or(in.IPMode, string(corev1.LoadBalancerIPModeVIP)))
	published.IPMode = &mode
	addr, err := netip.ParseAddr(in.IP)
	switch {
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		return published, fmt.Errorf("the address %q is none", in.IP)
	case mode != corev1.LoadBalancerIPModeVIP && mode != corev1.LoadBalancerIPModeProxy:
		return published, fmt.Errorf("the mode %q of the address %s is not one of VIP, Proxy", in.IPMode, in.IP)
	}
	return published, nil
}

// ref returns what others call the resource by.
func (r *Resource) ref() Ref { return Ref{Kind: r.Kind, Key: r.Key} }

// Name returns how the resource is called in messages: kind, a slash, key.
func (r *Resource) Name() string { return r.Kind + "/" + r.Key }

// Name builds a name for the cloud, at most maxLength bytes of lower-case letters, digits and dashes, that begins with
// "fl-". It is the same for the same owner, kind, key and immutable attributes, and differs where any of them differs,
// so that a replacement never collides with what it replaces. That of a Shared resource is the same for the whole group.
// maxLength must be at least 19.
func Name(owner Owner, r Resource, maxLength int) string {
	identity, name := string(owner.ID()), owner.Name
	if r.Shared {
		identity, name = "group "+owner.GroupID(), owner.Group
	}
	h := sha256.New()
	for _, part := range append([]string{identity, r.Kind, r.Key}, immutableValues(&r)...) {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	hash := hex.EncodeToString(h.Sum(nil))[:16]
	readable := strings.ToLower(owner.Namespace + "-" + name + "-" + r.Key)
	readable = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, readable)
	room := max(0, maxLength-len("fl-")-1-len(hash))
	readable = strings.Trim(readable[:min(room, len(readable))], "-")
	if readable == "" {
		return "fl-" + hash
	}
	return "fl-" + readable + "-" + hash
}

// immutableValues returns the immutable attributes as name, value pairs, sorted by name.
func immutableValues(r *Resource) []string {
	names := slices.Sorted(slices.Values(r.Immutable))
	values := make([]string, 0, 2*len(names))
	for _, name := range names {
		values = append(values, name, r.Attributes[name])
	}
	return values
}

// List is the canonical form of a list in an attribute: sorted, without repetitions, joined with commas. It does not
// change its argument.
func List(values []string) string {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return strings.Join(slices.Compact(sorted), ",")
}

// SplitList is the inverse of List. The empty string is the empty list.
func SplitList(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// SortResources sorts by kind, key and id.
func SortResources(resources []Resource) {
	slices.SortFunc(resources, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key), cmp.Compare(a.ID, b.ID))
	})
}

// Ingresses gathers what clients can connect to from observed resources, without repetitions: IPv4 first, then IPv6,
// then host names.
func Ingresses(observed []Resource) []Ingress {
	var all []Ingress
	for i := range observed {
		if observed[i].State == StateReady || observed[i].State == "" {
			all = append(all, observed[i].Ingress...)
		}
	}
	rank := func(in Ingress) int {
		switch {
		case in.IP == "":
			return 2
		case strings.Contains(in.IP, ":"):
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b Ingress) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.IP, b.IP), cmp.Compare(a.Hostname, b.Hostname))
	})
	return slices.Compact(all)
}
