package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// noMetadata keeps the SDK from everything but what a test gives it.
func noMetadata(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(name, value)
	}
}

// TestStart: a provider as the manager starts it, over a socket, with its file.
func TestStart(t *testing.T) {
	noMetadata(t)
	server := awstest.New(awstest.Options{})
	served := httptest.NewServer(server)
	t.Cleanup(served.Close)
	p, err := New(cloud.Config{ClusterID: "cluster-a", Endpoint: served.URL, File: []byte("region: eu-north-1\nvpcID: vpc-0a1b2c3d\nclusterName: blue\n")})
	if err != nil {
		t.Fatal(err)
	}
	s := spec("uid-1", 2)
	if out := settled(t, p, s.Owner, &s); len(cloud.Ingresses(out.Observed)) != 1 {
		t.Errorf("made %+v", out.Observed)
	}
	settled(t, p, s.Owner, nil)
	if left := server.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	without, err := New(cloud.Config{Endpoint: served.URL, File: []byte("region: eu-north-1\nadopt: false\n")})
	if err != nil || without.Capabilities().Adopt {
		t.Errorf("adopt: false is not heeded (%v)", err)
	}
	// Without a VPC, and without metadata to ask, the user is told what to set.
	if _, err := onePass(t, without, s, cloud.Options{}); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "vpcID") {
		t.Errorf("without a VPC: %v", err)
	}
}

// TestFileIsTyped: what the file says wrongly is told at the start.
func TestFileIsTyped(t *testing.T) {
	noMetadata(t)
	for text, want := range map[string]string{
		"regoin: eu-north-1":                 "regoin",
		"region: eu-north-1\nvpcID: default": "vpcID",
		"vpcID: vpc-01":                      "no region is known",
	} {
		if _, err := New(cloud.Config{File: []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one about %q", text, err, want)
		}
	}
}

// TestOverlay: the file of the overlay is one that can be read, with what it has as comments, too.
func TestOverlay(t *testing.T) {
	noMetadata(t)
	t.Setenv("AWS_REGION", "eu-north-1")
	file, err := os.ReadFile("../../config/overlays/aws/aws.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^# (\w+: )`)
	whole := commented.ReplaceAll(file, []byte("$1"))
	if string(whole) == string(file) {
		t.Error("there is nothing in its comments")
	}
	for _, text := range [][]byte{file, whole} {
		if _, err := New(cloud.Config{ClusterID: "cluster-a", File: text}); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

// TestOnce: several who ask at once get the answer, for which is asked until it is given, and not again.
func TestOnce(t *testing.T) {
	asked := 0
	ask := once(func(context.Context) (string, error) {
		switch asked++; asked {
		case 1:
			return "wrong", errors.New("not now")
		case 2:
			return "", nil
		}
		return "vpc-01", nil
	})
	for _, want := range []string{"wrong not now", " <nil>"} {
		told, err := ask(t.Context())
		if got := fmt.Sprint(told, " ", err); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if told, err := ask(t.Context()); told != "vpc-01" || err != nil {
				t.Errorf("told %q (%v)", told, err)
			}
		})
	}
	if all.Wait(); asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}
