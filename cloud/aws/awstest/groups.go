package awstest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// protocols of network load balancers that are known here.
var protocols = []types.ProtocolEnum{types.ProtocolEnumTcp, types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp, types.ProtocolEnumTls,
	types.ProtocolEnumQuic, types.ProtocolEnumTcpQuic}

func isQUIC(p types.ProtocolEnum) bool { return strings.HasSuffix(string(p), "QUIC") }

func isUDP(p types.ProtocolEnum) bool { return strings.HasSuffix(string(p), "UDP") }

// serverForm is that of a target's server id, which those of QUIC have.
var serverForm = regexp.MustCompile(`^0x[0-9a-f]{16}$`)

// maxTargets of one call.
const maxTargets = 200

func (s *Server) createTargetGroup(in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
	g := &targetGroup{targets: map[string]target{}, TargetGroup: types.TargetGroup{TargetGroupName: in.Name, Protocol: in.Protocol, Port: in.Port,
		VpcId: in.VpcId, TargetType: in.TargetType, IpAddressType: in.IpAddressType, HealthCheckEnabled: aws.Bool(true),
		HealthCheckProtocol: types.ProtocolEnumTcp, HealthCheckPort: aws.String("traffic-port"), HealthCheckIntervalSeconds: aws.Int32(30),
		HealthyThresholdCount: aws.Int32(5), UnhealthyThresholdCount: aws.Int32(2)}}
	if g.TargetType == "" {
		g.TargetType = types.TargetTypeEnumInstance
	}
	if g.IpAddressType == "" {
		g.IpAddressType = types.TargetGroupIpAddressTypeEnumIpv4
	}
	for _, err := range []error{checkName("Target group", *in.Name), enum("protocol", in.Protocol, protocols), checkPort(in.Port), checkTags(in.Tags),
		enum("target type", g.TargetType, []types.TargetTypeEnum{types.TargetTypeEnumInstance, types.TargetTypeEnumIp}),
		enum("IP address type", g.IpAddressType, g.IpAddressType.Values()),
		check(g, healthCheck{in.HealthCheckEnabled, in.HealthCheckIntervalSeconds, in.HealthCheckTimeoutSeconds, in.HealthyThresholdCount,
			in.UnhealthyThresholdCount, in.HealthCheckPath, in.HealthCheckPort, in.HealthCheckProtocol, in.Matcher})} {
		if err != nil {
			return nil, err
		}
	}
	if *in.VpcId != s.options.VPC {
		return nil, refuse("ValidationError", "The VPC ID '%s' is not found", *in.VpcId)
	}
	for _, have := range s.state.groups {
		if *have.TargetGroupName == *in.Name {
			if describe(have) != describe(g) {
				return nil, refuse("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", *in.Name)
			}
			return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{have.TargetGroup}}, nil
		}
	}
	if len(s.state.groups) >= s.options.Quotas.TargetGroups {
		return nil, refuse("TooManyTargetGroups", "The maximum number of target groups has been reached")
	}
	arn := arnPrefix + "targetgroup/" + *in.Name + "/" + s.id()
	g.TargetGroupArn = &arn
	s.state.groups[arn] = g
	s.state.tags[arn] = plain(in.Tags)
	s.state.attributes[arn] = groupDefaults(g)
	return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{g.TargetGroup}}, nil
}

func checkPort(port *int32) error {
	if port != nil && (*port < 1 || *port > 65535) {
		return refuse("ValidationError", "'%d' is not a valid port", *port)
	}
	return nil
}

// describe is what makes two creations the same.
func describe(g *targetGroup) string {
	matcher := ""
	if g.Matcher != nil {
		matcher = aws.ToString(g.Matcher.HttpCode)
	}
	return fmt.Sprint(g.Protocol, *g.Port, *g.VpcId, g.TargetType, g.IpAddressType, g.HealthCheckProtocol, *g.HealthCheckPort, *g.HealthCheckIntervalSeconds,
		*g.HealthCheckTimeoutSeconds, *g.HealthyThresholdCount, *g.UnhealthyThresholdCount, aws.ToString(g.HealthCheckPath), matcher)
}

// healthCheck is what a request says of one.
type healthCheck struct {
	enabled                               *bool
	interval, timeout, healthy, unhealthy *int32
	path, port                            *string
	protocol                              types.ProtocolEnum
	matcher                               *types.Matcher
}

// check writes a health check into a group, with what follows from its protocol.
func check(g *targetGroup, c healthCheck) error {
	if c.enabled != nil && !*c.enabled {
		return refuse("InvalidConfigurationRequest", "Health checks cannot be disabled for target type '%s'", g.TargetType)
	}
	if c.protocol != "" && c.protocol != g.HealthCheckProtocol || g.HealthCheckTimeoutSeconds == nil {
		if c.protocol != "" {
			g.HealthCheckProtocol = c.protocol
		}
		g.HealthCheckTimeoutSeconds, g.HealthCheckPath, g.Matcher = aws.Int32(10), nil, nil
		if g.HealthCheckProtocol != types.ProtocolEnumTcp {
			g.HealthCheckPath, g.Matcher = aws.String("/"), &types.Matcher{HttpCode: aws.String("200-399")}
		}
		if g.HealthCheckProtocol == types.ProtocolEnumHttp {
			g.HealthCheckTimeoutSeconds = aws.Int32(6)
		}
	}
	if g.HealthCheckProtocol == types.ProtocolEnumTcp && (c.path != nil || c.matcher != nil) {
		return refuse("InvalidConfigurationRequest", "Health check path and matcher are not supported for protocol 'TCP'")
	}
	if c.path != nil {
		g.HealthCheckPath = c.path
	}
	if c.matcher != nil {
		g.Matcher = c.matcher
	}
	if c.port != nil {
		if number, err := strconv.Atoi(*c.port); *c.port != "traffic-port" && (err != nil || number < 1 || number > 65535) {
			return refuse("ValidationError", "Health check port '%s' must be in the range of 1-65535 or 'traffic-port'", *c.port)
		}
		g.HealthCheckPort = c.port
	}
	for _, n := range []struct {
		what            string
		given, into     *int32
		lowest, highest int32
	}{
		{"interval", c.interval, g.HealthCheckIntervalSeconds, 5, 300}, {"timeout", c.timeout, g.HealthCheckTimeoutSeconds, 2, 120},
		{"healthy threshold", c.healthy, g.HealthyThresholdCount, 2, 10}, {"unhealthy threshold", c.unhealthy, g.UnhealthyThresholdCount, 2, 10},
	} {
		if n.given != nil {
			if *n.given < n.lowest || *n.given > n.highest {
				return refuse("ValidationError", "Health check %s '%d' must be from %d to %d", n.what, *n.given, n.lowest, n.highest)
			}
			*n.into = *n.given
		}
	}
	if *g.HealthCheckTimeoutSeconds > *g.HealthCheckIntervalSeconds {
		return refuse("ValidationError", "Health check timeout '%d' must be smaller than or equal to the interval '%d'", *g.HealthCheckTimeoutSeconds, *g.HealthCheckIntervalSeconds)
	}
	return enum("health check protocol", g.HealthCheckProtocol, []types.ProtocolEnum{types.ProtocolEnumTcp, types.ProtocolEnumHttp, types.ProtocolEnumHttps})
}

// group returns a copy that can be changed.
func (s *Server) group(arn string) (*targetGroup, error) {
	g := s.state.groups[arn]
	if g == nil {
		return nil, refuse("TargetGroupNotFound", "Target group '%s' not found", arn)
	}
	copied := *g
	copied.targets = maps.Clone(g.targets)
	for _, number := range []**int32{&copied.HealthCheckIntervalSeconds, &copied.HealthCheckTimeoutSeconds, &copied.HealthyThresholdCount, &copied.UnhealthyThresholdCount} {
		*number = aws.Int32(**number)
	}
	return &copied, nil
}

func (s *Server) modifyTargetGroup(in *elb.ModifyTargetGroupInput) (*elb.ModifyTargetGroupOutput, error) {
	g, err := s.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if err := check(g, healthCheck{in.HealthCheckEnabled, in.HealthCheckIntervalSeconds, in.HealthCheckTimeoutSeconds, in.HealthyThresholdCount,
		in.UnhealthyThresholdCount, in.HealthCheckPath, in.HealthCheckPort, in.HealthCheckProtocol, in.Matcher}); err != nil {
		return nil, err
	}
	s.state.groups[*in.TargetGroupArn] = g
	return &elb.ModifyTargetGroupOutput{TargetGroups: []types.TargetGroup{g.TargetGroup}}, nil
}

func (s *Server) deleteTargetGroup(in *elb.DeleteTargetGroupInput) (*elb.DeleteTargetGroupOutput, error) {
	arn := *in.TargetGroupArn
	if len(usersOf(&s.state, arn)) > 0 || s.isBusy(arn) {
		return nil, refuse("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", arn)
	}
	delete(s.state.groups, arn)
	s.forget(arn)
	return &elb.DeleteTargetGroupOutput{}, nil
}

// usersOf are the balancers that send to a target group.
func usersOf(st *state, arn string) []string {
	var users []string
	for _, l := range st.listeners {
		if forwardsTo(l) == arn && !slices.Contains(users, *l.LoadBalancerArn) {
			users = append(users, *l.LoadBalancerArn)
		}
	}
	slices.Sort(users)
	return users
}

func (s *Server) describeTargetGroups(in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
	read := s.read()
	all := sortedBy(read.groups, func(g *targetGroup) string { return *g.TargetGroupName })
	all, err := pick(all, "TargetGroupNotFound", in.TargetGroupArns, func(g *targetGroup) string { return *g.TargetGroupArn },
		in.Names, func(g *targetGroup) string { return *g.TargetGroupName })
	if err != nil {
		return nil, err
	}
	if in.LoadBalancerArn != nil {
		if read.balancers[*in.LoadBalancerArn] == nil {
			return nil, refuse("LoadBalancerNotFound", "Load balancer '%s' not found", *in.LoadBalancerArn)
		}
		all = slices.DeleteFunc(slices.Clone(all), func(g *targetGroup) bool {
			return !slices.Contains(usersOf(read, *g.TargetGroupArn), *in.LoadBalancerArn)
		})
	}
	some, next, err := page(all, in.Marker, in.PageSize, 400)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeTargetGroupsOutput{NextMarker: next, TargetGroups: []types.TargetGroup{}}
	for _, g := range some {
		shown := g.TargetGroup
		shown.LoadBalancerArns = append([]string{}, usersOf(read, *g.TargetGroupArn)...)
		out.TargetGroups = append(out.TargetGroups, shown)
	}
	return out, nil
}

func targetKey(id string, port int32) string { return id + " " + strconv.Itoa(int(port)) }

func (s *Server) registerTargets(in *elb.RegisterTargetsInput) (*elb.RegisterTargetsOutput, error) {
	g, err := s.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) > maxTargets {
		return nil, refuse("ValidationError", "Up to %d targets can be registered in one call", maxTargets)
	}
	for _, t := range in.Targets {
		if err := s.checkTarget(g, t); err != nil {
			return nil, err
		}
		made := target{id: *t.Id, port: *g.Port, server: aws.ToString(t.QuicServerId), zone: aws.ToString(t.AvailabilityZone), since: s.now()}
		if t.Port != nil {
			made.port = *t.Port
		}
		key := targetKey(made.id, made.port)
		if have, ok := g.targets[key]; !ok || !have.until.IsZero() {
			g.targets[key] = made
		}
	}
	s.state.groups[*in.TargetGroupArn] = g
	for _, user := range usersOf(&s.state, *in.TargetGroupArn) {
		if err := s.countTargets(user); err != nil {
			return nil, err
		}
	}
	return &elb.RegisterTargetsOutput{}, nil
}

// countTargets refuses more targets of a balancer than it may have. One counts in each of its target groups.
func (s *Server) countTargets(balancer string) error {
	all, zones := 0, map[string]int{}
	for arn, g := range s.state.groups {
		if !slices.Contains(usersOf(&s.state, arn), balancer) {
			continue
		}
		for _, t := range g.targets {
			if t.until.IsZero() {
				all++
				zones[s.zoneOf(t)]++
			}
		}
	}
	if limit := s.options.Quotas.Targets; all > limit {
		return refuse("TooManyTargets", "The maximum number of targets per load balancer '%d' has been reached on load balancer '%s'", limit, balancer)
	}
	delete(zones, "") // of these nobody knows
	for _, zone := range slices.Sorted(maps.Keys(zones)) {
		if limit := s.options.Quotas.ZoneTargets; zones[zone] > limit {
			return refuse("TooManyTargets", "The maximum number of targets per Availability Zone '%d' has been reached on load balancer '%s'", limit, balancer)
		}
	}
	return nil
}

func (s *Server) checkTarget(g *targetGroup, t types.TargetDescription) error {
	server := aws.ToString(t.QuicServerId)
	switch {
	case t.Id == nil:
		return refuse("ValidationError", "A target has an ID")
	case isQUIC(g.Protocol) != (t.QuicServerId != nil) || server != "" && !serverForm.MatchString(server):
		return refuse("ValidationError", "A target of protocol '%s' cannot have the server ID '%s'", g.Protocol, server)
	}
	for _, have := range g.targets {
		same := have.id == *t.Id && (t.Port == nil || have.port == *t.Port)
		if server != "" && have.until.IsZero() && same != (have.server == server) {
			return refuse("ValidationError", "The server ID '%s' of '%s' is in use, or the target has another one", server, *t.Id)
		}
	}
	if err := checkPort(t.Port); err != nil {
		return err
	}
	if g.TargetType == types.TargetTypeEnumInstance {
		if t.AvailabilityZone != nil {
			return refuse("ValidationError", "The Availability Zone cannot be specified for target type 'instance'")
		}
		if !instanceForm.MatchString(*t.Id) {
			return refuse("ValidationError", "Instance ID '%s' is not valid", *t.Id)
		}
		machines := s.options.Machines
		switch i := slices.IndexFunc(machines, func(m Machine) bool { return m.ID == *t.Id }); {
		case len(machines) == 0:
		case i < 0:
			return refuse("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", *t.Id)
		case g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv6 && !machines[i].IPv6.IsValid():
			return refuse("InvalidTarget", "The following targets cannot be used with this IPv6 target group because of missing primary IPv6 addresses: '%s'", *t.Id)
		}
		return nil
	}
	address, err := netip.ParseAddr(*t.Id)
	if err != nil || address.Is4() != (g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv4) {
		return refuse("ValidationError", "The IP address '%s' is not a valid %s address", *t.Id, g.IpAddressType)
	}
	for _, text := range []string{"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8", "2600::/12"} {
		if netip.MustParsePrefix(text).Contains(address) {
			return s.checkZone(address, aws.ToString(t.AvailabilityZone))
		}
	}
	return refuse("ValidationError", "The IP address '%s' is not within the allowed ranges", *t.Id)
}

// checkZone checks what is said of an address's zone: "all", or one, where it is in no subnet of the VPC, and nothing else where it is.
func (s *Server) checkZone(address netip.Addr, said string) error {
	switch zone := s.zoneAt(address); {
	case zone == "" && said == "":
		return refuse("ValidationError", "The Availability Zone is required for IP address '%s' because it is not in the VPC", address)
	case zone != "" && said != "" && said != zone:
		return refuse("ValidationError", "The IP address '%s' is within the VPC, and cannot have its Availability Zone overridden to '%s' from '%s'", address, said, zone)
	}
	return nil
}

// zoneAt is that of the VPC's subnet that an address is in; empty: it is in none.
func (s *Server) zoneAt(address netip.Addr) string {
	for _, n := range s.options.Subnets {
		for _, text := range []string{n.CIDR, n.CIDR6} {
			if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Contains(address) && (n.VPC == "" || n.VPC == s.options.VPC) {
				return n.Zone
			}
		}
	}
	return ""
}

func (s *Server) deregisterTargets(in *elb.DeregisterTargetsInput) (*elb.DeregisterTargetsOutput, error) {
	g, err := s.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) > maxTargets {
		return nil, refuse("ValidationError", "Up to %d targets can be deregistered in one call", maxTargets)
	}
	used := len(usersOf(&s.state, *in.TargetGroupArn)) > 0
	delay, _ := strconv.Atoi(s.state.attributes[*in.TargetGroupArn]["deregistration_delay.timeout_seconds"])
	for _, t := range in.Targets {
		if address, err := netip.ParseAddr(aws.ToString(t.Id)); err == nil && g.TargetType == types.TargetTypeEnumIp {
			if err := s.checkZone(address, aws.ToString(t.AvailabilityZone)); err != nil {
				return nil, err
			}
		}
		for key, have := range g.targets {
			if have.id != aws.ToString(t.Id) || t.Port != nil && *t.Port != have.port || !have.until.IsZero() {
				continue
			}
			// Connections that are open go on for a while.
			if have.until = s.now().Add(time.Duration(delay) * time.Second); used && delay > 0 {
				g.targets[key] = have
			} else {
				delete(g.targets, key)
			}
		}
	}
	s.state.groups[*in.TargetGroupArn] = g
	return &elb.DeregisterTargetsOutput{}, nil
}

// SetAnswering says whether a target, an instance's id or an address, with a port or without, answers health checks. At
// first all do.
func (s *Server) SetAnswering(id string, answering bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhappy[id] = !answering
}

func (s *Server) describeTargetHealth(in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
	read := s.read()
	g := read.groups[*in.TargetGroupArn]
	if g == nil {
		return nil, refuse("TargetGroupNotFound", "Target group '%s' not found", *in.TargetGroupArn)
	}
	used := len(usersOf(read, *in.TargetGroupArn)) > 0
	wanted := func(t target) bool {
		return len(in.Targets) == 0 || slices.ContainsFunc(in.Targets, func(d types.TargetDescription) bool {
			return aws.ToString(d.Id) == t.id && (d.Port == nil || *d.Port == t.port)
		})
	}
	var found map[netip.AddrPort]types.TargetHealthStateEnum
	if s.hardware != nil {
		found = s.verdicts(*in.TargetGroupArn)
	}
	out := &elb.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}
	all := slices.SortedFunc(maps.Values(g.targets), func(a, b target) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.port, b.port)) })
	for _, t := range all {
		if !wanted(t) || !t.until.IsZero() && !s.now().Before(t.until) {
			continue
		}
		port := *g.HealthCheckPort
		if port == "traffic-port" {
			port = strconv.Itoa(int(t.port))
		}
		shown := types.TargetHealthDescription{HealthCheckPort: &port, TargetHealth: s.health(g, t, used, found),
			Target: &types.TargetDescription{Id: aws.String(t.id), Port: aws.Int32(t.port)}}
		if t.server != "" {
			shown.Target.QuicServerId = aws.String(t.server)
		}
		if t.zone != "" {
			shown.Target.AvailabilityZone = aws.String(t.zone)
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, shown)
	}
	return out, nil
}

// health is that of one target, by what the hardware found, if there is any.
func (s *Server) health(g *targetGroup, t target, used bool, found map[netip.AddrPort]types.TargetHealthStateEnum) *types.TargetHealth {
	wait := time.Duration(*g.HealthCheckIntervalSeconds**g.HealthyThresholdCount) * time.Second
	switch {
	case !t.until.IsZero():
		return &types.TargetHealth{State: types.TargetHealthStateEnumDraining, Reason: types.TargetHealthReasonEnumDeregistrationInProgress}
	case !used:
		return &types.TargetHealth{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotInUse}
	case s.hardware != nil:
		at, _ := s.whereIs(t, g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv4)
		switch state := found[at]; state {
		case types.TargetHealthStateEnumHealthy:
			return &types.TargetHealth{State: state}
		case types.TargetHealthStateEnumUnhealthy:
			return &types.TargetHealth{State: state, Reason: types.TargetHealthReasonEnumFailedHealthChecks}
		}
		return &types.TargetHealth{State: types.TargetHealthStateEnumInitial, Reason: types.TargetHealthReasonEnumInitialHealthChecking}
	case s.unhappy[t.id], s.unhappy[fmt.Sprintf("%s:%d", t.id, t.port)]:
		return &types.TargetHealth{State: types.TargetHealthStateEnumUnhealthy, Reason: types.TargetHealthReasonEnumFailedHealthChecks}
	case s.now().Sub(t.since) < wait:
		return &types.TargetHealth{State: types.TargetHealthStateEnumInitial, Reason: types.TargetHealthReasonEnumInitialHealthChecking}
	}
	return &types.TargetHealth{State: types.TargetHealthStateEnumHealthy}
}
