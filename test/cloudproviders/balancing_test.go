package cloudproviders

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// members is a list as Elastic Load Balancing writes it.
type members[T any] struct {
	Members []T `xml:"member"`
}

func membersOf[T any](all []T) members[T] { return members[T]{all} }

type loadBalancer struct {
	ARN     string            `xml:"LoadBalancerArn"`
	Name    string            `xml:"LoadBalancerName"`
	DNS     string            `xml:"DNSName"`
	Type    string            `xml:"Type"`
	VPC     string            `xml:"VpcId"`
	State   string            `xml:"State>Code"`
	Subnets members[inSubnet] `xml:"AvailabilityZones"`

	attributes map[string]string
}

type inSubnet struct {
	Subnet string `xml:"SubnetId"`
	Zone   string `xml:"ZoneName"`
}

type listener struct {
	ARN      string          `xml:"ListenerArn"`
	Balancer string          `xml:"LoadBalancerArn"`
	Port     int             `xml:"Port"`
	Protocol string          `xml:"Protocol"`
	Actions  []forwardAction `xml:"DefaultActions>member"`
}

type forwardAction struct {
	Type        string `xml:"Type"`
	TargetGroup string `xml:"TargetGroupArn"`
}

type targetGroup struct {
	ARN           string `xml:"TargetGroupArn"`
	Name          string `xml:"TargetGroupName"`
	Protocol      string `xml:"Protocol"`
	Port          int    `xml:"Port"`
	VPC           string `xml:"VpcId"`
	CheckProtocol string `xml:"HealthCheckProtocol"`
	CheckPort     string `xml:"HealthCheckPort"`
	CheckPath     string `xml:"HealthCheckPath,omitempty"`
	CheckInterval int    `xml:"HealthCheckIntervalSeconds"`
	Healthy       int    `xml:"HealthyThresholdCount"`
	Unhealthy     int    `xml:"UnhealthyThresholdCount"`

	targets map[string]bool
}

func arn(kind, name string) string {
	return "arn:aws:elasticloadbalancing:" + region + ":000000000000:" + kind + "/" + name
}

type balancerList struct {
	XMLName xml.Name               `xml:"x"`
	List    members[*loadBalancer] `xml:"LoadBalancers"`
}

type groupList struct {
	XMLName xml.Name              `xml:"x"`
	List    members[*targetGroup] `xml:"TargetGroups"`
}

type listenerList struct {
	XMLName xml.Name           `xml:"x"`
	List    members[*listener] `xml:"Listeners"`
}

type attribute struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type attributeList struct {
	XMLName xml.Name           `xml:"x"`
	List    members[attribute] `xml:"Attributes"`
}

func sorted[T any](all map[string]T) []T {
	var list []T
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[key])
	}
	return list
}

// balancing are the calls of Elastic Load Balancing v2.
var balancing = map[string]func(*amazon, query) (any, *failure){
	"DescribeLoadBalancers": func(a *amazon, q query) (any, *failure) {
		names, arns := q.list("Names", ""), q.list("LoadBalancerArns", "")
		found := slices.DeleteFunc(sorted(a.balancers), func(b *loadBalancer) bool {
			return len(names) > 0 && !slices.Contains(names, b.Name) || len(arns) > 0 && !slices.Contains(arns, b.ARN)
		})
		if len(found) < len(names)+len(arns) {
			return nil, &failure{"LoadBalancerNotFound", "one or more load balancers not found"}
		}
		return balancerList{List: membersOf(found)}, nil
	},
	"CreateLoadBalancer": func(a *amazon, q query) (any, *failure) {
		b := &loadBalancer{Name: q.Get("Name"), ARN: arn("loadbalancer/net", q.Get("Name")), Type: q.Get("Type"), VPC: vpc, State: "provisioning",
			DNS:        q.Get("Name") + ".elb." + region + ".example.com",
			attributes: map[string]string{"load_balancing.cross_zone.enabled": "false", "access_logs.s3.enabled": "false"}}
		for _, id := range q.list("SubnetMappings", ".SubnetId") {
			for _, s := range subnets() {
				if s.ID == id {
					b.Subnets.Members = append(b.Subnets.Members, inSubnet{s.ID, s.Zone})
				}
			}
		}
		if a.balancers[b.ARN] != nil {
			return nil, &failure{"DuplicateLoadBalancerName", "a load balancer with this name exists"}
		}
		a.balancers[b.ARN] = b
		return balancerList{List: membersOf([]*loadBalancer{b})}, nil
	},
	"DeleteLoadBalancer": func(a *amazon, q query) (any, *failure) {
		delete(a.balancers, q.Get("LoadBalancerArn"))
		maps.DeleteFunc(a.listeners, func(_ string, l *listener) bool { return l.Balancer == q.Get("LoadBalancerArn") })
		return done, nil
	},
	"DescribeLoadBalancerAttributes": func(a *amazon, q query) (any, *failure) {
		var all []attribute
		b := a.balancers[q.Get("LoadBalancerArn")]
		if b == nil {
			return nil, &failure{"LoadBalancerNotFound", "it is not there"}
		}
		for _, key := range slices.Sorted(maps.Keys(b.attributes)) {
			all = append(all, attribute{key, b.attributes[key]})
		}
		return attributeList{List: membersOf(all)}, nil
	},
	"ModifyLoadBalancerAttributes": func(a *amazon, q query) (any, *failure) {
		values := q.list("Attributes", ".Value")
		for i, key := range q.list("Attributes", ".Key") {
			a.balancers[q.Get("LoadBalancerArn")].attributes[key] = values[i]
		}
		return attributeList{}, nil
	},
	"DescribeListeners": func(a *amazon, q query) (any, *failure) {
		return listenerList{List: membersOf(slices.DeleteFunc(sorted(a.listeners), func(l *listener) bool {
			return l.Balancer != q.Get("LoadBalancerArn")
		}))}, nil
	},
	"CreateListener": func(a *amazon, q query) (any, *failure) {
		l := &listener{Balancer: q.Get("LoadBalancerArn"), Port: q.number("Port"), Protocol: q.Get("Protocol"),
			Actions: []forwardAction{{"forward", q.list("DefaultActions", ".TargetGroupArn")[0]}}}
		l.ARN = strings.Replace(l.Balancer, ":loadbalancer/", ":listener/", 1) + fmt.Sprintf("/%s-%d", l.Protocol, l.Port)
		if a.listeners[l.ARN] != nil {
			return nil, &failure{"DuplicateListener", "a listener on this port exists"}
		}
		a.listeners[l.ARN] = l
		return listenerList{List: membersOf([]*listener{l})}, nil
	},
	"ModifyListener": func(a *amazon, q query) (any, *failure) {
		l := a.listeners[q.Get("ListenerArn")]
		if l == nil {
			return nil, &failure{"ListenerNotFound", "it is not there"}
		}
		l.Actions = []forwardAction{{"forward", q.list("DefaultActions", ".TargetGroupArn")[0]}}
		return listenerList{List: membersOf([]*listener{l})}, nil
	},
	"DeleteListener": func(a *amazon, q query) (any, *failure) {
		delete(a.listeners, q.Get("ListenerArn"))
		return done, nil
	},
	"DescribeTargetGroups": func(a *amazon, q query) (any, *failure) {
		arns := q.list("TargetGroupArns", "")
		if balancer := q.Get("LoadBalancerArn"); balancer != "" {
			for _, l := range a.listeners {
				if l.Balancer == balancer {
					arns = append(arns, l.Actions[0].TargetGroup)
				}
			}
		}
		return groupList{List: membersOf(slices.DeleteFunc(sorted(a.groups), func(g *targetGroup) bool { return !slices.Contains(arns, g.ARN) }))}, nil
	},
	"CreateTargetGroup": func(a *amazon, q query) (any, *failure) {
		g := &targetGroup{Name: q.Get("Name"), ARN: arn("targetgroup", q.Get("Name")), Protocol: q.Get("Protocol"), Port: q.number("Port"),
			VPC: q.Get("VpcId"), CheckProtocol: q.Get("HealthCheckProtocol"), CheckPort: q.Get("HealthCheckPort"), CheckPath: q.Get("HealthCheckPath"),
			CheckInterval: q.number("HealthCheckIntervalSeconds"), Healthy: q.number("HealthyThresholdCount"),
			Unhealthy: q.number("UnhealthyThresholdCount"), targets: map[string]bool{}}
		if have := a.groups[g.ARN]; have != nil {
			if have.Port != g.Port || have.Protocol != g.Protocol {
				return nil, &failure{"DuplicateTargetGroupName", "a target group with this name exists"}
			}
			g = have // The same settings: the call is idempotent.
		}
		a.groups[g.ARN] = g
		return groupList{List: membersOf([]*targetGroup{g})}, nil
	},
	"ModifyTargetGroup": func(a *amazon, q query) (any, *failure) {
		g := a.groups[q.Get("TargetGroupArn")]
		if path := q.Get("HealthCheckPath"); path != "" {
			g.CheckPath = path
		}
		if port := q.Get("HealthCheckPort"); port != "" {
			g.CheckPort = port
		}
		if n := q.number("HealthyThresholdCount"); n > 0 {
			g.Healthy, g.Unhealthy = n, q.number("UnhealthyThresholdCount")
		}
		return groupList{List: membersOf([]*targetGroup{g})}, nil
	},
	"DeleteTargetGroup": func(a *amazon, q query) (any, *failure) {
		for _, l := range a.listeners {
			if l.Actions[0].TargetGroup == q.Get("TargetGroupArn") {
				return nil, &failure{"ResourceInUse", "a listener uses it"}
			}
		}
		delete(a.groups, q.Get("TargetGroupArn"))
		return done, nil
	},
	"RegisterTargets": func(a *amazon, q query) (any, *failure) {
		for _, id := range q.list("Targets", ".Id") {
			a.groups[q.Get("TargetGroupArn")].targets[id] = true
		}
		return done, nil
	},
	"DeregisterTargets": func(a *amazon, q query) (any, *failure) {
		for _, id := range q.list("Targets", ".Id") {
			delete(a.groups[q.Get("TargetGroupArn")].targets, id)
		}
		return done, nil
	},
	"DescribeTargetHealth": func(a *amazon, q query) (any, *failure) {
		type health struct {
			ID    string `xml:"Target>Id"`
			Port  int    `xml:"Target>Port"`
			State string `xml:"TargetHealth>State"`
		}
		g := a.groups[q.Get("TargetGroupArn")]
		var all []health
		for _, id := range slices.Sorted(maps.Keys(g.targets)) {
			all = append(all, health{id, g.Port, "healthy"})
		}
		return struct {
			XMLName xml.Name        `xml:"x"`
			List    members[health] `xml:"TargetHealthDescriptions"`
		}{List: membersOf(all)}, nil
	},
}
