package plugin

import (
	"errors"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

var classes = []cloud.Class{cloud.Retry, cloud.RetryAfter, cloud.Throttled, cloud.Quota, cloud.UserError, cloud.Conflict,
	cloud.NotFound, cloud.Pending}

// toError is what the provider says of its error; nil for none.
func toError(p cloud.Provider, err error) *pluginv1alpha1.Error {
	if err == nil {
		return nil
	}
	e := p.Classify(err)
	return &pluginv1alpha1.Error{Class: string(e.Class), After: toDuration(e.After),
		// A text that is no UTF-8 could not be sent at all.
		Message:        strings.ToValidUTF8(e.Error(), "?"),
		MixedProtocols: errors.Is(err, cloud.ErrMixedProtocols)}
}

// fromError is the inverse of toError. An unknown class is Retry.
func fromError(e *pluginv1alpha1.Error) error {
	if e == nil {
		return nil
	}
	class := cloud.Class(e.GetClass())
	if !slices.Contains(classes, class) {
		class = cloud.Retry
	}
	var cause error = said{e.GetMessage(), e.GetMixedProtocols()}
	return &cloud.Error{Class: class, After: fromDuration(e.GetAfter()), Err: cause}
}

// said is the text of an error in the plugin.
type said struct {
	message string
	mixed   bool
}

func (s said) Error() string { return s.message }

// Is keeps what the core asks an error for beside its class.
func (s said) Is(target error) bool { return s.mixed && target == cloud.ErrMixedProtocols }

func toPriority(p cloud.Priority) pluginv1alpha1.Priority {
	switch p {
	case cloud.PriorityDrift:
		return pluginv1alpha1.Priority_PRIORITY_DRIFT
	case cloud.PriorityUrgent:
		return pluginv1alpha1.Priority_PRIORITY_URGENT
	}
	return pluginv1alpha1.Priority_PRIORITY_UNSPECIFIED
}

func fromPriority(p pluginv1alpha1.Priority) cloud.Priority {
	switch p {
	case pluginv1alpha1.Priority_PRIORITY_DRIFT:
		return cloud.PriorityDrift
	case pluginv1alpha1.Priority_PRIORITY_URGENT:
		return cloud.PriorityUrgent
	}
	return cloud.PriorityNormal
}
