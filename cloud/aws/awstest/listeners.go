package awstest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// defaultPolicy of TLS listeners that name none.
const defaultPolicy = "ELBSecurityPolicy-2016-08"

var alpnPolicies = []string{"HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred", "None"}

func (s *Server) createListener(in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	b, err := s.balancer(*in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	l := &types.Listener{LoadBalancerArn: in.LoadBalancerArn, Port: in.Port, Protocol: in.Protocol, DefaultActions: in.DefaultActions,
		Certificates: in.Certificates, SslPolicy: in.SslPolicy, AlpnPolicy: in.AlpnPolicy}
	if l.Protocol == types.ProtocolEnumTls && l.SslPolicy == nil {
		l.SslPolicy = aws.String(defaultPolicy)
	}
	for _, err := range []error{checkPort(in.Port), checkTags(in.Tags), s.checkListener(b, l)} {
		if err != nil {
			return nil, err
		}
	}
	count := 0
	for _, have := range s.state.listeners {
		if *have.LoadBalancerArn != *in.LoadBalancerArn {
			continue
		}
		if count++; *have.Port == *in.Port {
			return nil, refuse("DuplicateListener", "A listener already exists on this port for this load balancer")
		}
	}
	if count >= s.options.Quotas.Listeners {
		return nil, refuse("TooManyListeners", "The maximum number of listeners has been reached on load balancer '%s'", *in.LoadBalancerArn)
	}
	arn := strings.Replace(*in.LoadBalancerArn, ":loadbalancer/", ":listener/", 1) + "/" + s.id()
	l.ListenerArn = &arn
	s.state.listeners[arn] = l
	if err := s.countTargets(*in.LoadBalancerArn); err != nil {
		return nil, err
	}
	s.state.tags[arn] = plain(in.Tags)
	s.state.attributes[arn] = map[string]string{}
	if l.Protocol == types.ProtocolEnumTcp || l.Protocol == types.ProtocolEnumTcpUdp {
		s.state.attributes[arn]["tcp.idle_timeout.seconds"] = "350"
	}
	return &elb.CreateListenerOutput{Listeners: []types.Listener{*l}}, nil
}

// forwardsTo is the target group of a listener.
func forwardsTo(l *types.Listener) string {
	if len(l.DefaultActions) == 0 {
		return ""
	}
	return aws.ToString(l.DefaultActions[0].TargetGroupArn)
}

// checkListener checks a listener as it would be.
func (s *Server) checkListener(b *balancer, l *types.Listener) error {
	if err := enum("listener protocol", l.Protocol, protocols); err != nil {
		return err
	}
	if len(l.DefaultActions) != 1 || l.DefaultActions[0].Type != types.ActionTypeEnumForward || l.DefaultActions[0].TargetGroupArn == nil ||
		l.DefaultActions[0].ForwardConfig != nil {
		return refuse("InvalidLoadBalancerAction", "A listener has one action here, which forwards to one target group")
	}
	g := s.state.groups[forwardsTo(l)]
	if g == nil {
		return refuse("TargetGroupNotFound", "Target group '%s' not found", forwardsTo(l))
	}
	tls := l.Protocol == types.ProtocolEnumTls
	switch users := usersOf(&s.state, *g.TargetGroupArn); {
	case g.Protocol != l.Protocol && (!tls || g.Protocol != types.ProtocolEnumTcp):
		return refuse("IncompatibleProtocols", "A target group of protocol '%s' cannot be used by a listener of protocol '%s'", g.Protocol, l.Protocol)
	case *g.VpcId != *b.VpcId:
		return refuse("InvalidConfigurationRequest", "The target group '%s' and the load balancer are in different VPCs", *g.TargetGroupArn)
	case len(users) > 1 || len(users) == 1 && users[0] != *b.LoadBalancerArn:
		return refuse("TargetGroupAssociationLimit", "The target group '%s' is used by another load balancer", *g.TargetGroupArn)
	case g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv6 && b.IpAddressType == types.IpAddressTypeIpv4:
		return refuse("InvalidConfigurationRequest", "IPv6 target groups need a dualstack load balancer")
	case isUDP(l.Protocol) && b.IpAddressType != types.IpAddressTypeIpv4 &&
		b.EnablePrefixForIpv6SourceNat != types.EnablePrefixForIpv6SourceNatEnumOn:
		return refuse("InvalidConfigurationRequest", "UDP on a dualstack load balancer needs prefixes for IPv6 source NAT")
	case isUDP(l.Protocol) && b.IpAddressType != types.IpAddressTypeIpv4 && g.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv4:
		return refuse("InvalidConfigurationRequest", "You cannot use an IPv4 target group with a UDP listener for a dualstack load balancer")
	}
	if err := s.checkQUIC(b, l); err != nil {
		return err
	}
	switch {
	case tls && s.state.capacity[*b.LoadBalancerArn].units > 0:
		return refuse("InvalidConfigurationRequest", "TLS listeners are not supported on a load balancer with a capacity reservation")
	case tls && len(l.Certificates) != 1:
		return refuse("CertificateNotFound", "A certificate must be specified for TLS listeners")
	case !tls && (len(l.Certificates) > 0 || l.SslPolicy != nil || len(l.AlpnPolicy) > 0):
		return refuse("InvalidConfigurationRequest", "Certificates and policies are for TLS listeners only")
	case tls && checkCertificate(l.Certificates[0]) != nil:
		return checkCertificate(l.Certificates[0])
	case tls && !strings.HasPrefix(*l.SslPolicy, "ELBSecurityPolicy-"):
		return refuse("SSLPolicyNotFound", "SSL policy '%s' not found", *l.SslPolicy)
	case len(l.AlpnPolicy) > 1 || len(l.AlpnPolicy) == 1 && !slices.Contains(alpnPolicies, l.AlpnPolicy[0]):
		return refuse("ALPNPolicyNotFound", "ALPN policy '%s' is not supported", strings.Join(l.AlpnPolicy, ","))
	}
	return nil
}

// checkQUIC checks what a listener of QUIC, or of UDP beside one, cannot be with.
func (s *Server) checkQUIC(b *balancer, l *types.Listener) error {
	if isQUIC(l.Protocol) && (len(b.SecurityGroups) > 0 || b.IpAddressType != types.IpAddressTypeIpv4) {
		return refuse("InvalidConfigurationRequest", "Listeners of protocol '%s' are not allowed on dualstack load balancers or load balancers with security groups", l.Protocol)
	}
	for _, other := range s.state.listeners {
		if *other.LoadBalancerArn != *l.LoadBalancerArn || *other.Port == *l.Port {
			continue
		}
		if isQUIC(l.Protocol) && (isQUIC(other.Protocol) || isUDP(other.Protocol)) || isUDP(l.Protocol) && isQUIC(other.Protocol) {
			return refuse("InvalidConfigurationRequest", "A load balancer with a listener of QUIC can have no other of QUIC or UDP")
		}
	}
	return nil
}

func (s *Server) modifyListener(in *elb.ModifyListenerInput) (*elb.ModifyListenerOutput, error) {
	have := s.state.listeners[*in.ListenerArn]
	if have == nil {
		return nil, refuse("ListenerNotFound", "Listener '%s' not found", *in.ListenerArn)
	}
	l := *have
	if in.Port != nil && *in.Port != *l.Port {
		return nil, refuse("UnsupportedOperation", "the port of a listener is not changed here")
	}
	if len(in.DefaultActions) > 0 {
		l.DefaultActions = in.DefaultActions
	}
	if in.Protocol != "" && in.Protocol != l.Protocol {
		l.Protocol, l.Certificates, l.SslPolicy, l.AlpnPolicy = in.Protocol, nil, nil, nil
		if l.Protocol == types.ProtocolEnumTls {
			l.SslPolicy = aws.String(defaultPolicy)
		}
		all := map[string]string{}
		if l.Protocol == types.ProtocolEnumTcp || l.Protocol == types.ProtocolEnumTcpUdp {
			all["tcp.idle_timeout.seconds"] = "350"
		}
		s.state.attributes[*in.ListenerArn] = all
		delete(s.state.certificates, *in.ListenerArn)
	}
	if len(in.Certificates) > 0 {
		l.Certificates = in.Certificates
	}
	if in.SslPolicy != nil {
		l.SslPolicy = in.SslPolicy
	}
	if in.AlpnPolicy != nil {
		l.AlpnPolicy = in.AlpnPolicy
	}
	b, err := s.balancer(*l.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	if err := s.checkListener(b, &l); err != nil {
		return nil, err
	}
	s.state.listeners[*in.ListenerArn] = &l
	if err := s.countTargets(*l.LoadBalancerArn); err != nil {
		return nil, err
	}
	if was := forwardsTo(have); was != forwardsTo(&l) && len(usersOf(&s.state, was)) == 0 {
		s.release(was)
	}
	return &elb.ModifyListenerOutput{Listeners: []types.Listener{l}}, nil
}

func (s *Server) deleteListener(in *elb.DeleteListenerInput) (*elb.DeleteListenerOutput, error) {
	if s.state.listeners[*in.ListenerArn] == nil {
		return nil, refuse("ListenerNotFound", "Listener '%s' not found", *in.ListenerArn)
	}
	s.removeListener(*in.ListenerArn)
	return &elb.DeleteListenerOutput{}, nil
}

func (s *Server) removeListener(arn string) {
	group := forwardsTo(s.state.listeners[arn])
	delete(s.state.listeners, arn)
	s.forget(arn)
	if len(usersOf(&s.state, group)) == 0 {
		s.release(group)
	}
}

func (s *Server) describeListeners(in *elb.DescribeListenersInput) (*elb.DescribeListenersOutput, error) {
	read := s.read()
	if (in.LoadBalancerArn == nil) == (len(in.ListenerArns) == 0) {
		return nil, refuse("ValidationError", "You must specify either listener ARNs or a load balancer ARN")
	}
	all := sortedBy(read.listeners, func(l *types.Listener) string { return fmt.Sprintf("%s %05d", *l.LoadBalancerArn, *l.Port) })
	all, err := pick(all, "ListenerNotFound", in.ListenerArns, func(l *types.Listener) string { return *l.ListenerArn }, nil, nil)
	if err != nil {
		return nil, err
	}
	if in.LoadBalancerArn != nil {
		if read.balancers[*in.LoadBalancerArn] == nil {
			return nil, refuse("LoadBalancerNotFound", "Load balancer '%s' not found", *in.LoadBalancerArn)
		}
		all = slices.DeleteFunc(slices.Clone(all), func(l *types.Listener) bool { return *l.LoadBalancerArn != *in.LoadBalancerArn })
	}
	some, next, err := page(all, in.Marker, in.PageSize, 400)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeListenersOutput{NextMarker: next, Listeners: []types.Listener{}}
	for _, l := range some {
		out.Listeners = append(out.Listeners, *l)
	}
	return out, nil
}
