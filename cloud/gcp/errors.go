package gcp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"

	"github.com/fairlead/fairlead/cloud"
)

// deniedFor is how long to wait after a call for which a permission is missing: it may be granted without anything in the
// cluster changing.
const deniedFor = time.Minute

// Error is a refusal of the API, or the failure of an operation that it had begun.
type Error struct {
	// Status of HTTP, and Code: the reason of a refusal, such as quotaExceeded, or the code of a failed operation, such as
	// QUOTA_EXCEEDED.
	Status int
	Code   string
	// Message as the API gives it, which names the permission that is missing.
	Message string
	// After is how long the API asks to wait; 0: it does not say.
	After time.Duration
	// Insert: something was to be made, for which no condition was given.
	Insert bool
}

// Error is one line.
func (e *Error) Error() string {
	code := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.Code))
	return fmt.Sprintf("%s (%s)", strings.Join(strings.Fields(e.Message), " "), code)
}

// tidy makes an Error of what the SDK returns for a refusal. Others are returned as they are.
func tidy(err error) error {
	refused, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return err
	}
	e := &Error{Status: refused.Code, Message: refused.Message}
	if len(refused.Errors) > 0 {
		e.Code = refused.Errors[0].Reason
	}
	if e.Message == "" {
		e.Message = http.StatusText(refused.Code)
	}
	if e.Code == "insufficientPermissions" {
		e.Message = strings.TrimSuffix(e.Message, ".") + ": give the manager's machine the scope " + compute.ComputeScope + ", or the manager credentials of its own (workload identity)"
	}
	if seconds, err := strconv.Atoi(refused.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.After = time.Duration(seconds) * time.Second
	}
	return e
}

// failure returns what an operation failed with; nil where it did not, or has not ended.
func failure(op *compute.Operation) error {
	if op.Error == nil || len(op.Error.Errors) == 0 {
		return nil
	}
	first := op.Error.Errors[0]
	return &Error{Status: int(op.HttpErrorStatusCode), Code: first.Code, Message: first.Message, Insert: op.OperationType == "insert"}
}

// codes have the class of a refusal, or of a failed operation, where it does not follow from the status.
var codes = map[string]cloud.Class{
	"rateLimitExceeded":              cloud.Throttled,
	"userRateLimitExceeded":          cloud.Throttled,
	"quotaExceeded":                  cloud.Quota,
	"limitExceeded":                  cloud.Quota,
	"forbidden":                      cloud.RetryAfter, // a permission: somebody has to grant it, and then it works
	"accessNotConfigured":            cloud.RetryAfter,
	"resourceInUseByAnotherResource": cloud.Pending,
	"resourceNotReady":               cloud.Pending,

	"QUOTA_EXCEEDED":                      cloud.Quota,
	"LIMIT_EXCEEDED":                      cloud.Quota,
	"ZONE_RESOURCE_POOL_EXHAUSTED":        cloud.Quota,
	"IP_SPACE_EXHAUSTED":                  cloud.Quota,
	"IP_SPACE_EXHAUSTED_WITH_DETAILS":     cloud.Quota,
	"RATE_LIMIT_EXCEEDED":                 cloud.Throttled,
	"RESOURCE_OPERATION_RATE_EXCEEDED":    cloud.Throttled,
	"RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": cloud.Pending,
	"RESOURCE_NOT_READY":                  cloud.Pending,
	"RESOURCE_NOT_FOUND":                  cloud.NotFound,
	"RESOURCE_ALREADY_EXISTS":             cloud.Conflict,
	"CONDITION_NOT_MET":                   cloud.Conflict,
	"IP_IN_USE_BY_ANOTHER_RESOURCE":       cloud.Conflict,
	"PERMISSIONS_ERROR":                   cloud.RetryAfter,
	"INTERNAL_ERROR":                      cloud.Retry,
}

// statuses have the class of what codes does not tell.
var statuses = map[int]cloud.Class{
	http.StatusBadRequest:         cloud.UserError,
	http.StatusForbidden:          cloud.RetryAfter, // as a right that is missing
	http.StatusNotFound:           cloud.NotFound,
	http.StatusConflict:           cloud.Conflict,
	http.StatusPreconditionFailed: cloud.Conflict,
	http.StatusTooManyRequests:    cloud.Throttled,
}

// Classify implements cloud.Provider.
func (p *Provider) Classify(err error) *cloud.Error {
	if _, decided := errors.AsType[*cloud.Error](err); decided {
		return cloud.Classify(err)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return cloud.Classify(err)
	}
	class, known := codes[e.Code]
	if !known {
		class, known = statuses[e.Status]
	}
	if !known {
		class = cloud.Retry
	}
	if e.Insert && e.Status == http.StatusPreconditionFailed {
		class = cloud.RetryAfter // a policy of the organisation, which forbids it as a missing right does
	}
	after := e.After
	if class == cloud.RetryAfter {
		after = max(after, deniedFor)
	}
	return &cloud.Error{Class: class, After: after, Err: err}
}

func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == status
}
