package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Class is what can be done about an error.
type Class string

const (
	// Retry: it may work later; the delay grows.
	Retry Class = "Retry"
	// RetryAfter: it will not work before Error.After has passed.
	RetryAfter Class = "RetryAfter"
	// Throttled: too many calls. Nothing more is sent for Error.After, or for a growing delay if that is zero.
	Throttled Class = "Throttled"
	// Quota: the account has no room. Retried slowly.
	Quota Class = "Quota"
	// UserError: the Service, its class, an annotation or what it names in the cloud has to change. What Desired says is not retried until
	// it does; what the cloud says is, slowly, since nobody tells what changes there.
	UserError Class = "UserError"
	// Conflict: something that is not ours stands in the way, or somebody else changed it meanwhile. Looked at again.
	Conflict Class = "Conflict"
	// NotFound: what was to be changed is gone. Looked at again.
	NotFound Class = "NotFound"
	// Pending: nothing is wrong; the cloud is still at it.
	Pending Class = "Pending"
)

// Error is an error with its class.
type Error struct {
	Class Class
	// After is how long to wait; zero means unknown.
	After time.Duration
	// Err is the cause. Its text reaches conditions: one line, without request ids.
	Err error
}

// Error returns the text of the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a class, as fmt.Errorf does.
func Errorf(class Class, format string, args ...any) *Error {
	return &Error{Class: class, Err: fmt.Errorf(format, args...)}
}

// Classify is what a provider's Classify falls back to: the Error in the chain, if there is one, else Retry. A
// cancelled context and an unreachable cloud are both Retry.
func Classify(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		// The text of the whole chain is kept: it says what was being done.
		return &Error{Class: e.Class, After: e.After, Err: err}
	}
	return &Error{Class: Retry, Err: err}
}

// IsClass reports whether err has the class, by way of Classify.
func IsClass(err error, class Class) bool {
	return err != nil && Classify(err).Class == class
}

// ErrMixedProtocols is in the chain of the UserError for a Service with ports of several protocols, where the provider
// takes one only. It has a condition of its own on the Service (LoadBalancerPortsError).
var ErrMixedProtocols = errors.New("the provider takes ports of one protocol only")

// interrupted reports whether the caller gave up, rather than the cloud.
func interrupted(ctx context.Context) bool { return ctx.Err() != nil }
