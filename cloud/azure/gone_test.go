package azure_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// hiding answers as if there were no public address of the name, whatever refers to it.
type hiding struct {
	policy.Transporter
	name string
	asks int
}

func (h *hiding) Do(request *http.Request) (*http.Response, error) {
	response, err := h.Transporter.Do(request)
	if err != nil || request.Method != http.MethodGet {
		return response, err
	}
	switch {
	case strings.HasSuffix(request.URL.Path, "/publicIPAddresses"):
		var list struct {
			Value []map[string]any `json:"value"`
		}
		if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
			return nil, err
		}
		kept := []map[string]any{}
		for _, ip := range list.Value {
			if ip["name"] != h.name {
				kept = append(kept, ip)
			}
		}
		text, err := json.Marshal(map[string]any{"value": kept})
		response.Body = io.NopCloser(bytes.NewReader(text))
		return response, err
	case strings.HasSuffix(request.URL.Path, "/publicIPAddresses/"+h.name):
		h.asks++
		response.StatusCode, response.Body = http.StatusNotFound, io.NopCloser(strings.NewReader(`{"error":{"code":"ResourceNotFound","message":"no"}}`))
	}
	return response, nil
}

// TestAddressIsGone: where an address of another resource group is no longer to be seen that a frontend refers to, as while it is being
// deleted, other Services go on.
func TestAddressIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		if _, err := converge(t, provider(t, c), with(service(1, 2), map[string]string{"pip-name": "own"}), false); err != nil {
			t.Fatal(err)
		}
		hide := &hiding{Transporter: c.Transport(), name: "own"}
		p, err := azure.NewForEmulator(config, endpoint, hide)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := converge(t, p, service(2, 2), false); err != nil || hide.asks == 0 {
			t.Errorf("another Service is told %v, after %d looks at the address", err, hide.asks)
		}
	})
}
