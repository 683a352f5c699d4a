package balancer

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// machine is an instance of the emulated AWS, which balancers send to.
type machine struct {
	id, zone      string
	address, ipv6 netip.Addr // the second where it has one
}

func parseMachine(text string) (machine, error) {
	parts := strings.Split(text, "=")
	if len(parts) < 3 || len(parts) > 4 || parts[0] == "" || parts[1] == "" {
		return machine{}, errors.New("write it as id=zone=address, such as i-00000001=zone-a=172.30.0.11, and one of IPv6 behind another =")
	}
	m := machine{id: parts[0], zone: parts[1]}
	for i, into := range []*netip.Addr{&m.address, &m.ipv6}[:len(parts)-2] {
		address, err := netip.ParseAddr(parts[2+i])
		if err != nil {
			return machine{}, fmt.Errorf("address of the machine: %w", err)
		}
		*into = address
	}
	return m, nil
}

// The network of the emulated account. Everything in it leads to the router: public addresses (of RFC 5737) from anywhere,
// and those of private subnets from the nodes and Pods alone, which is kept by the listeners.
const (
	amazonPublic = "192.0.2.0/24"
	amazonVPC    = "vpc-0f1a1eadf1a1ead00"
)

var (
	amazonInside = []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("10.244.0.0/16"),
		netip.MustParsePrefix("fd00:172:30::/48"), netip.MustParsePrefix("fd00:244::/56")}
	amazonElastic = map[string]string{"eipalloc-01": "192.0.2.251", "eipalloc-02": "192.0.2.252"}
)

// pace makes checks come ten times as often as a balancer's owner asks for: 10 seconds are the least but for 5, and people
// who try it are watching.
const pace = 10

// newAmazon makes an account with a public and a private subnet in each zone.
func newAmazon(machines []machine) *awstest.Server {
	options := awstest.Options{VPC: amazonVPC, Public: netip.MustParsePrefix(amazonPublic), Inside: amazonInside, Elastic: amazonElastic,
		Pace: pace, Slow: time.Second, Linger: time.Second}
	private := map[string]string{}
	for _, m := range machines {
		if private[m.zone] == "" {
			n := len(private)
			private[m.zone] = fmt.Sprintf("subnet-0b%02d", n+1)
			options.Subnets = append(options.Subnets,
				awstest.Subnet{ID: fmt.Sprintf("subnet-0a%02d", n+1), Zone: m.zone, CIDR: fmt.Sprintf("172.30.%d.0/24", 8+n), CIDR6: fmt.Sprintf("fd00:172:30:%d::/64", 8+n),
					Tags: map[string]string{"kubernetes.io/role/elb": "1"}},
				awstest.Subnet{ID: private[m.zone], Zone: m.zone, CIDR: fmt.Sprintf("172.30.%d.0/24", 16+n), CIDR6: fmt.Sprintf("fd00:172:30:%d::/64", 16+n),
					Tags: map[string]string{"kubernetes.io/role/internal-elb": "1"}})
		}
		options.Machines = append(options.Machines, awstest.Machine{ID: m.id, DNS: m.id + ".internal", Subnet: private[m.zone], Address: m.address, IPv6: m.ipv6})
	}
	return awstest.New(options)
}
