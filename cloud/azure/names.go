package azure

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// Kinds of resources.
const (
	KindPublicIP     = "PublicIP"
	KindRules        = "Rules"
	KindSecurityRule = "SecurityRule"
	KindLinkService  = "PrivateLinkService"
)

// Tags of what carries tags. There is one of tagOwner for each owner.
const (
	tagPrefix  = "fairlead-"
	tagCluster = tagPrefix + "cluster"
	tagOwner   = tagPrefix + "owner-" // and the Service's UID; the value is the cluster's id
	tagKey     = tagPrefix + "key"
	tagGroup   = tagPrefix + "group"
	tagService = tagPrefix + "service" // for people
	tagTags    = tagPrefix + "tags"    // the names of those that the Service asked for
	tagLink    = tagPrefix + "settings"
	tagAdopted = tagPrefix + "adopted" // how, and with which frontend
	tagLabel   = tagPrefix + "label"   // of an address that was lent: its label is the Service's
)

// What Azure allows of names, and of ids of prefixes. A name that has a slash or a space would be read as something else.
var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,78}[A-Za-z0-9_])?$`)
	groupPattern  = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)
	prefixPattern = regexp.MustCompile(`^(?i)/subscriptions/[-0-9a-f]+/resourceGroups/[-\w.()]+/providers/Microsoft\.Network/publicIPPrefixes/[-\w.]+$`)
	labelPattern  = regexp.MustCompile(`^[a-z][-a-z0-9]{1,61}[a-z0-9]$`)
	tagsPattern   = regexp.MustCompile(`^[A-Z][.A-Za-z0-9]*$`) // service tags
)

// maxTagValue is the most characters of the value of a tag.
const maxTagValue = 256

// maxName is the most characters of a name of what a network has.
const maxName = 80

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// Ids and names are of one thing in Azure whatever the case of their letters, and come back in other cases than they were written
// in. So they are compared by same, and maps have them folded.
func same(a, b string) bool { return strings.EqualFold(a, b) }

func folded(id string) string { return strings.ToLower(id) }

// canonical is the one way to write an address. What is none stays as it is.
func canonical(address string) string {
	if parsed, err := netip.ParseAddr(address); err == nil {
		return parsed.String()
	}
	return address
}

// hash of texts, in n hexadecimal digits.
func hash(n int, texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:])[:n]
}

func familyKey(family cloud.Family) string { return strings.ToLower(string(family)) }

// Schemes of a cluster's balancers.
const (
	schemePublic  = "public"
	schemePrivate = "internal"
	schemeLinked  = "linked" // internal, with pools of network interfaces: see interfaces.go
)

// balancerName is the name of a cluster's n-th balancer of a scheme, from 1.
func balancerName(clusterID, scheme string, n int) string {
	return fmt.Sprintf("%s%s-%d", balancersOf(clusterID), scheme, n)
}

// balancersOf is what the names of a cluster's balancers begin with.
func balancersOf(clusterID string) string { return "fl-" + hash(12, clusterID) + "-" }

// isLinked reports whether a balancer of ours has that scheme, by its name.
func isLinked(balancer string) bool { return linkedPattern.MatchString(balancer) }

// Parts of a balancer are named
//
//	frontend      fl-UID-FAMILY-MHASH, or with gHASH of the group instead of the UID, where M says what it is made of
//	pool          fl-FAMILY
//	rule, probe   fl-UID-FAMILY-HASH-PROTOCOL-PORT, where the hash is of the frontend's name
//
// and those of a security group, which may be several clusters', fl-HASH-UID-FAMILY-WHAT, where the hash is of the cluster's id, with a
// number from 2 on behind where one thing takes several rules.
var (
	frontendPattern = regexp.MustCompile(`^fl-.+-(ipv4|ipv6)-([onai])[0-9a-f]{6}$`)
	linkedPattern   = regexp.MustCompile(`^(?i)fl-[0-9a-f]{12}-` + schemeLinked + `-[0-9]+$`)
	rulePattern     = regexp.MustCompile(`^(fl-(.+)-(ipv4|ipv6)-[0-9a-f]{6})-((?:tcp|udp|all)-[0-9]+)$`)
	securityPattern = regexp.MustCompile(`^(fl-[0-9a-f]{6}-(.+)-(ipv4|ipv6))-(tcp|udp|all|deny)(?:-[0-9]+)?$`)
)

// frontendName also says, by a letter, what the frontend is made of, since that cannot be told of one by itself.
func frontendName(owner cloud.Owner, family string, s source) string {
	who := owner.ServiceUID
	if group := owner.GroupID(); group != "" {
		who = "g" + hash(16, group)
	}
	return fmt.Sprintf("fl-%s-%s-%c%s", who, family, s.mode(), hash(frontendHash, s.String()))
}

// frontendHash is how many digits of a hash end a frontend's name.
const frontendHash = 6

func poolName(family string) string { return "fl-" + family }

// partName is what the names of a Service's rules and probes begin with.
func partName(owner cloud.Owner, family, frontend string) string {
	return fmt.Sprintf("fl-%s-%s-%s", owner.ServiceUID, family, hash(6, frontend))
}

// isOf reports whether a rule or a probe of that name is of the part.
func isOf(name, part string) bool {
	if !strings.HasPrefix(name, part+"-") {
		return false
	}
	m := rulePattern.FindStringSubmatch(name)
	return m != nil && m[1] == part
}

// partID is the id of a Service's part of a balancer: there is no such id in Azure.
func partID(balancer, part string) string { return balancer + "#" + part }

// poolPath stands in the id of a pool.
const poolPath = "/backendAddressPools/"

// frontendPath stands in the id of a frontend, which is also that of a part of somebody else's balancer.
const frontendPath = "/frontendIPConfigurations/"

// location is where a part is: in a balancer of ours by its name, in somebody else's by the frontend. The zero value: nowhere.
type location struct{ balancer, part, frontend string }

// locate reads the id of a part.
func (c Config) locate(id string) location {
	start := c.balancerID("")
	if len(id) < len(start) || !same(id[:len(start)], start) {
		return location{}
	}
	rest := id[len(start):]
	if i := strings.Index(folded(rest), folded(frontendPath)); i >= 0 {
		return location{balancer: rest[:i], frontend: rest[i+len(frontendPath):]}
	}
	if balancer, part, ok := strings.Cut(rest, "#"); ok {
		return location{balancer: balancer, part: part}
	}
	return location{}
}

func (c Config) frontendID(balancer, frontend string) string {
	return c.balancerID(balancer) + frontendPath + frontend
}

// frontendOf is the id of the frontend of a part.
func frontendOf(part *cloud.Resource) string {
	if strings.Contains(part.ID, frontendPath) {
		return part.ID
	}
	balancer, _, _ := strings.Cut(part.ID, "#")
	return balancer + frontendPath + cmp.Or(part.Attributes[attributeCalled], part.Attributes["frontend"])
}

// attributeCalled is an attribute that Desired does not ask for: what a frontend is called in Azure, where that is not its name as it
// would be made today.
const attributeCalled = "called"

// nameNow is the name that a frontend of ours would be made with today. Earlier versions made names of what they were told, in the
// case and form in which it was written, and such a frontend goes on to be the same one. Anything else has the name that it has.
func (c Config) nameNow(f *armnetwork.FrontendIPConfiguration) string {
	name := value(f.Name)
	if !frontendPattern.MatchString(name) || f.Properties == nil {
		return name
	}
	start := name[:len(name)-frontendHash]
	for _, s := range c.writtenAs(f.Properties) {
		if name == start+hash(frontendHash, s.text()) {
			return start + hash(frontendHash, s.String())
		}
	}
	return name
}

// writtenAs is what a frontend is made of, in the ways in which that may have been written: as Azure has it, and as the configuration does.
func (c Config) writtenAs(f *armnetwork.FrontendIPConfigurationPropertiesFormat) []source {
	spelled := func(as, configured string) []string {
		if same(as, configured) {
			return []string{as, configured}
		}
		return []string{as}
	}
	var all []source
	if f.PublicIPAddress == nil {
		s := internalSource(f)
		addresses := []string{s.address}
		if s.address != "" {
			addresses = append(addresses, value(f.PrivateIPAddress))
		}
		for _, subnet := range spelled(s.subnet, c.SubnetName) {
			for _, address := range addresses {
				all = append(all, source{internal: true, subnet: subnet, address: address})
			}
		}
		return all
	}
	if parts := strings.Split(value(f.PublicIPAddress.ID), "/"); len(parts) == 9 {
		for _, group := range spelled(parts[4], c.ResourceGroup) {
			all = append(all, source{named: group + "/" + parts[8]})
		}
	}
	return all
}

// frontendNamed finds a frontend of a balancer of ours by the name that it has or would have today; -1: there is none.
func (c Config) frontendNamed(lb *armnetwork.LoadBalancer, name string) int {
	return slices.IndexFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool {
		return same(value(f.Name), name) || same(c.nameNow(f), name)
	})
}

// source is what a frontend is made of.
type source struct {
	internal bool
	linked   bool // internal, and can have a private link service
	subnet   string
	address  string // of the subnet, or of a public address that is there already
	group    string // of the latter, in another resource group than the configuration's
	named    string // public address: its resource group, a slash, its name
}

func (s source) mode() rune {
	switch {
	case s.internal:
		return 'i'
	case s.named != "":
		return 'n'
	case s.address != "":
		return 'a'
	}
	return 'o' // the Service's own public address
}

// scheme of the balancers that have such frontends.
func (s source) scheme() string {
	switch {
	case s.linked:
		return schemeLinked
	case s.internal:
		return schemePrivate
	}
	return schemePublic
}

// String is the canonical form, of which parseSource is the inverse.
func (s source) String() string {
	s.subnet, s.address, s.group, s.named = folded(s.subnet), canonical(s.address), folded(s.group), folded(s.named)
	return s.text()
}

// text is String, as it is written.
func (s source) text() string {
	text := "public"
	if s.internal {
		text = "internal subnet=" + s.subnet
	}
	if s.linked {
		text += " linked"
	}
	if s.address != "" {
		text += " address=" + s.address
	}
	if s.group != "" {
		text += " group=" + s.group
	}
	if s.named != "" {
		text += " name=" + s.named
	}
	return text
}

func parseSource(text string) source {
	var s source
	for _, field := range strings.Fields(text) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "internal":
			s.internal = true
		case "linked":
			s.linked = true
		case "subnet":
			s.subnet = value
		case "address":
			s.address = value
		case "group":
			s.group = value
		case "name":
			s.named = value
		}
	}
	return s
}
