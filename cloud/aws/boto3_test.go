package aws

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// python is the distribution's, for which it has boto3.
const python = "/usr/bin/python3"

// listed is what testdata/list.py says of one thing.
type listed struct {
	Kind, Host, Scheme, State, Protocol, Of, To string
	Port, Zones, Checked                        int
	Made                                        bool
	Groups, Targets, Rules                      []string
	Tags, Attributes                            map[string]string
}

// TestBoto3: a client that others wrote, in another language, lists over a socket what the provider has made, and sees of each
// thing what the provider sees.
func TestBoto3(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import boto3").CombinedOutput(); err != nil {
		t.Skipf("boto3 of the distribution is needed, on Debian and Ubuntu the package python3-boto3: %v %s", err, out)
	}
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 3)
	s.Annotations = map[string]string{AnnotationPrefix + "additional-resource-tags": "team=a & b", AnnotationPrefix + "cross-zone-load-balancing-enabled": "true"}
	observed := settled(t, p, s.Owner, &s).Observed
	site := httptest.NewServer(server)
	t.Cleanup(site.Close)
	cmd := exec.CommandContext(t.Context(), python, "testdata/list.py", site.URL, awstest.Region) //nolint:gosec // fixed arguments
	// Nothing of this machine's, and no metadata.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "NO_PROXY=*"}
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = string(exit.Stderr)
		}
		t.Fatalf("listing by boto3: %v\n%s", err, stderr)
	}
	found := map[string]listed{}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	got := map[string]listed{}
	for id, l := range found {
		for key := range l.Tags {
			if key != tagOwner && key != tagKey && key != "team" {
				delete(l.Tags, key)
			}
		}
		got[id] = l
	}
	if diff := cmp.Diff(expected(observed), got); diff != "" {
		t.Errorf("boto3 sees something else than the provider (-provider +boto3):\n%s", diff)
	}
}

// expected is what the provider has observed as testdata/list.py would say it.
func expected(observed []cloud.Resource) map[string]listed {
	want := map[string]listed{}
	for _, r := range observed {
		l := listed{Kind: r.Kind, Tags: map[string]string{tagOwner: string(r.Owners[0]), tagKey: r.Key, "team": "a & b"}}
		attributes := map[string]string{}
		for name, value := range r.Attributes {
			if name, ok := strings.CutPrefix(name, attributePrefix); ok {
				attributes[name] = value
			}
		}
		var deps []string
		for _, dep := range r.DependsOn {
			deps = append(deps, dep.ID)
		}
		switch r.Kind {
		case KindLoadBalancer:
			l.Host, l.Scheme, l.State, l.Made, l.Groups, l.Attributes = r.Ingress[0].Hostname, r.Attributes[scheme], "active", true, deps, attributes
			l.Zones = len(cloud.SplitList(r.Attributes[subnets]))
		case KindListener:
			l.Protocol, l.Of, l.To = r.Attributes[protocol], deps[0], deps[1]
			l.Port, _ = strconv.Atoi(r.Key)
		case KindTargetGroup:
			l.Protocol, l.Attributes = r.Attributes[protocol], attributes
			l.Checked, _ = strconv.Atoi(r.Attributes[checkInterval])
			for _, target := range r.Targets {
				l.Targets = append(l.Targets, target.ID)
			}
		case KindSecurityGroup:
			l.Rules = cloud.SplitList(r.Attributes[rules])
		}
		want[r.ID] = l
	}
	return want
}
