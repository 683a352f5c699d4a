package kubeproxy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func TestIs(t *testing.T) {
	for text, want := range map[string]bool{
		header: true,
		"apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: x\n": true,
		"apiVersion: config.fairlead.dev/v1alpha1\n":             false,
		"":                        false,
		"# nothing\n":             false,
		"[":                       false,
		"apiVersion: 7\n":         false,
		"- apiVersion\n":          false,
		header + "---\n" + header: false,
		"# ours\n---\n" + header:  true,
		"apiVersion: kubeproxy\n": false,
		strings.ToUpper(header):   false,
		"{apiVersion: kubeproxy.config.k8s.io/v1alpha1}": true,
	} {
		if got := Is([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	tests := map[string]struct {
		reason  string
		text    string
		want    func(*Configuration)
		unknown []string // words, one for each
	}{
		"Empty": {reason: "all defaults", text: header, want: func(*Configuration) {}},
		"Numbers": {reason: "flushFrequency may be a number of nanoseconds", text: header + "logging: {flushFrequency: 5000000000, verbosity: 2}\n",
			want: func(c *Configuration) {
				c.Logging.FlushFrequency.Duration.Duration = 5 * time.Second
				c.Logging.Verbosity = 2
			}},
		"Text": {reason: "or text", text: header + "logging: {flushFrequency: 5s}\n",
			want: func(c *Configuration) { c.Logging.FlushFrequency.Duration.Duration = 5 * time.Second }},
		"Nulls": {reason: "kubeadm writes them", text: header + "nodePortAddresses: null\noomScoreAdj: null\nconntrack: {maxPerCore: null, tcpEstablishedTimeout: null}\niptables: {minSyncPeriod: 0s, masqueradeBit: null}\n",
			want: func(*Configuration) {}},
		"Unknown": {reason: "named and passed over, as kube-proxy does", text: header + "mode: ipvs\nresourceContainer: /kube-proxy\nipvs: {scheduller: lc, scheduler: lc}\n",
			want: func(c *Configuration) { c.Mode = "ipvs"; c.IPVS.Scheduler = "lc" }, unknown: []string{`"resourceContainer"`, `"ipvs.scheduller"`}},
		"Case": {reason: "fields of another case are others", text: header + "nodeportaddresses: [primary]\n",
			want: func(*Configuration) {}, unknown: []string{`"nodeportaddresses"`}},
		"Twice": {reason: "the second one counts", text: header + "mode: ipvs\nmode: nftables\n",
			want: func(c *Configuration) { c.Mode = "nftables" }, unknown: []string{`"mode"`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			want := &Configuration{}
			want.APIVersion, want.Kind = GroupVersion.String(), Kind
			tc.want(want)
			got, unknown, err := Decode([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if len(unknown) != len(tc.unknown) {
				t.Fatalf("%s: unknown %q, want %d", tc.reason, unknown, len(tc.unknown))
			}
			for i, word := range tc.unknown {
				if all := strings.Join(unknown, "\n"); !strings.Contains(all, word) || strings.Contains(unknown[i], "\n") {
					t.Errorf("%s: %q does not name %s on a line of its own", tc.reason, unknown, word)
				}
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	tests := map[string]struct{ text, field string }{
		"Version":      {"apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n", "apiVersion"},
		"Kind":         {"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeletConfiguration\n", "kind"},
		"NoKind":       {"apiVersion: kubeproxy.config.k8s.io/v1alpha1\n", "kind"},
		"Documents":    {header + "---\n" + header, "more than one"},
		"Bool":         {header + "enableProfiling: 7\n", "enableProfiling: "},
		"Number":       {header + "conntrack: {min: many}\n", "conntrack.min: "},
		"Fraction":     {header + "iptables: {masqueradeBit: 1.5}\n", "iptables.masqueradeBit: "},
		"Duration":     {header + "ipvs: {scheduler: lc, syncPeriod: soon}\n", "ipvs.syncPeriod: "},
		"DurationList": {header + "configSyncPeriod: [1s]\n", "configSyncPeriod: found array where a duration belongs"},
		"DurationNumber": {header + "ipvs: {scheduler: lc, syncPeriod: 30}\n",
			"ipvs.syncPeriod: found number where a duration belongs: write a number and its unit, such as 30s or 5m"},
		"TextNumber":  {header + "clusterCIDR: 10\n", "clusterCIDR: found number where a value of type string belongs"},
		"List":        {header + "nodePortAddresses: primary\n", "nodePortAddresses: "},
		"Object":      {header + "ipvs: lc\n", "ipvs: "},
		"Scalar":      {header + "mode: {ipvs: true}\n", "mode: "},
		"Gate":        {header + "featureGates: {EndpointSliceProxying: maybe}\n", "featureGates.EndpointSliceProxying: "},
		"Frequency":   {header + "logging: {flushFrequency: often}\n", "logging.flushFrequency: "},
		"Quantity":    {header + "logging: {options: {json: {infoBufferSize: much}}}\n", "logging.options.json.infoBufferSize: "},
		"WithUnknown": {header + "unknown: 1\nmode: 7\n", "mode: "},
		"NoYAML":      {header + "mode: [\n", "line"},
		"NoFields":    {"just words\n", "fields"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := Decode([]byte(tc.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.field) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not name %q on one line", err, tc.field)
			}
		})
	}
}

// FuzzDecode: whatever a file holds, there is an error of one line, or something that can be translated.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(header + "mode: ipvs\nipvs: {scheduler: lc, minSyncPeriod: 5s}\nfeatureGates: {EndpointSliceProxying: true}\n"))
	f.Add([]byte(header + "a: &a [*a]\n"))
	f.Add([]byte(header + "bindAddress: '::'\nhealthzBindAddress: '[::]'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Decode(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		before := c.DeepCopy()
		c.Translate()
		if diff := cmp.Diff(before, c); diff != "" {
			t.Errorf("Translate changed the file (-before +after):\n%s", diff)
		}
	})
}
