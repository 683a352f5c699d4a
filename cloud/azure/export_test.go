package azure

// For tests that put something in the way.
var (
	BalancerName = balancerName
	SecurityPart = securityPart
)
