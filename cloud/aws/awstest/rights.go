package awstest

// dependent are the actions that ELB asks of who calls, beside the operation's own, by what its documentation lists for each operation
// ("Elastic Load Balancing API permissions"). Security groups of shared VPCs are asked for since there are such.
var dependent = map[string][]string{
	"elasticloadbalancing:CreateLoadBalancer": {"ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeInternetGateways",
		"ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:GetSecurityGroupsForVpc"},
	"elasticloadbalancing:CreateTargetGroup": {"ec2:DescribeInternetGateways", "ec2:DescribeVpcs"},
	"elasticloadbalancing:RegisterTargets":   {"ec2:DescribeInstances", "ec2:DescribeInternetGateways", "ec2:DescribeSubnets", "ec2:DescribeVpcs"},
	"elasticloadbalancing:SetIpAddressType":  {"ec2:DescribeSubnets"},
	"elasticloadbalancing:SetSecurityGroups": {"ec2:DescribeSecurityGroups", "ec2:GetSecurityGroupsForVpc"},
	"elasticloadbalancing:SetSubnets":        {"ec2:DescribeSubnets"},
}

// linkedRole is what the first balancer of an account takes, too.
const linkedRole = "iam:CreateServiceLinkedRole"
