package aws

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// A balancer's capacity can be reserved, which may take hours, or fail for want of it. It is a resource by itself, so that
// listeners do not wait for it: its id is the balancer's ARN, and it is ours where the balancer's tag tagCapacity says so. What
// somebody reserves by hand has no such tag, and is neither looked at nor changed.

const (
	reserved   = "reserved" // value of tagCapacity
	noCapacity = "0"
)

// reservation is the one that is asked for. It comes after the listeners: no balancer has both a reservation and one of TLS.
func reservation(units int, ports []listened) cloud.Resource {
	r := cloud.Resource{Kind: KindReservation, Key: "main", Attributes: map[string]string{capacity: strconv.Itoa(units)},
		DependsOn: []cloud.Ref{{Kind: KindLoadBalancer, Key: "main", Parent: true}}}
	for _, l := range ports {
		r.DependsOn = append(r.DependsOn, cloud.Ref{Kind: KindListener, Key: strconv.Itoa(int(l.Port.Port))})
	}
	return r
}

// observedReservation is the balancer's, as long as it has our tag, even if there is nothing reserved yet, or any more.
func (p *Provider) observedReservation(ctx context.Context, b types.LoadBalancer, v view) (cloud.Resource, error) {
	r := cloud.Resource{Kind: KindReservation, Key: "main", ID: balancerARN(b), State: cloud.StateReady, Attributes: map[string]string{capacity: noCapacity}}
	if id := v.tags[r.ID][tagOwner]; id != "" {
		r.Owners = []cloud.OwnerID{cloud.OwnerID(id)}
	}
	parent := refTo(KindLoadBalancer, r.ID, v)
	parent.Parent = true
	r.DependsOn = []cloud.Ref{parent}
	for _, l := range v.listeners {
		if aws.ToString(l.LoadBalancerArn) == r.ID {
			r.DependsOn = append(r.DependsOn, refTo(KindListener, listenerARN(l), v))
		}
	}
	out, err := p.elb.DescribeCapacityReservation(ctx, &elb.DescribeCapacityReservationInput{LoadBalancerArn: b.LoadBalancerArn})
	if err != nil {
		return r, err
	}
	if m := out.MinimumLoadBalancerCapacity; m != nil {
		r.Attributes[capacity] = strconv.Itoa(int(aws.ToInt32(m.CapacityUnits)))
	}
	return r, nil
}

// reserve sets the tag before anything is reserved.
func (p *Provider) reserve(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	r.State = cloud.StateReady
	balancer, _ := forwarding(r)
	r.ID = aws.ToString(balancer)
	if err := p.setTags(ctx, r, map[string]string{tagCapacity: reserved}); err != nil {
		return r, err
	}
	return r, p.setCapacity(ctx, r)
}

func (p *Provider) setCapacity(ctx context.Context, r cloud.Resource) error {
	_, err := p.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{LoadBalancerArn: aws.String(r.ID),
		MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: int32Of(r.Attributes[capacity])}})
	return err
}

// updateReservation changes one, or, where the balancer is let go, leaves it with that.
func (p *Provider) updateReservation(ctx context.Context, owner cloud.Owner, is cloud.Resource) error {
	if !slices.Contains(is.Owners, owner.ID()) {
		return p.disclaim(ctx, is.ID)
	}
	return p.setCapacity(ctx, is)
}

// deleteReservation does not wait for one that AWS still works on, or a balancer could not be deleted for hours, which ends it as
// well. Where the balancer stays, the next look finds it again.
func (p *Provider) deleteReservation(ctx context.Context, r cloud.Resource) error {
	if r.Attributes[capacity] != noCapacity {
		err := p.reset(ctx, r.ID)
		switch {
		case codeOf(err) == "CapacityReservationPending":
			return nil
		case err != nil:
			return err
		}
	}
	return p.disclaim(ctx, r.ID)
}

func (p *Provider) reset(ctx context.Context, arn string) error {
	_, err := p.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{LoadBalancerArn: aws.String(arn), ResetCapacityReservation: aws.Bool(true)})
	return err
}

// disclaim takes the tag away, when nothing is reserved any more.
func (p *Provider) disclaim(ctx context.Context, arn string) error {
	_, err := p.elb.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: []string{arn}, TagKeys: []string{tagCapacity}})
	return err
}

// withoutReservation makes a call that has a balancer's listener be one of TLS. Where the balancer still has the reservation of
// ours, which is not wanted any more then, that goes first: what is to go would go last otherwise, and never after an error.
func (p *Provider) withoutReservation(ctx context.Context, listener cloud.Resource, call func() error) error {
	err := call()
	if codeOf(err) != "InvalidConfigurationRequest" || listener.Attributes[certificate] == "" {
		return err
	}
	arn, _ := forwarding(listener)
	have := map[string]map[string]string{}
	if err := p.readTags(ctx, have, []string{*arn}); err != nil {
		return err
	}
	if have[*arn][tagCapacity] == "" {
		return err
	}
	if err := p.reset(ctx, *arn); err != nil {
		return err
	}
	if err := p.disclaim(ctx, *arn); err != nil {
		return err
	}
	return call()
}

// capacityUnits reads CapacityUnits=N.
func capacityUnits(a *cloud.Annotations, s *settings, key string) {
	var all map[string]string
	if a.Map(key, &all); all == nil {
		return
	}
	units, err := strconv.ParseInt(all["CapacityUnits"], 10, 32)
	if err != nil || units < 1 || len(all) != 1 {
		s.wrong(key, "it is to be CapacityUnits=N, such as CapacityUnits=3000")
		return
	}
	s.capacity = int(units)
}

// checkReservation refuses one that cannot be.
func checkReservation(s *settings, ports []listened) error {
	if slices.ContainsFunc(ports, func(l listened) bool { return l.tls }) {
		return fmt.Errorf("%s: AWS reserves none for balancers with TLS: remove it, or the certificate", s.from(AnnotationPrefix+"minimum-load-balancer-capacity"))
	}
	return nil
}
