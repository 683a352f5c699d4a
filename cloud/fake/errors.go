package fake

import (
	"errors"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

var classes = map[Code]cloud.Class{
	CodeInvalidParameter: cloud.UserError,
	CodeDuplicateName:    cloud.Conflict,
	CodeNotFound:         cloud.NotFound,
	CodeInUse:            cloud.Retry,
	CodePortTaken:        cloud.Conflict,
	CodeChanged:          cloud.Conflict,
	CodeQuotaExceeded:    cloud.Quota,
	CodePoolExhausted:    cloud.Quota,
	CodeThrottled:        cloud.Throttled,
	CodeInternal:         cloud.Retry,
}

// Classify implements cloud.Provider by the cloud's codes.
func (p *Provider) Classify(err error) *cloud.Error {
	refused, ok := errors.AsType[*Error](err)
	if _, decided := errors.AsType[*cloud.Error](err); decided || !ok {
		return cloud.Classify(err)
	}
	class, known := classes[refused.Code]
	if !known {
		class = cloud.Retry
	}
	return &cloud.Error{Class: class, After: time.Duration(refused.RetryAfterSeconds) * time.Second, Err: err}
}

func hasCode(err error, code Code) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Code == code
}
