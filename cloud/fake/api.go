package fake

import (
	"context"
	"fmt"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// Kinds of objects.
const (
	KindAddress     = "Address"     // family, pool, requested; result: address
	KindHealthCheck = "HealthCheck" // protocol, port (0: the target's), path, intervalSeconds, threshold
	KindTargetSet   = "TargetSet"   // protocol, port (0: each target has its own), family; refs: HealthCheck
	KindBalancer    = "Balancer"    // refs: Address
	KindListener    = "Listener"    // protocol, port, family, sourceRanges, affinitySeconds; refs: Balancer, TargetSet
)

// States of objects.
const (
	StateReady    = "Ready"
	StatePending  = "Pending"
	StateDeleting = "Deleting"
	StateFailed   = "Failed"
)

// Object is one thing in the cloud.
type Object struct {
	Kind string `json:"kind"`
	// Name is unique per kind.
	Name string `json:"name"`
	// ID is given by the cloud.
	ID     string            `json:"id"`
	State  string            `json:"state"`
	Tags   map[string]string `json:"tags,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
	// Refs are the ids of the objects that this one uses, sorted.
	Refs []string `json:"refs,omitempty"`
	// Targets of a target set: addresses, or where it has no port addresses with a port each, sorted.
	Targets []string `json:"targets,omitempty"`
	// Address that the cloud gave, of an Address.
	Address string `json:"address,omitempty"`
	// Version that the cloud gives; another one after each change.
	Version int `json:"version,omitempty"`
}

// TargetsRequest changes the targets of one target set.
type TargetsRequest struct {
	ID     string   `json:"id"`
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// CheckRequest asks whether an object could be made.
type CheckRequest struct {
	Object Object `json:"object"`
	// Without are the ids of objects that would be gone by then.
	Without []string `json:"without,omitempty"`
}

// API is what the cloud offers to its customers. Every error is an *Error, or comes from the way there.
type API interface {
	// Create makes an object: Kind, Name, Tags, Fields and Refs are the customer's, the rest the cloud's.
	Create(ctx context.Context, object Object) (Object, error)
	// Check answers what Create would if the objects with the ids of the request were gone, as far as it does not depend on the
	// name and on Refs. It changes nothing.
	Check(ctx context.Context, request CheckRequest) error
	// Update sets the given fields and tags, and the refs where they are not nil. A tag with an empty value is removed;
	// tags that are not given stay. With a Version it is done only if that is still the object's.
	Update(ctx context.Context, object Object) (Object, error)
	// Delete removes an object by id.
	Delete(ctx context.Context, id string) error
	// List returns the objects that have all the tags of one of the sets, or all objects where there are no sets, sorted
	// by kind and name.
	List(ctx context.Context, sets ...map[string]string) ([]Object, error)
	// SyncTargets changes target sets, at most MaxTargetsPerCall additions and removals in one call; all or none.
	SyncTargets(ctx context.Context, requests []TargetsRequest) error
	// DescribeTargets returns what the cloud makes of the targets of the sets with these ids.
	DescribeTargets(ctx context.Context, ids []string) ([]TargetState, error)
	// Health returns what the hardware says of the targets in use.
	Health(ctx context.Context) ([]hardware.TargetHealth, error)
}

// MaxTargetsPerCall is the limit of SyncTargets.
const MaxTargetsPerCall = 200

// Code says what an Error is about.
type Code string

// Codes of errors, as a real cloud would answer them.
const (
	CodeInvalidParameter Code = "InvalidParameter"
	CodeDuplicateName    Code = "DuplicateName"
	CodeNotFound         Code = "NotFound"
	CodeInUse            Code = "InUse"
	CodePortTaken        Code = "PortTaken"
	CodeChanged          Code = "Changed"
	CodeQuotaExceeded    Code = "QuotaExceeded"
	CodePoolExhausted    Code = "PoolExhausted"
	CodeThrottled        Code = "Throttled"
	CodeInternal         Code = "Internal"
)

// Error is the cloud's refusal.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// RetryAfterSeconds, with CodeThrottled; 0 means that the cloud did not say.
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty"`
}

// Error returns code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
