package aws

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// TestMetadata: with no configuration at all, credentials, region and VPC come from the metadata of the machine, and a
// balancer is made over a socket. The VPC is asked for until it is known, and not again.
func TestMetadata(t *testing.T) {
	server := awstest.New(awstest.Options{})
	emulated, asked, silent := server.Site(), 0, true
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/vpc-id") {
			if asked++; silent {
				http.NotFound(w, r)
				return
			}
		}
		emulated.ServeHTTP(w, r)
	}))
	t.Cleanup(site.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": site.URL, "AWS_EC2_METADATA_SERVICE_ENDPOINT": site.URL, "AWS_EC2_METADATA_DISABLED": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(name, value)
	}
	p, err := New(cloud.Config{ClusterID: "cluster-a"})
	if err != nil {
		t.Fatal(err)
	}
	s := spec("uid-1", 1)
	if _, err := onePass(t, p, s, cloud.Options{}); !cloud.IsClass(err, cloud.UserError) {
		t.Errorf("where the metadata does not tell the VPC, the pass ended with %v", err)
	}
	asked, silent = 0, false
	out, err := onePass(t, p, s, cloud.Options{})
	if err != nil || len(out.Left.Operations) > 0 || len(cloud.Ingresses(out.Observed)) != 1 {
		t.Errorf("the pass ended with %v and left %+v", err, out.Left)
	}
	if asked != 1 {
		t.Errorf("the VPC was asked for %d times", asked)
	}
}
