package azuretest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Refusal is an error as the resource manager answers it.
type Refusal struct {
	Status  int
	Code    string
	Message string
	// RetryAfter in seconds, as a header; 0: none.
	RetryAfter int
	// Detail is what it is about, of a code that tells nothing; nil: the code tells.
	Detail *Refusal
}

func refuse(status int, code, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// bad is a refusal of what the request says.
func bad(code, format string, args ...any) *Refusal {
	return refuse(http.StatusBadRequest, code, format, args...)
}

func (r *Refusal) body() []byte {
	details := []any{}
	if r.Detail != nil {
		details = append(details, map[string]any{"code": r.Detail.Code, "message": r.Detail.Message, "details": []any{}})
	}
	text, err := json.Marshal(map[string]any{"error": map[string]any{"code": r.Code, "message": r.Message, "details": details}})
	if err != nil {
		panic(fmt.Sprintf("azuretest: an error cannot be written as JSON: %v", err))
	}
	return text
}

func (r *Refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.body())
}

// AsError is the refusal as the SDK's client would return it.
func (r *Refusal) AsError() error {
	header := http.Header{}
	if r.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	return &azcore.ResponseError{StatusCode: r.Status, ErrorCode: r.Code,
		RawResponse: &http.Response{StatusCode: r.Status, Header: header, Body: http.NoBody}}
}

// answer is a success.
type answer struct {
	status    int
	body      any
	operation string // that goes on; empty: none
}

func (a *answer) write(w http.ResponseWriter) {
	if a.operation != "" {
		w.Header().Set("Azure-AsyncOperation", "https://management.azure.com"+operationPath+a.operation+"?api-version=2025-05-01")
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	text, written := a.body.(json.RawMessage)
	if !written {
		var err error
		if text, err = json.Marshal(a.body); err != nil {
			panic(fmt.Sprintf("azuretest: an answer cannot be written as JSON: %v", err))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(text)
}

// operationPath is where operations are.
const operationPath = "/subscriptions/" + Subscription + "/providers/Microsoft.Network/locations/" + Location + "/operations/"

// operationOf returns the id of the operation at the path.
func operationOf(text string) (string, bool) { return strings.CutPrefix(text, operationPath) }

// known are hashes of bodies that have only members that their types have. Looking costs more than all else, and most bodies
// come many times.
var known sync.Map

// decode reads a body into the SDK's type and refuses members that this does not have.
func decode(text []byte, into any) *Refusal {
	if err := json.Unmarshal(text, into); err != nil {
		if !json.Valid(text) {
			return bad("InvalidRequestContent", "the request content was invalid: %v", err)
		}
		return bad("InvalidRequestFormat", "cannot parse the request: %v", err)
	}
	hash := sha256.Sum256(append([]byte(fmt.Sprintf("%T ", into)), text...))
	if _, ok := known.Load(hash); ok {
		return nil
	}
	again, err := json.Marshal(into)
	if err != nil {
		return bad("InvalidRequestFormat", "cannot parse the request: %v", err)
	}
	var given, kept any
	for from, to := range map[*[]byte]*any{&text: &given, &again: &kept} {
		if err := json.Unmarshal(*from, to); err != nil {
			return bad("InvalidRequestFormat", "cannot parse the request: %v", err)
		}
	}
	if member := unknownMember(given, kept, ""); member != "" {
		return bad("InvalidRequestFormat", "could not find member '%s' on the object", member)
	}
	known.Store(hash, true)
	return nil
}

// unknownMember returns the first member of given that was not kept; empty: there is none.
func unknownMember(given, kept any, at string) string {
	switch g := given.(type) {
	case map[string]any:
		k, _ := kept.(map[string]any)
		for name, value := range g {
			if value == nil {
				continue
			}
			inner, ok := k[name]
			if !ok {
				return strings.TrimPrefix(at+"."+name, ".")
			}
			if found := unknownMember(value, inner, at+"."+name); found != "" {
				return found
			}
		}
	case []any:
		k, _ := kept.([]any)
		for i, value := range g {
			if i >= len(k) {
				return at
			}
			if found := unknownMember(value, k[i], at); found != "" {
				return found
			}
		}
	}
	return ""
}

// value returns what a pointer points to; nil: the zero value.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
