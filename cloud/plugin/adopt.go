package plugin

import (
	"context"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

var _ cloud.Adopter = (*Client)(nil)

// Adoptable implements cloud.Adopter.
func (c *Client) Adoptable(ctx context.Context, owner cloud.Owner, id string) (found []cloud.Adoptable, err error) {
	request := &pluginv1alpha1.AdoptableRequest{Owner: toOwner(owner), Id: id, Priority: toPriority(cloud.PriorityOf(ctx))}
	err = c.call(ctx, "Adoptable", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.Adoptable(ctx, request)
		if err != nil {
			return err
		}
		found = each(answer.GetBalancers(), fromAdoptable)
		return fromError(answer.GetError())
	})
	return found, err
}

func (s *service) Adoptable(ctx context.Context, request *pluginv1alpha1.AdoptableRequest) (*pluginv1alpha1.AdoptableResponse, error) {
	ctx = cloud.WithPriority(ctx, fromPriority(request.GetPriority()))
	found, err := cloud.FindAdoptable(ctx, s.provider, fromOwner(request.GetOwner()), request.GetId())
	return &pluginv1alpha1.AdoptableResponse{Balancers: each(found, toAdoptable), Error: toError(s.provider, err)}, nil
}
