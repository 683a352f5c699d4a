package gcp_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestPlaceOfTheMachine: what the file leaves out the metadata server tells; the region is that of the machine's zone.
func TestPlaceOfTheMachine(t *testing.T) {
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, known := map[string]string{"/computeMetadata/v1/project/project-id": gcptest.Project,
			"/computeMetadata/v1/instance/zone": "projects/123/zones/" + gcptest.Zone(1)}[r.URL.Path]
		if !known || r.Header.Get("Metadata-Flavor") != "Google" {
			http.Error(w, r.URL.Path, http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprint(w, text)
	}))
	defer metadata.Close()
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(metadata.URL, "http://"))
	c := gcptest.New(gcptest.Options{})
	server := httptest.NewServer(c)
	defer server.Close()
	p, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: server.URL + gcptest.BasePath})
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
}

// TestCredentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, a key or of a workload's identity elsewhere, is used, for no more than
// compute, whatever https address the API has; without one it does not start.
func TestCredentials(t *testing.T) {
	asked := map[string]string{} // scopes, by the kind of credentials
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if assertion := strings.Split(r.Form.Get("assertion"), "."); len(assertion) == 3 {
			text, _ := base64.RawURLEncoding.DecodeString(assertion[1])
			var claims struct{ Scope string }
			_ = json.Unmarshal(text, &claims)
			asked["service_account"] = claims.Scope
		} else {
			asked["external_account"] = r.Form.Get("scope")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`)
	}))
	defer tokens.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content any) string {
		text, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := cloud.Config{ClusterID: "cluster-a", Endpoint: "https://127.0.0.1:1" + gcptest.BasePath, File: []byte("project: p\nregion: r1\n")}
	for kind, path := range map[string]string{
		"service_account": write("key.json", map[string]string{"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key_id": "k",
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokens.URL}),
		"external_account": write("identity.json", map[string]any{"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/w/providers/q",
			"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": tokens.URL, "credential_source": map[string]string{"file": write("token", "t")}}),
	} {
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
		p, err := start(config)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		_, _ = p.List(t.Context(), "cluster-a") // there is no API
		if asked[kind] != "https://www.googleapis.com/auth/compute" {
			t.Errorf("%s: asked for are the scopes %q", kind, asked[kind])
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(dir, "missing"))
	if _, err := start(config); err == nil || !strings.Contains(err.Error(), "credentials of Google Cloud") {
		t.Errorf("without credentials: %v", err)
	}
}
