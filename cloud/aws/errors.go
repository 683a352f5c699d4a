package aws

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/fairlead/fairlead/cloud"
)

// deniedFor is how long to wait after a call that the account's policies denied: they can change without anything in the
// cluster changing.
const deniedFor = time.Minute

// classes of the services' codes. All others are Retry.
var classes = map[string]cloud.Class{
	"Throttling": cloud.Throttled, "ThrottlingException": cloud.Throttled, "RequestLimitExceeded": cloud.Throttled, "RequestThrottled": cloud.Throttled,
	"TooManyRequestsException": cloud.Throttled, "SlowDown": cloud.Throttled, "PriorRequestNotComplete": cloud.Throttled,

	"TooManyLoadBalancers": cloud.Quota, "TooManyTargetGroups": cloud.Quota, "TooManyListeners": cloud.Quota, "TooManyTargets": cloud.Quota,
	"TooManyRegistrationsForTargetId": cloud.Quota, "TooManyUniqueTargetGroupsPerLoadBalancer": cloud.Quota, "TooManyCertificates": cloud.Quota,
	"TooManyTags": cloud.Quota, "SecurityGroupLimitExceeded": cloud.Quota, "RulesPerSecurityGroupLimitExceeded": cloud.Quota,
	"CapacityUnitsLimitExceeded": cloud.Quota, "CapacityDecreaseRequestLimitExceeded": cloud.Quota,
	"SecurityGroupsPerInterfaceLimitExceeded": cloud.Quota, "InsufficientCapacity": cloud.Quota, "InsufficientFreeAddressesInSubnet": cloud.Quota,

	"AllocationIdNotFound": cloud.UserError, "ALPNPolicyNotFound": cloud.UserError, "AvailabilityZoneNotSupported": cloud.UserError,
	"CertificateNotFound": cloud.UserError, "IncompatibleProtocols": cloud.UserError, "InvalidConfigurationRequest": cloud.UserError,
	"InvalidScheme": cloud.UserError, "InvalidSecurityGroup": cloud.UserError, "InvalidSubnet": cloud.UserError, "OperationNotPermitted": cloud.UserError,
	"SSLPolicyNotFound": cloud.UserError, "SubnetNotFound": cloud.UserError, "UnsupportedProtocol": cloud.UserError, "ValidationError": cloud.UserError,
	"InvalidParameterValue": cloud.UserError, "InvalidVpcID.NotFound": cloud.UserError, "InvalidSubnetID.NotFound": cloud.UserError,
	"InvalidAllocationID.NotFound": cloud.UserError, "InvalidPrefixListID.NotFound": cloud.UserError, "InvalidPrefixListId.NotFound": cloud.UserError,
	"UnsupportedOperation": cloud.UserError,

	"DuplicateLoadBalancerName": cloud.Conflict, "DuplicateTargetGroupName": cloud.Conflict, "DuplicateListener": cloud.Conflict,
	"TargetGroupAssociationLimit": cloud.Conflict, "InvalidGroup.Duplicate": cloud.Conflict,

	"LoadBalancerNotFound": cloud.NotFound, "TargetGroupNotFound": cloud.NotFound, "ListenerNotFound": cloud.NotFound,
	"InvalidGroup.NotFound": cloud.NotFound, "InvalidID": cloud.NotFound,

	"ResourceInUse": cloud.Pending, "DependencyViolation": cloud.Pending, "InvalidTarget": cloud.Pending,
	"CapacityReservationPending": cloud.Pending,
}

// denied are the codes of calls that policies deny.
var denied = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "UnauthorizedOperation": true}

// refused is what a service answered, without what differs from one request to the next.
type refused struct{ action, code, message string }

// performed matches the action that a policy denied, in the message: a call takes rights of other services, too.
var performed = regexp.MustCompile(`is not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// Error names the rights that are missing. What is made with tags takes two; EC2 does not always say which of them it was.
func (r *refused) Error() string {
	if denied[r.code] {
		actions := r.action
		service, operation, _ := strings.Cut(r.action, ":")
		if told := performed.FindStringSubmatch(r.message); told != nil {
			return "denied: let the manager's role do " + told[1]
		}
		if service == "sts" {
			return "denied: " + actions + ": have the trust policy of the role let the manager's identity assume it"
		}
		if tagging := map[string]string{"ec2": "CreateTags", "elasticloadbalancing": "AddTags"}[service]; strings.HasPrefix(operation, "Create") && operation != tagging {
			actions += " and " + service + ":" + tagging
		}
		return "denied: let the manager's role do " + actions
	}
	return r.code + ": " + r.message
}

// services are the prefixes of actions by the SDK's names.
var services = map[string]string{"EC2": "ec2", "Elastic Load Balancing v2": "elasticloadbalancing", "STS": "sts"}

// plain makes a *refused of what the SDK has for an answer of a service. Others are returned as they are. The answer can be that of
// another service, which credentials are from.
func plain(service, operation string, err error) error {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	if inner, ok := errors.AsType[*smithy.OperationError](err); ok && services[inner.ServiceID] != "" {
		service, operation = inner.ServiceID, inner.OperationName
	}
	return &refused{action: services[service] + ":" + operation, code: api.ErrorCode(), message: strings.Join(strings.Fields(api.ErrorMessage()), " ")}
}

// Classify implements cloud.Provider by the services' codes.
func (p *Provider) Classify(err error) *cloud.Error {
	if _, decided := errors.AsType[*cloud.Error](err); decided {
		return cloud.Classify(err)
	}
	code := codeOf(err)
	switch class, known := classes[code]; {
	case denied[code]:
		return &cloud.Error{Class: cloud.RetryAfter, After: deniedFor, Err: err}
	case known:
		return &cloud.Error{Class: class, Err: err}
	}
	return &cloud.Error{Class: cloud.Retry, Err: err}
}

// codeOf returns the code of what a service answered; empty: it did not answer.
func codeOf(err error) string {
	if r, ok := errors.AsType[*refused](err); ok {
		return r.code
	}
	return ""
}

// reads reports whether an operation changes nothing.
func reads(operation string) bool { return strings.HasPrefix(operation, "Describe") }
