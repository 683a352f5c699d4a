package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go/middleware"

	"github.com/fairlead/fairlead/cloud"
)

// compute are the calls of EC2. They are fields, not methods of an interface: with a client in an interface the program
// would carry all of EC2's calls, which are 700.
type compute struct {
	describeAddresses         func(context.Context, *ec2.DescribeAddressesInput, ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error)
	describeSubnets           func(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	describeSecurityGroups    func(context.Context, *ec2.DescribeSecurityGroupsInput, ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error)
	createSecurityGroup       func(context.Context, *ec2.CreateSecurityGroupInput, ...func(*ec2.Options)) (*ec2.CreateSecurityGroupOutput, error)
	deleteSecurityGroup       func(context.Context, *ec2.DeleteSecurityGroupInput, ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error)
	authorizeIngress          func(context.Context, *ec2.AuthorizeSecurityGroupIngressInput, ...func(*ec2.Options)) (*ec2.AuthorizeSecurityGroupIngressOutput, error)
	revokeIngress             func(context.Context, *ec2.RevokeSecurityGroupIngressInput, ...func(*ec2.Options)) (*ec2.RevokeSecurityGroupIngressOutput, error)
	createTags                func(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
	deleteTags                func(context.Context, *ec2.DeleteTagsInput, ...func(*ec2.Options)) (*ec2.DeleteTagsOutput, error)
	describeInstances         func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	describeNetworkInterfaces func(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
}

// newClients makes clients that wait for the account's limits before each call, and retry nothing by themselves: the core
// knows who else is waiting.
func newClients(config aws.Config) (*elb.Client, compute) {
	config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	config.APIOptions = append(config.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("fairlead", send), middleware.After)
	})
	c := ec2.NewFromConfig(config)
	return elb.NewFromConfig(config), compute{
		describeAddresses: c.DescribeAddresses, describeSubnets: c.DescribeSubnets, describeSecurityGroups: c.DescribeSecurityGroups, createSecurityGroup: c.CreateSecurityGroup,
		deleteSecurityGroup: c.DeleteSecurityGroup, authorizeIngress: c.AuthorizeSecurityGroupIngress, revokeIngress: c.RevokeSecurityGroupIngress,
		createTags: c.CreateTags, deleteTags: c.DeleteTags, describeNetworkInterfaces: c.DescribeNetworkInterfaces,
		describeInstances: c.DescribeInstances,
	}
}

// send waits for the account, and has errors plain.
func send(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	kind := cloud.Write
	if reads(awsmiddleware.GetOperationName(ctx)) {
		kind = cloud.Read
	}
	if err := cloud.Wait(ctx, kind); err != nil {
		return middleware.InitializeOutput{}, middleware.Metadata{}, err
	}
	out, metadata, err := next.HandleInitialize(ctx, in)
	if err != nil {
		err = plain(awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx), err)
	}
	return out, metadata, err
}
