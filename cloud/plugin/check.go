package plugin

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

var _ cloud.Checker = (*Client)(nil)

// Check implements cloud.Checker. Of a plugin that cannot look, nothing is known against it.
func (c *Client) Check(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	request := &pluginv1alpha1.CheckRequest{Owner: toOwner(owner), Desired: toResource(desired), Replaced: each(replaced, toResource),
		Priority: toPriority(cloud.PriorityOf(ctx))}
	return c.call(ctx, "Check", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.Check(ctx, request)
		switch {
		case status.Code(err) == codes.Unimplemented:
			return nil
		case err != nil:
			return err
		}
		return fromError(answer.GetError())
	})
}

func (s *service) Check(ctx context.Context, request *pluginv1alpha1.CheckRequest) (*pluginv1alpha1.CheckResponse, error) {
	ctx = cloud.WithPriority(ctx, fromPriority(request.GetPriority()))
	err := cloud.CheckCreate(ctx, s.provider, fromOwner(request.GetOwner()), fromResource(request.GetDesired()), each(request.GetReplaced(), fromResource))
	return &pluginv1alpha1.CheckResponse{Error: toError(s.provider, err)}, nil
}
