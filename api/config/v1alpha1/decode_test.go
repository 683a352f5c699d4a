package v1alpha1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const header = "apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\n"

func TestDecode(t *testing.T) {
	typeMeta := metav1.TypeMeta{APIVersion: "config.fairlead.dev/v1alpha1", Kind: "ManagerConfiguration"}
	cases := map[string]struct {
		reason string
		data   string
		want   *ManagerConfiguration
		// refused are words that the error must hold; none: no error.
		refused []string
	}{
		"Everything": {
			reason: "every field has a place in the file",
			data: header + `
mode: Coexist
controllers: ["*", -nodeport]
clusterID: blue
nodePortRange: 31000-31999
endpointSelector: {allowedCIDRs: [10.20.0.0/16]}
cloud: {provider: fake, configFile: /etc/cloud.conf, fake: {endpoint: "http://198.51.100.1:80"}}
leaderElection: {enabled: false, namespace: ns, name: lease, leaseDuration: 30s, renewDeadline: 20s, retryPeriod: 5s}
metrics: {bindAddress: ":1", secure: false, certDir: /certs}
health: {bindAddress: "0"}
clientConnection: {kubeconfig: /k, qps: 1.5, burst: 3}
`,
			want: &ManagerConfiguration{
				TypeMeta:         typeMeta,
				Mode:             ModeCoexist,
				Controllers:      []string{"*", "-nodeport"},
				ClusterID:        "blue",
				NodePortRange:    "31000-31999",
				EndpointSelector: EndpointSelector{AllowedCIDRs: []string{"10.20.0.0/16"}},
				Cloud:            Cloud{Provider: "fake", ConfigFile: "/etc/cloud.conf", Fake: &FakeCloud{Endpoint: "http://198.51.100.1:80"}},
				LeaderElection: LeaderElection{Enabled: new(false), Namespace: "ns", Name: "lease",
					LeaseDuration: seconds(30), RenewDeadline: seconds(20), RetryPeriod: seconds(5)},
				Metrics:          Metrics{BindAddress: ":1", Secure: new(false), CertDir: "/certs"},
				Health:           Health{BindAddress: "0"},
				ClientConnection: ClientConnection{Kubeconfig: "/k", QPS: new(float32(1.5)), Burst: new(int32(3))},
			},
		},
		"JSON": {
			reason: "JSON is YAML too",
			data:   `{"apiVersion":"config.fairlead.dev/v1alpha1","kind":"ManagerConfiguration","mode":"Replace"}`,
			want:   &ManagerConfiguration{TypeMeta: typeMeta, Mode: ModeReplace},
		},
		"CommentsAround": {
			reason: "a document of nothing but comments is none",
			data:   "# how we run\n---\n" + header + "---\n# the end\n",
			want:   &ManagerConfiguration{TypeMeta: typeMeta},
		},
		"UnknownFields": {
			reason:  "all of them by their path",
			data:    header + "nodePorts: 1-2\ncloud: {fke: {}}\n",
			refused: []string{`"nodePorts"`, `"cloud.fke"`},
		},
		"WrongCase": {
			reason:  "a field of another case is another field",
			data:    header + "clusterid: blue\n",
			refused: []string{`"clusterid"`},
		},
		"GivenTwice": {
			reason:  "the second would win silently",
			data:    header + "mode: Replace\nmode: Coexist\n",
			refused: []string{"mode"},
		},
		"WrongType": {
			reason:  "the field is named",
			data:    header + "leaderElection: {enabled: 7}\n",
			refused: []string{"leaderElection.enabled", "bool"},
		},
		"OtherVersion": {
			reason:  "what to write is named",
			data:    "apiVersion: config.fairlead.dev/v1\nkind: ManagerConfiguration\n",
			refused: []string{"apiVersion", "config.fairlead.dev/v1alpha1"},
		},
		"OtherKind": {
			reason:  "what to write is named",
			data:    "apiVersion: config.fairlead.dev/v1alpha1\nkind: ConfigMap\n",
			refused: []string{`"ConfigMap"`, "ManagerConfiguration"},
		},
		"ConfigMap": {
			reason:  "what kubectl get configmap prints is not the file, but holds it",
			data:    "apiVersion: v1\nkind: ConfigMap\ndata:\n  manager.yaml: |\n    " + strings.ReplaceAll(header, "\n", "\n    ") + "\n",
			refused: []string{"ConfigMap", "configuration that its data holds"},
		},
		"Empty": {
			reason:  "an empty file is an accident",
			data:    "",
			refused: []string{"apiVersion"},
		},
		"TwoDocuments": {
			reason:  "the second would be passed over silently",
			data:    header + "---\n" + header,
			refused: []string{"one"},
		},
		"NoYAML": {
			reason:  "syntax errors keep their line number, on one line",
			data:    header + "mode: [\n",
			refused: []string{"line"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := &ManagerConfiguration{}
			err := Decode([]byte(tc.data), got)
			if tc.refused == nil {
				if err != nil {
					t.Fatalf("Decode: %v (%s)", err, tc.reason)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
				return
			}
			if err == nil {
				t.Fatalf("Decode accepted it: %s", tc.reason)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			for _, word := range tc.refused {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %s: %s", err, word, tc.reason)
				}
			}
		})
	}
}

// FuzzDecode: whatever the file holds, the answer is a configuration that Default and Validate can work on, or
// an error of one line.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(header + "controllers: ['*', -nodeport]\n"))
	f.Add([]byte(header + "clientConnection: {qps: -1, burst: 3}\n"))
	f.Add([]byte("{}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &ManagerConfiguration{}
		if err := Decode(data, c); err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		c.Default()
		_ = c.Validate()
	})
}
