package azure

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/fairlead/fairlead/cloud"
)

// TestRefusalIsTold: of what Azure answers its reason is told, and nothing that differs from one answer to the next.
func TestRefusalIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		status     int
		code, body string
		class      cloud.Class
		want       string
	}{
		"Plain": {400, "SubnetIsFull", `{"error":{"code":"SubnetIsFull","message":"no\nroom","details":[]}}`, cloud.Quota, "SubnetIsFull: no room"},
		"Details": {429, "RetryableError", `{"error":{"code":"RetryableError","message":"A retryable error occurred.","details":[{"code":"ReferencedResourceNotProvisioned","message":"own is not."}]}}`,
			cloud.Pending, "RetryableError: A retryable error occurred. ReferencedResourceNotProvisioned: own is not."},
		"Operation": {409, "AnotherOperationInProgress", `{"error":{"code":"AnotherOperationInProgress","message":"see https://management.azure.com/operations/4711"}}`,
			cloud.Pending, "AnotherOperationInProgress: another operation on it, or on something that it needs, is in progress"},
		"Taken":   {400, "PrivateIPAddressInUse", `{"error":{"code":"PrivateIPAddressInUse","message":"10.1.0.9 is in use."}}`, cloud.Conflict, "PrivateIPAddressInUse: 10.1.0.9 is in use."},
		"Nothing": {503, "", "", cloud.Retry, ": Service Unavailable"},
	} {
		err := refused(&azcore.ResponseError{StatusCode: tc.status, ErrorCode: tc.code,
			RawResponse: &http.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader(tc.body))}})
		if err.Error() != tc.want || classified(err).Class != tc.class {
			t.Errorf("%s: it is told %q (%s), want %q (%s)", name, err, classified(err).Class, tc.want, tc.class)
		}
	}
}
