package awstest

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// capacity that is reserved for a balancer, or was.
type capacity struct {
	units int32 // 0: none
	at    time.Time
	// decreased says when it became less.
	decreased []time.Time
}

// decreasesPerDay of one balancer's reservation.
const decreasesPerDay = 2

func (c capacity) remaining(now time.Time) (remaining int) {
	remaining = decreasesPerDay
	for _, at := range c.decreased {
		if now.Sub(at) < 24*time.Hour {
			remaining--
		}
	}
	return remaining
}

func (s *Server) modifyCapacityReservation(in *elb.ModifyCapacityReservationInput) (*elb.ModifyCapacityReservationOutput, error) {
	b, err := s.balancer(*in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	have, now := s.state.capacity[*in.LoadBalancerArn], s.now()
	reset := aws.ToBool(in.ResetCapacityReservation)
	next := have
	next.at, next.units = now, 0
	if in.MinimumLoadBalancerCapacity != nil {
		next.units = aws.ToInt32(in.MinimumLoadBalancerCapacity.CapacityUnits)
	}
	total := int(next.units)
	for arn, other := range s.state.capacity {
		if arn != *in.LoadBalancerArn {
			total += int(other.units)
		}
	}
	switch {
	case reset == (in.MinimumLoadBalancerCapacity != nil):
		return nil, refuse("ValidationError", "You must specify either a minimum load balancer capacity or a reset")
	case !reset && next.units < 1:
		return nil, refuse("ValidationError", "Capacity units must be more than 0")
	case s.show(b).State.Code != types.LoadBalancerStateEnumActive:
		return nil, refuse("OperationNotPermitted", "Load balancer '%s' is not active", *in.LoadBalancerArn)
	case have.units > 0 && now.Sub(have.at) < s.options.Reserving:
		return nil, refuse("CapacityReservationPending", "There is a pending capacity reservation for load balancer '%s'", *in.LoadBalancerArn)
	case !reset && s.hasTLS(*in.LoadBalancerArn):
		return nil, refuse("InvalidConfigurationRequest", "Capacity reservation is not supported on a load balancer with TLS listeners")
	case total > s.options.Quotas.CapacityUnits:
		return nil, refuse("CapacityUnitsLimitExceeded", "The capacity units limit has been exceeded")
	}
	if !reset && next.units < have.units {
		if have.remaining(now) == 0 {
			return nil, refuse("CapacityDecreaseRequestLimitExceeded", "The daily capacity decrease limit has been exceeded")
		}
		next.decreased = append(append([]time.Time{}, have.decreased...), now)
	}
	s.state.capacity[*in.LoadBalancerArn] = next
	shown := s.reservation(b, next)
	return &elb.ModifyCapacityReservationOutput{CapacityReservationState: shown.CapacityReservationState, LastModifiedTime: shown.LastModifiedTime,
		DecreaseRequestsRemaining: shown.DecreaseRequestsRemaining, MinimumLoadBalancerCapacity: shown.MinimumLoadBalancerCapacity}, nil
}

func (s *Server) hasTLS(arn string) bool {
	for _, l := range s.state.listeners {
		if *l.LoadBalancerArn == arn && l.Protocol == types.ProtocolEnumTls {
			return true
		}
	}
	return false
}

func (s *Server) describeCapacityReservation(in *elb.DescribeCapacityReservationInput) (*elb.DescribeCapacityReservationOutput, error) {
	read := s.read()
	b := read.balancers[*in.LoadBalancerArn]
	if b == nil {
		return nil, refuse("LoadBalancerNotFound", "Load balancer '%s' not found", *in.LoadBalancerArn)
	}
	return s.reservation(b, read.capacity[*in.LoadBalancerArn]), nil
}

// reservation is one as it is answered: a part of it in each zone.
func (s *Server) reservation(b *balancer, c capacity) *elb.DescribeCapacityReservationOutput {
	out := &elb.DescribeCapacityReservationOutput{DecreaseRequestsRemaining: aws.Int32(int32(c.remaining(s.now()))),
		CapacityReservationState: []types.ZonalCapacityReservationState{}}
	if !c.at.IsZero() {
		out.LastModifiedTime = aws.Time(c.at)
	}
	if c.units == 0 {
		return out
	}
	out.MinimumLoadBalancerCapacity = &types.MinimumLoadBalancerCapacity{CapacityUnits: aws.Int32(c.units)}
	for _, zone := range b.AvailabilityZones {
		state := types.ZonalCapacityReservationState{AvailabilityZone: zone.ZoneName, EffectiveCapacityUnits: aws.Float64(float64(c.units) / float64(len(b.AvailabilityZones))),
			State: &types.CapacityReservationStatus{Code: types.CapacityReservationStateEnumProvisioned}}
		if s.now().Sub(c.at) < s.options.Reserving {
			state.EffectiveCapacityUnits, state.State.Code = nil, types.CapacityReservationStateEnumPending
		}
		out.CapacityReservationState = append(out.CapacityReservationState, state)
	}
	return out
}
