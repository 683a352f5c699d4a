package cloudproviders

import (
	"encoding/xml"
	"fmt"
	"slices"
)

// items is a list as EC2 writes it.
type items[T any] struct {
	Items []T `xml:"item"`
}

func itemsOf[T any](all []T) items[T] { return items[T]{all} }

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// owned is the tag that the provider looks for on what belongs to the cluster.
var owned = itemsOf([]tag{{Key: "kubernetes.io/cluster/" + cluster, Value: "owned"}})

type instance struct {
	ID     string       `xml:"instanceId"`
	VPC    string       `xml:"vpcId"`
	DNS    string       `xml:"privateDnsName"`
	Subnet string       `xml:"subnetId"`
	State  string       `xml:"instanceState>name"`
	Groups items[group] `xml:"groupSet"`
	Tags   items[tag]   `xml:"tagSet"`
}

type group struct {
	ID    string            `xml:"groupId"`
	VPC   string            `xml:"vpcId"`
	Name  string            `xml:"groupName"`
	Rules items[permission] `xml:"ipPermissions"`
	Tags  items[tag]        `xml:"tagSet"`
}

type permission struct {
	Protocol string       `xml:"ipProtocol"`
	From     string       `xml:"fromPort"`
	To       string       `xml:"toPort"`
	Ranges   items[cidrs] `xml:"ipRanges"`
}

type cidrs struct {
	CIDR        string `xml:"cidrIp"`
	Description string `xml:"description"`
}

type subnet struct {
	ID   string     `xml:"subnetId"`
	VPC  string     `xml:"vpcId"`
	Zone string     `xml:"availabilityZone"`
	CIDR string     `xml:"cidrBlock"`
	Tags items[tag] `xml:"tagSet"`
}

func subnets() []subnet {
	var all []subnet
	for i, zone := range zones {
		all = append(all, subnet{ID: fmt.Sprintf("subnet-%d", i), VPC: vpc, Zone: zone, CIDR: fmt.Sprintf("172.30.%d.0/24", i), Tags: owned})
	}
	return all
}

// compute are the calls of EC2.
var compute = map[string]func(*amazon, query) (any, *failure){
	"DescribeInstances": func(*amazon, query) (any, *failure) {
		var all []instance
		for i, id := range machines {
			all = append(all, instance{ID: id, VPC: vpc, DNS: fmt.Sprintf("n%d.internal", i), Subnet: fmt.Sprintf("subnet-%d", i%len(zones)),
				State: "running", Groups: itemsOf([]group{{ID: nodeGroup}}), Tags: owned})
		}
		type reservation struct {
			Instances items[instance] `xml:"instancesSet"`
		}
		return struct {
			XMLName xml.Name           `xml:"x"`
			List    items[reservation] `xml:"reservationSet"`
		}{List: itemsOf([]reservation{{itemsOf(all)}})}, nil
	},
	"DescribeSubnets": func(_ *amazon, q query) (any, *failure) {
		wanted := q.list("SubnetId", "")
		return struct {
			XMLName xml.Name      `xml:"x"`
			List    items[subnet] `xml:"subnetSet"`
		}{List: itemsOf(slices.DeleteFunc(subnets(), func(s subnet) bool {
			return len(wanted) > 0 && !slices.Contains(wanted, s.ID)
		}))}, nil
	},
	"DescribeRouteTables": func(*amazon, query) (any, *failure) {
		type route struct {
			Gateway string `xml:"gatewayId"`
		}
		type association struct {
			Main bool `xml:"main"`
		}
		type table struct {
			Routes       items[route]       `xml:"routeSet"`
			Associations items[association] `xml:"associationSet"`
		}
		return struct {
			XMLName xml.Name     `xml:"x"`
			List    items[table] `xml:"routeTableSet"`
		}{List: itemsOf([]table{{itemsOf([]route{{"igw-1"}}), itemsOf([]association{{true}})}})}, nil
	},
	"DescribeAvailabilityZones": func(*amazon, query) (any, *failure) {
		type zone struct {
			Name string `xml:"zoneName"`
			ID   string `xml:"zoneId"`
			Type string `xml:"zoneType"`
		}
		var all []zone
		for _, name := range zones {
			all = append(all, zone{name, name, "availability-zone"})
		}
		return struct {
			XMLName xml.Name    `xml:"x"`
			List    items[zone] `xml:"availabilityZoneInfo"`
		}{List: itemsOf(all)}, nil
	},
	"DescribeSecurityGroups": func(a *amazon, _ query) (any, *failure) {
		var all []permission
		for r := range a.rules {
			all = append(all, permission{r.Protocol, r.From, r.To, itemsOf([]cidrs{{r.CIDR, r.Description}})})
		}
		return struct {
			XMLName xml.Name     `xml:"x"`
			List    items[group] `xml:"securityGroupInfo"`
		}{List: itemsOf([]group{{ID: nodeGroup, VPC: vpc, Name: "nodes", Rules: itemsOf(all), Tags: owned}})}, nil
	},
	"AuthorizeSecurityGroupIngress": func(a *amazon, q query) (any, *failure) {
		asked := rulesOf(q)
		if slices.ContainsFunc(asked, func(r rule) bool { return a.rules[r] }) {
			return nil, &failure{"InvalidPermission.Duplicate", "the rule is there"}
		}
		for _, r := range asked {
			a.rules[r] = true
		}
		return done, nil
	},
	"RevokeSecurityGroupIngress": func(a *amazon, q query) (any, *failure) {
		for _, r := range rulesOf(q) {
			if !a.rules[r] {
				return nil, &failure{"InvalidPermission.NotFound", "the rule is not there"}
			}
			delete(a.rules, r)
		}
		return done, nil
	},
}

// done is the answer of a call that has nothing to tell.
var done = struct {
	XMLName xml.Name `xml:"x"`
	Return  bool     `xml:"return"`
}{Return: true}

// rulesOf reads the rules of a request.
func rulesOf(q query) []rule {
	var all []rule
	for n := 1; q.Has(fmt.Sprintf("IpPermissions.%d.IpProtocol", n)); n++ {
		at := fmt.Sprintf("IpPermissions.%d.", n)
		descriptions := q.list(at+"IpRanges", ".Description")
		for i, cidr := range q.list(at+"IpRanges", ".CidrIp") {
			all = append(all, rule{q.Get(at + "IpProtocol"), q.Get(at + "FromPort"), q.Get(at + "ToPort"), cidr, descriptions[i]})
		}
	}
	return all
}
