package gcptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// Refusal is an error of the API in its own form. Reason is also the code of an operation's error, such as QUOTA_EXCEEDED.
type Refusal struct {
	Status     int
	Reason     string
	Message    string
	RetryAfter time.Duration
}

// Error implements error, for hooks.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Reason, r.Message) }

// domains of reasons that are not "global".
var domains = map[string]string{"rateLimitExceeded": "usageLimits", "quotaExceeded": "usageLimits"}

func (r *Refusal) send(w http.ResponseWriter) {
	domain := domains[r.Reason]
	if domain == "" {
		domain = "global"
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(faults.Seconds(r.RetryAfter)))
	}
	w.WriteHeader(r.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": r.Status, "message": r.Message,
		"errors": []any{map[string]any{"message": r.Message, "domain": domain, "reason": r.Reason}}}})
}

func invalid(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Reason: "invalid", Message: fmt.Sprintf(format, args...)}
}

// invalidField is the form in which the service refuses most values.
func invalidField(field, value, format string, args ...any) *Refusal {
	return invalid("Invalid value for field 'resource.%s': '%s'. %s", field, value, fmt.Sprintf(format, args...))
}

func notFound(path string) *Refusal {
	return &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: fmt.Sprintf("The resource 'projects/%s/%s' was not found", Project, path)}
}

func notReady(path string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Reason: "resourceNotReady", Message: fmt.Sprintf("The resource 'projects/%s/%s' is not ready", Project, path)}
}

func inUse(path, by string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Reason: "resourceInUseByAnotherResource",
		Message: fmt.Sprintf("The resource 'projects/%s/%s' is already being used by 'projects/%s/%s'", Project, path, Project, by)}
}

func conditionNotMet(what string) *Refusal {
	return &Refusal{Status: http.StatusPreconditionFailed, Reason: "conditionNotMet", Message: what + " fingerprint either invalid or resource has changed"}
}

// Throttled is how the service refuses too many calls.
func Throttled(after time.Duration) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Reason: "rateLimitExceeded", RetryAfter: after,
		Message: "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com'"}
}
