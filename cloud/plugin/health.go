package plugin

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

var _ cloud.HealthReader = (*Client)(nil)

// TargetHealth implements cloud.HealthReader.
func (c *Client) TargetHealth(ctx context.Context, owner cloud.Owner, resources []cloud.Resource) (healths []cloud.TargetHealth, err error) {
	request := &pluginv1alpha1.TargetHealthRequest{Owner: toOwner(owner), Resources: each(resources, toResource),
		Priority: toPriority(cloud.PriorityOf(ctx))}
	err = c.call(ctx, "TargetHealth", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.TargetHealth(ctx, request)
		if err != nil {
			return err
		}
		healths = each(answer.GetHealths(), fromHealth)
		return fromError(answer.GetError())
	})
	return healths, err
}

func (s *service) TargetHealth(ctx context.Context, request *pluginv1alpha1.TargetHealthRequest) (*pluginv1alpha1.TargetHealthResponse, error) {
	reader := cloud.HealthReaderOf(s.provider)
	if reader == nil {
		return nil, status.Error(codes.Unimplemented, "the provider does not tell the health of targets")
	}
	ctx = cloud.WithPriority(ctx, fromPriority(request.GetPriority()))
	healths, err := reader.TargetHealth(ctx, fromOwner(request.GetOwner()), each(request.GetResources(), fromResource))
	return &pluginv1alpha1.TargetHealthResponse{Healths: each(healths, toHealth), Error: toError(s.provider, err)}, nil
}
