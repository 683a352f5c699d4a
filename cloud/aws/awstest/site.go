package awstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Site is the server with what a machine of the account has beside the API: its metadata, which gives credentials, region and
// VPC to who asks in the way of the second version, and the names of balancers, at /names/NAME (a list of addresses as JSON,
// which a DNS answers where there is one).
func (s *Server) Site() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", s)
	mux.HandleFunc("GET /names/{name}", func(w http.ResponseWriter, r *http.Request) {
		addresses := s.Resolve(r.PathValue("name"))
		if len(addresses) == 0 {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(addresses) // a client that is gone needs no answer
	})
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(tokenLifetime, "21600")
		_, _ = io.WriteString(w, metadataToken)
	})
	mux.HandleFunc("GET /latest/", s.metadata)
	return mux
}

const (
	tokenLifetime = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	metadataToken = "token-of-the-machine"
	metadataMAC   = "02:00:00:00:00:01"
	metadataRole  = "manager"
)

func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Aws-Ec2-Metadata-Token") != metadataToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	in := s.now().Add(6 * time.Hour).UTC().Format(time.RFC3339)
	pages := map[string]string{
		"meta-data/mac": metadataMAC,
		"meta-data/network/interfaces/macs/" + metadataMAC + "/vpc-id": s.options.VPC,
		"meta-data/placement/region":                                   Region,
		"meta-data/iam/security-credentials/":                          metadataRole,
		"meta-data/iam/security-credentials/" + metadataRole: fmt.Sprintf(`{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": %q, "Expiration": %q,
			"AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "secret", "Token": "token"}`, s.now().UTC().Format(time.RFC3339), in),
		"dynamic/instance-identity/document": fmt.Sprintf(`{"accountId": %q, "region": %q, "instanceId": "i-00000000"}`, Account, Region),
	}
	page, ok := pages[strings.TrimPrefix(r.URL.Path, "/latest/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, page)
}
