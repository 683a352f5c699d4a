package gcp

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

func testConfig(t *testing.T) *Config {
	t.Helper()
	c := &Config{Project: "p", Region: "r1"}
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSettings(t *testing.T) {
	both := []cloud.Family{cloud.IPv4, cloud.IPv6}
	plain := settings{scheme: "EXTERNAL", tier: "PREMIUM", subnetwork: "default", draining: 30}
	edit := func(e func(*settings)) settings {
		s := plain
		e(&s)
		return s
	}
	internal := func(s *settings) { s.scheme, s.tier = "INTERNAL", "" }
	for name, tc := range map[string]struct {
		spec cloud.Spec
		want settings
		// wrong are parts of the error, one for each mistake; none: there is none.
		wrong []string
	}{
		"Defaults":        {spec: cloud.Spec{}, want: plain},
		"Internal":        {spec: cloud.Spec{Annotations: map[string]string{annotationType: "Internal"}}, want: edit(internal)},
		"OlderInternal":   {spec: cloud.Spec{Annotations: map[string]string{annotationTypeOlder: "Internal"}}, want: edit(internal)},
		"LowerCase":       {spec: cloud.Spec{Annotations: map[string]string{annotationTypeOlder: "internal"}}, want: edit(internal)},
		"NewerCounts":     {spec: cloud.Spec{Annotations: map[string]string{annotationTypeOlder: "Internal", annotationType: "External"}}, want: plain},
		"RBS":             {spec: cloud.Spec{Annotations: map[string]string{annotationRBS: "enabled"}}, want: plain},
		"Standard":        {spec: cloud.Spec{Annotations: map[string]string{annotationTier: "Standard"}}, want: edit(func(s *settings) { s.tier = "STANDARD" })},
		"ParametersFirst": {spec: cloud.Spec{Parameters: json.RawMessage(`{"scheme":"Internal","globalAccess":true,"subnetwork":"a"}`), Annotations: map[string]string{annotationSubnet: "b"}}, want: edit(func(s *settings) { internal(s); s.globalAccess, s.subnetwork = true, "b" })},
		"Names":           {spec: cloud.Spec{Families: both, Annotations: map[string]string{annotationAddresses: "b, a"}}, want: edit(func(s *settings) { s.addresses = "a,b" })},
		"Requested":       {spec: cloud.Spec{RequestedAddress: "192.0.2.7"}, want: edit(func(s *settings) { s.ip = "192.0.2.7" })},
		"Weighted":        {spec: cloud.Spec{LocalOnly: true, Annotations: map[string]string{annotationWeighted: "pods-per-node"}}, want: edit(func(s *settings) { s.weighted = true })},
		"Strong":          {spec: cloud.Spec{AffinitySeconds: 600, Annotations: map[string]string{annotationStrong: "true"}}, want: edit(func(s *settings) { s.strongSeconds = 600 })},
		"Groups":          {spec: cloud.Spec{Parameters: json.RawMessage(`{"instanceGroups":["r1-a/g"]}`)}, want: edit(func(s *settings) { s.instanceGroups = []string{"r1-a/g"} })},
		"AllMistakes": {spec: cloud.Spec{Families: both, Parameters: json.RawMessage(`{"project":"q","region":"r2","drainingSeconds":3601}`),
			Annotations: map[string]string{annotationGlobalAccess: "true", annotationTier: "Standard", annotationWeighted: "pods-per-node", annotationStrong: "true",
				annotationAddresses: "a", "networking.gke.io/load-balancer-typo": "x"}},
			wrong: []string{`parameter project: the manager works in project "p"`, `parameter region`, "drainingSeconds: 3601", annotationGlobalAccess, "IPv6 is of the Premium tier", "externalTrafficPolicy: Local",
				"sessionAffinity: ClientIP", "1 names for 2 families", "networking.gke.io/load-balancer-typo: unknown"}},
		"InternalMistakes": {spec: cloud.Spec{AffinitySeconds: 30, Annotations: map[string]string{annotationType: "Internal", annotationTier: "Standard", annotationStrong: "true", annotationSubnet: "A_b"}},
			wrong: []string{"has no network tier", "external balancers only", "30 is not from 60", `subnetwork "A_b"`}},
		"BadValues": {spec: cloud.Spec{Annotations: map[string]string{annotationType: "inside", annotationRBS: "true", annotationGlobalAccess: "yes"}},
			wrong: []string{annotationType, annotationRBS, annotationGlobalAccess}},
		"BothAddresses":    {spec: cloud.Spec{Families: both[:1], RequestedAddress: "192.0.2.7", Annotations: map[string]string{annotationAddresses: "a"}}, wrong: []string{"set one of them"}},
		"UnknownParameter": {spec: cloud.Spec{Parameters: json.RawMessage(`{"colour":"red"}`)}, wrong: []string{"colour"}},
		"OthersOfGoogle":   {spec: cloud.Spec{Annotations: map[string]string{"cloud.google.com/neg": "{}"}}, wrong: nil, want: plain},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tc.spec
			if other := "cloud.google.com/neg"; spec.Annotations[other] != "" { // what the core leaves out
				spec.Annotations = nil
				if slices.ContainsFunc(annotationPrefixes, func(prefix string) bool { return strings.HasPrefix(other, prefix) }) {
					t.Error("an annotation of another controller would be taken for one of ours")
				}
			}
			got, err := readSettings(testConfig(t), &spec)
			if len(tc.wrong) == 0 {
				if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(settings{})); diff != "" || err != nil {
					t.Errorf("error %v, settings (-want +got):\n%s", err, diff)
				}
				return
			}
			if !cloud.IsClass(err, cloud.UserError) {
				t.Fatalf("the error is %v, want a UserError", err)
			}
			for _, part := range tc.wrong {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
		})
	}
}

// TestAnnotationsAreTold: the table that docs/gcp.md is made from has exactly the annotations that are read, and the core hands
// each of them over.
func TestAnnotationsAreTold(t *testing.T) {
	source, err := os.ReadFile("settings.go")
	if err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`(?:a\.[A-Z]\w+\(|cloud\.Enum\(a, )(annotation\w+)`).FindAllSubmatch(source, -1)
	if len(read) != len(Annotations) {
		t.Errorf("%d annotations are read and %d are told", len(read), len(Annotations))
	}
	for _, doc := range Annotations {
		spec := cloud.Spec{Annotations: map[string]string{doc.Key: "\x00"}}
		if _, err := readSettings(testConfig(t), &spec); err == nil || !strings.Contains(err.Error(), doc.Key) || strings.Contains(err.Error(), "unknown") {
			t.Errorf("%s is told and not read: %v", doc.Key, err)
		}
		if !slices.ContainsFunc(annotationPrefixes, func(prefix string) bool { return strings.HasPrefix(doc.Key, prefix) }) {
			t.Errorf("%s is told and not handed over", doc.Key)
		}
	}
}

// TestMarks: what is written is read again, and other words and labels stay.
func TestMarks(t *testing.T) {
	m := mark{owner: "cluster-a/7f3e", key: "tcp-80-ipv4", service: "shop/cart", adopted: "b", lent: true}
	told := m
	told.addresses = "a,b"
	text := describe("made by hand fairlead.dev/adoptable-by=cluster-a/shop/cart", &told)
	got, rest := described(text)
	if diff := cmp.Diff(told, got, cmp.AllowUnexported(mark{})); diff != "" {
		t.Errorf("of a description (-want +got):\n%s", diff)
	}
	if want := "made by hand fairlead.dev/adoptable-by=cluster-a/shop/cart"; strings.Join(rest, " ") != want || describe(text, nil) != want || consent(text) != "cluster-a/shop/cart" {
		t.Errorf("other words are %q, without the mark %q", rest, describe(text, nil))
	}
	if again := describe(text, &told); again != text {
		t.Errorf("marked again it is %q, was %q", again, text)
	}
	if plain := describe("", &mark{owner: "cluster-a/7f3e", key: "main"}); plain != "fairlead.dev/key=main fairlead.dev/owner=cluster-a/7f3e" {
		t.Errorf("what is empty is told, too: %q", plain)
	}
	labels := label(map[string]string{"team": "a"}, "", &m)
	if diff := cmp.Diff(m, labelled(labels, ""), cmp.AllowUnexported(mark{})); diff != "" {
		t.Errorf("of labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "a"}, label(labels, "", nil)); diff != "" {
		t.Errorf("without the mark (-want +got):\n%s", diff)
	}
	for name, value := range labels {
		if !isLabelValue(value) || !isLabelValue(name) {
			t.Errorf("%s=%s is no label", name, value)
		}
	}
}

// TestNames: a name tells its key to whoever knows the owner, and fits, with the longest of keys.
func TestNames(t *testing.T) {
	owner := cloud.Owner{ClusterID: "cluster-a", ServiceUID: "7f3e0c1a-0000-4000-8000-000000000001"}
	for _, key := range []string{"main", "udp-65535-ipv6", "northamerica-northeast1-a", "health-ipv6"} {
		r := cloud.Resource{Kind: KindFirewall, Key: key, Attributes: map[string]string{"a": "1"}, Immutable: []string{"a"}}
		name := NameOf(owner, &r)
		if !isName(name) || keyOf(owner.ID(), name) != key {
			t.Errorf("of %s the name is %q, and its key %q", key, name, keyOf(owner.ID(), name))
		}
		if other := keyOf("cluster-b/"+cloud.OwnerID(owner.ServiceUID), name); other != "" {
			t.Errorf("another owner takes %s for its own %s", name, other)
		}
		r.Attributes["a"] = "2"
		if NameOf(owner, &r) == name {
			t.Errorf("%s: a replacement would have the same name", key)
		}
	}
}
