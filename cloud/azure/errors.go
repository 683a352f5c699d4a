package azure

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/fairlead/fairlead/cloud"
)

// refusal is an error that Azure answered, without ids of requests, since its text reaches conditions.
type refusal struct {
	status        int
	code, message string
	action        string // the permission that the request needed; empty: unknown
	after         time.Duration
}

// Error returns code and message in one line, or what permission is missing.
func (r *refusal) Error() string {
	switch {
	case r.status == http.StatusForbidden && r.code == "AuthorizationFailed" && r.action != "":
		return "the manager's identity has no permission for " + r.action
	case r.code == anotherOperation:
		return r.code + ": another operation on it, or on something that it needs, is in progress" // Azure adds the operation's id
	}
	return strings.Join(strings.Fields(r.code+": "+r.message), " ")
}

// refused turns the SDK's error into a refusal; others stay as they are.
func refused(err error) error {
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return err
	}
	r := &refusal{status: answer.StatusCode, code: answer.ErrorCode, message: http.StatusText(answer.StatusCode)}
	raw := answer.RawResponse
	if raw == nil {
		return r
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
			Details []struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"details"`
		} `json:"error"`
	}
	if text, err := runtime.Payload(raw); err == nil && json.Unmarshal(text, &body) == nil && body.Error.Message != "" {
		r.message = body.Error.Message
		for _, detail := range body.Error.Details { // which is all that counts where the code is RetryableError
			r.message += " " + detail.Code + ": " + detail.Message
		}
	}
	if seconds, err := strconv.Atoi(raw.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.after = time.Duration(seconds) * time.Second
	}
	if raw.Request != nil {
		r.action = action(raw.Request)
	}
	return r
}

// action is the permission that a request needs.
func action(request *http.Request) string {
	_, rest, ok := strings.Cut(request.URL.Path, "/providers/")
	namespace, rest, named := strings.Cut(rest, "/")
	if !ok || !named {
		return ""
	}
	if compute := "Microsoft.Compute"; same(namespace, compute) {
		namespace = compute // as the SDK does not write it everywhere
	}
	parts := strings.Split(rest, "/")
	text := namespace + "/" + parts[0]
	if len(parts) > 2 {
		text += "/" + parts[2]
	}
	switch request.Method {
	case http.MethodGet:
		return text + "/read"
	case http.MethodDelete:
		return text + "/delete"
	}
	return text + "/write"
}

// secondBalancer is the code of a network interface that would be in pools of two internal, or two public, balancers.
const secondBalancer = "NetworkInterfaceUsesMultipleLoadBalancersOfSameType"

// anotherOperation is the code of what comes while Azure is at something.
const anotherOperation = "AnotherOperationInProgress"

// classes of codes, whatever the status. Other codes count by status.
var classes = map[string]cloud.Class{
	// Azure is at it, or at something that this needs.
	anotherOperation: cloud.Pending,
	"CanceledAndSupersededDueToAnotherOperation":          cloud.Pending,
	"ReferencedResourceNotProvisioned":                    cloud.Pending,
	"RetryableError":                                      cloud.Pending,
	"RetryableErrorDueToAnotherOperation":                 cloud.Pending,
	"PublicIPAddressCannotBeDeleted":                      cloud.Pending,
	"LoadBalancerUsedByPrivateLinkServiceCannotBeDeleted": cloud.Pending,
	"FrontendIPConfigInUseByPrivateLinkService":           cloud.Pending,
	"LoadBalancerInUseByVirtualMachineScaleSet":           cloud.Pending,
	"InUseBackendAddressPoolCannotBeDeleted":              cloud.Pending,
	// Somebody else has it.
	"PublicIPAddressInUse":                                            cloud.Conflict,
	"PrivateIPAddressInUse":                                           cloud.Conflict,
	"PrivateIPAddressIsAllocated":                                     cloud.Conflict,
	"MultipleIpConfigsRequestSamePrivateIpAddress":                    cloud.Conflict,
	"DnsRecordInUse":                                                  cloud.Conflict,
	"RulesUseSameFrontendPortAndProtocol":                             cloud.Conflict,
	"SecurityRuleConflict":                                            cloud.Conflict,
	"PrivateLinkServiceWithPrivateEndpointConnectionsCannotBeDeleted": cloud.Conflict,
	secondBalancer:                                                    cloud.Conflict,
	// It may have gone meanwhile, or be still to come.
	"AtleastOneIpV4RequiredForIpV6LbFrontendIpConfiguration": cloud.Conflict,
	"InvalidResourceReference":                               cloud.Conflict,
	// There is no room; see also countLimit.
	"QuotaExceeded": cloud.Quota,
	"SubnetIsFull":  cloud.Quota,
	// The configuration's, not the Service's.
	"ResourceGroupNotFound":               cloud.Retry,
	"SubscriptionNotFound":                cloud.Retry,
	"AvailabilityZoneNotSupported":        cloud.Retry,
	"LocationNotSupportAvailabilityZones": cloud.Retry,
}

// countLimit is in the codes of all limits of how many there are, such as IPv4StandardSkuPublicIpCountLimitReached, of which there is no list.
const countLimit = "CountLimitReached"

// Classify implements cloud.Provider by Azure's codes, or else by the status.
func (p *Provider) Classify(err error) *cloud.Error { return classified(err) }

// isClass reports whether an error has a class.
func isClass(err error, class cloud.Class) bool { return err != nil && classified(err).Class == class }

// ends reports whether nothing more can be sent after an error, which may be nil: the context has ended, or too much was sent.
func ends(ctx context.Context, err error) bool {
	return ctx.Err() != nil || isClass(err, cloud.Throttled)
}

func classified(err error) *cloud.Error {
	r, ok := errors.AsType[*refusal](err)
	if _, decided := errors.AsType[*cloud.Error](err); decided || !ok {
		return cloud.Classify(err)
	}
	return &cloud.Error{Class: r.class(), After: r.after, Err: err}
}

// refusalOf is what Azure answered; nil: it is no answer of Azure's.
func refusalOf(err error) *refusal {
	r, _ := errors.AsType[*refusal](err)
	return r
}

func (r *refusal) class() cloud.Class {
	if class, ok := classes[r.code]; ok {
		return class
	}
	if strings.Contains(r.code, countLimit) {
		return cloud.Quota
	}
	switch r.status {
	case http.StatusTooManyRequests:
		return cloud.Throttled
	case http.StatusPreconditionFailed, http.StatusConflict:
		return cloud.Conflict
	case http.StatusNotFound:
		return cloud.NotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return cloud.UserError
	}
	return cloud.Retry // missing permissions, too: nothing of the Service has to change
}

// hasStatus reports whether Azure answered with that status.
func hasStatus(err error, status int) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.status == status
}

// waiting is the error of what is still to be written.
func waiting(what string) error {
	return cloud.Errorf(cloud.Pending, "%s is written together with what other Services want", what)
}
