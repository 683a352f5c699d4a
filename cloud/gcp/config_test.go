package gcp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// start starts the provider as the manager does.
func start(config cloud.Config) (cloud.Provider, error) {
	return cloud.NewProviders(func(string) (cloud.Config, error) { return config, nil }, nil).Get(gcp.Name)
}

// TestOverASocket makes and deletes a balancer by the registered provider, over HTTP.
func TestOverASocket(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	server := httptest.NewServer(c)
	defer server.Close()
	p, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: server.URL + gcptest.BasePath,
		File: []byte("project: " + gcptest.Project + "\nregion: " + gcptest.Region + "\nnodeTags: [node]\n")})
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	out := pass(t, p, spec.Owner, spec)
	if len(cloud.Ingresses(out.Observed)) != 1 {
		t.Errorf("clients connect to %v", cloud.Ingresses(out.Observed))
	}
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestPlace: what the file leaves out is the machine's, which is asked for nothing else.
func TestPlace(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	server := httptest.NewServer(c)
	defer server.Close()
	defer gcp.SetPlace(gcptest.Project, gcptest.Region, nil)()
	p, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: server.URL + gcptest.BasePath})
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	defer gcp.SetPlace("", "", errors.New("there is no metadata server"))()
	const place = "project: p\nregion: r1\n"
	for name, tc := range map[string]struct {
		clusterID, file, want string
	}{
		"UnknownField": {"cluster-a", place + "colour: red\n", "colour"},
		"NotYAML":      {"cluster-a", "[global]\nproject-id = p\n", "configuration file of gcp"},
		"NoPlace":      {"cluster-a", "project: p\n", "set both in the provider's configuration file"},
		"ClusterID":    {"Cluster.A", place, "has to fit in a label"},
		"Region":       {"cluster-a", "project: p\nregion: R\n", `region: "R"`},
		"Tag":          {"cluster-a", place + "nodeTags: [a_b]\n", `nodeTags: "a_b"`},
		"Firewalls":    {"cluster-a", place + "firewalls: Some\n", `firewalls: "Some"`},
		"Endpoint":     {"cluster-a", place + "endpoint: ftp://x\n", "endpoint:"},
	} {
		if _, err := start(cloud.Config{ClusterID: tc.clusterID, File: []byte(tc.file)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, tc.want)
		}
	}
}

// TestWithoutFirewalls: where others keep the firewall, source ranges are left to the nodes, and no rule is looked at.
func TestWithoutFirewalls(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.Deny("compute.firewalls.list", "compute.firewalls.create", "compute.firewalls.get", "compute.firewalls.delete", "compute.firewalls.update")
	config := gcptest.Config()
	config.Firewalls = "None"
	p, err := gcp.NewProvider(t.Context(), config, c.Client())
	if err != nil {
		t.Fatal(err)
	}
	if caps := p.Capabilities(); caps.SourceRanges || !caps.Passthrough {
		t.Errorf("it promises to enforce source ranges (%t), or does not say that nodes do (%t)", caps.SourceRanges, caps.Passthrough)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// shared sends what concerns a network that is another project's, host, to the only project that the emulator has. It notes what was
// sent to the other one.
type shared struct {
	next http.RoundTripper
	host string
	seen map[string]bool // collections
}

func (s *shared) RoundTrip(request *http.Request) (*http.Response, error) {
	mine, theirs := "projects/"+gcptest.Project+"/", "projects/"+s.host+"/"
	if _, path, ok := strings.Cut(request.URL.Path, theirs); ok {
		s.seen[strings.Split(path, "/")[1]] = true
	}
	if strings.Contains(request.URL.Path, mine+"global/operations/") { // of firewall rules
		s.seen["not for "+request.URL.Path] = true
	}
	sent := request.Clone(request.Context())
	sent.URL.Path = strings.Replace(request.URL.Path, theirs, mine, 1)
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		for _, link := range []string{mine + "global/networks/", mine + "regions/" + gcptest.Region + "/subnetworks/"} {
			if strings.Contains(string(body), link) {
				s.seen["not for "+link] = true
			}
		}
		sent.Body = io.NopCloser(strings.NewReader(strings.ReplaceAll(string(body), theirs, mine)))
	}
	answer, err := s.next.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	text := string(body)
	for _, collection := range []string{"global/networks/", "regions/" + gcptest.Region + "/subnetworks/", "global/firewalls/", "global/operations/"} {
		text = strings.ReplaceAll(text, mine+collection, theirs+collection)
	}
	answer.Body, answer.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return answer, err
}

// TestSharedNetwork: where the network is another project's, firewall rules are made there, and nothing else.
func TestSharedNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 4 * time.Second})
		config := gcptest.Config()
		config.NetworkProject = "host-project"
		transport := &shared{next: c.Client().Transport, host: config.NetworkProject, seen: map[string]bool{}}
		p, err := gcp.NewProvider(t.Context(), config, &http.Client{Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		spec := service(0, 2)
		spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		settle(t, p, spec.Owner, spec)
		c.Inject(gcptest.Fault{Method: "compute.firewalls.delete", Late: true,
			Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'THINGS' exceeded."}})
		if told := settle(t, p, spec.Owner, nil); len(told) != 1 {
			t.Errorf("told is %v, want what an operation of the other project failed with", told)
		}
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if diff := cmp.Diff(map[string]bool{"firewalls": true, "operations": true}, transport.seen); diff != "" {
			t.Errorf("the other project is asked for (-want +got):\n%s", diff)
		}
	})
}

// TestSharedNetworkWithoutFirewalls: where the network is another project's and its firewall rules are others', no right in it is needed
// but to use it: nothing is sent there, and no rule or operation of it is asked for.
func TestSharedNetworkWithoutFirewalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 4 * time.Second})
		config := gcptest.Config()
		config.NetworkProject, config.Firewalls = "host-project", "None"
		transport := &shared{next: c.Client().Transport, host: config.NetworkProject, seen: map[string]bool{}}
		p, err := gcp.NewProvider(t.Context(), config, &http.Client{Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		spec := service(0, 2)
		settle(t, p, spec.Owner, spec)
		settle(t, p, spec.Owner, nil)
		if left := c.Snapshot(); len(left) > 0 || len(transport.seen) > 0 {
			t.Errorf("left: %q; the other project is asked for %v", left, transport.seen)
		}
	})
}

// TestOverlay: the file of the overlay is one that can be read, with what it has as comments, too.
func TestOverlay(t *testing.T) {
	defer gcp.SetPlace(gcptest.Project, gcptest.Region, nil)()
	file, err := os.ReadFile("../../config/overlays/gcp/gcp.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^# (\w+: )`)
	whole := commented.ReplaceAll(file, []byte("$1"))
	if string(whole) == string(file) {
		t.Error("there is nothing in its comments")
	}
	for _, text := range [][]byte{file, whole} {
		if _, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: "http://127.0.0.1:1/", File: text}); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}
