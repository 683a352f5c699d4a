package v1alpha1

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

// plugins sets them.
func plugins(list ...CloudPlugin) func(*ManagerConfiguration) {
	return func(c *ManagerConfiguration) {
		c.Cloud.Plugins = list
		c.Default()
	}
}

// limits sets those of a provider.
func limits(l CloudLimits) func(*ManagerConfiguration) {
	return func(c *ManagerConfiguration) { c.Cloud.Limits = map[string]CloudLimits{"x": l} }
}

func TestDefault(t *testing.T) {
	full := &ManagerConfiguration{
		TypeMeta:      metav1.TypeMeta{APIVersion: "config.fairlead.dev/v1alpha1", Kind: "ManagerConfiguration"},
		Mode:          ModeReplace,
		Controllers:   []string{"*"},
		NodePortRange: "30000-32767",
		EndpointSlice: EndpointSlice{MaxEndpointsPerSlice: new(int32(100)), ConcurrentSyncs: new(int32(5)),
			MaxBatchDelay: &metav1.Duration{Duration: 200 * time.Millisecond}},
		Endpoints: Endpoints{ConcurrentSyncs: new(int32(5)), MaxBatchDelay: seconds(3)},
		LeaderElection: LeaderElection{Enabled: new(true), Name: "fairlead-manager",
			LeaseDuration: seconds(15), RenewDeadline: seconds(10), RetryPeriod: seconds(2)},
		Metrics:          Metrics{BindAddress: ":8443", Secure: new(true)},
		Health:           Health{BindAddress: ":8081"},
		NodeReports:      NodeReports{Interval: seconds(60)},
		Webhook:          Webhook{BindAddress: ":9443"},
		ClientConnection: ClientConnection{QPS: new(float32(500)), Burst: new(int32(1000))},
	}
	given := full.DeepCopy()
	given.Mode = ModeCoexist
	given.Controllers = []string{"endpoints"}
	given.NodePortRange = "31000-31001"
	given.EndpointSlice = EndpointSlice{MaxEndpointsPerSlice: new(int32(7)), ConcurrentSyncs: new(int32(8)), MaxBatchDelay: seconds(0)}
	given.Endpoints = Endpoints{ConcurrentSyncs: new(int32(9)), MaxBatchDelay: seconds(0)}
	given.EndpointSelector = EndpointSelector{AllowedCIDRs: []string{"10.20.0.0/16", "fd00:20::/64"}}
	given.LeaderElection = LeaderElection{Enabled: new(false), Name: "n", Namespace: "ns",
		LeaseDuration: seconds(9), RenewDeadline: seconds(6), RetryPeriod: seconds(3)}
	given.Cloud.Plugins = []CloudPlugin{{Name: "rack", Socket: "/run/rack.sock", Timeout: seconds(9)}}
	given.Metrics = Metrics{BindAddress: "0", Secure: new(false)}
	given.Health.BindAddress = "0"
	given.NodeReports = NodeReports{Port: 10268, Interval: seconds(7)}
	given.Webhook.BindAddress = "127.0.0.1:9444"
	given.ClientConnection = ClientConnection{QPS: new(float32(-1)), Burst: new(int32(7))}

	cases := map[string]struct {
		reason string
		in     *ManagerConfiguration
		want   *ManagerConfiguration
	}{
		"Nothing":    {reason: "the file may be empty but for its kind", in: &ManagerConfiguration{}, want: full},
		"Everything": {reason: "what was given stays", in: given.DeepCopy(), want: given},
		"Plugin": {
			reason: "a plugin gets the usual time",
			in:     &ManagerConfiguration{Cloud: Cloud{Plugins: []CloudPlugin{{Name: "rack", Socket: "/run/rack.sock"}}}},
			want: func() *ManagerConfiguration {
				c := full.DeepCopy()
				c.Cloud.Plugins = []CloudPlugin{{Name: "rack", Socket: "/run/rack.sock", Timeout: seconds(60)}}
				return c
			}(),
		},
		"OnlyPerSecond": {
			reason: "the burst of a limit follows its rate, and stays where it is given or there is no limit",
			in: &ManagerConfiguration{Cloud: Cloud{Limits: map[string]CloudLimits{
				"a": {Reads: &CallLimit{PerSecond: 2.5}, Writes: &CallLimit{PerSecond: 0.1}},
				"b": {Reads: &CallLimit{PerSecond: 2.5, Burst: 9}, Writes: &CallLimit{PerSecond: -1}},
			}}},
			want: func() *ManagerConfiguration {
				c := full.DeepCopy()
				c.Cloud.Limits = map[string]CloudLimits{
					"a": {Reads: &CallLimit{PerSecond: 2.5, Burst: 3}, Writes: &CallLimit{PerSecond: 0.1, Burst: 1}},
					"b": {Reads: &CallLimit{PerSecond: 2.5, Burst: 9}, Writes: &CallLimit{PerSecond: -1}},
				}
				return c
			}(),
		},
		"OnlyQPS": {
			reason: "the burst follows the QPS",
			in:     &ManagerConfiguration{ClientConnection: ClientConnection{QPS: new(float32(2.5))}},
			want: func() *ManagerConfiguration {
				c := full.DeepCopy()
				c.ClientConnection = ClientConnection{QPS: new(float32(2.5)), Burst: new(int32(5))}
				return c
			}(),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.in.Default()
			if diff := cmp.Diff(tc.want, tc.in); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if err := tc.in.Validate(); err != nil {
				t.Errorf("a defaulted configuration is refused: %v", err)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*ManagerConfiguration)
		// want has one entry for each line: the field it begins with and the word that says what to write.
		want [][2]string
	}{
		"Mode":           {"modes are named", func(c *ManagerConfiguration) { c.Mode = "replace" }, [][2]string{{"mode:", "Replace"}}},
		"UnknownName":    {"known names are listed", func(c *ManagerConfiguration) { c.Controllers = []string{"*", "-nodeprot"} }, [][2]string{{"controllers:", "nodeport"}}},
		"ClusterIDChars": {"clouds would refuse it in a tag", func(c *ManagerConfiguration) { c.ClusterID = "a/b" }, [][2]string{{"clusterID:", "letters"}}},
		"ClusterIDLong":  {"clouds would cut it", func(c *ManagerConfiguration) { c.ClusterID = strings.Repeat("a", 64) }, [][2]string{{"clusterID:", "63"}}},
		"UpsideDown":     {"the right way up is named", func(c *ManagerConfiguration) { c.NodePortRange = "32767-30000" }, [][2]string{{"nodePortRange:", "30000-32767"}}},
		"NoRange":        {"an example is given", func(c *ManagerConfiguration) { c.NodePortRange = "30000" }, [][2]string{{"nodePortRange:", "first-last"}}},
		"NoPort":         {"65536 is no port", func(c *ManagerConfiguration) { c.NodePortRange = "1-65536" }, [][2]string{{"nodePortRange:", "65535"}}},
		"PortZero":       {"0 is no port", func(c *ManagerConfiguration) { c.NodePortRange = "0-5" }, [][2]string{{"nodePortRange:", "65535"}}},
		"SliceSize":      {"the API allows no more", func(c *ManagerConfiguration) { c.EndpointSlice.MaxEndpointsPerSlice = new(int32(1001)) }, [][2]string{{"endpointSlice.maxEndpointsPerSlice:", "1 and 1000"}}},
		"SliceWorkers":   {"nobody would work", func(c *ManagerConfiguration) { c.EndpointSlice.ConcurrentSyncs = new(int32(0)) }, [][2]string{{"endpointSlice.concurrentSyncs:", "1 and 1000"}}},
		"SliceDelay":     {"hours look like an outage", func(c *ManagerConfiguration) { c.EndpointSlice.MaxBatchDelay = seconds(61) }, [][2]string{{"endpointSlice.maxBatchDelay:", "1m0s"}}},
		"Delay":          {"time does not go back", func(c *ManagerConfiguration) { c.Endpoints.MaxBatchDelay = seconds(-1) }, [][2]string{{"endpoints.maxBatchDelay:", "0s"}}},
		"Workers":        {"nobody would work", func(c *ManagerConfiguration) { c.Endpoints.ConcurrentSyncs = new(int32(0)) }, [][2]string{{"endpoints.concurrentSyncs:", "1 and 1000"}}},
		"CIDRText":       {"forms are named", func(c *ManagerConfiguration) { c.EndpointSelector.AllowedCIDRs = []string{"10.0.0.0"} }, [][2]string{{"endpointSelector.allowedCIDRs[0]:", "192.0.2.0/24"}}},
		"CIDRMapped":     {"an IPv4 address in IPv6 form would match nothing", func(c *ManagerConfiguration) { c.EndpointSelector.AllowedCIDRs = []string{"::ffff:10.0.0.0/104"} }, [][2]string{{"endpointSelector.allowedCIDRs[0]:", "192.0.2.0/24"}}},
		"CIDRHostBits":   {"the range is named", func(c *ManagerConfiguration) { c.EndpointSelector.AllowedCIDRs = []string{"10.0.0.0/8", "10.1.2.3/16"} }, [][2]string{{"endpointSelector.allowedCIDRs[1]:", "10.1.0.0/16"}}},
		"CIDRAll":        {"everything is no bound", func(c *ManagerConfiguration) { c.EndpointSelector.AllowedCIDRs = []string{"0.0.0.0/0", "::/0"} }, [][2]string{{"endpointSelector.allowedCIDRs[0]:", "secondary networks"}, {"endpointSelector.allowedCIDRs[1]:", "secondary networks"}}},
		"Endpoint":       {"forms are named", func(c *ManagerConfiguration) { c.Cloud.Fake = &FakeCloud{Endpoint: "cloud:80"} }, [][2]string{{"cloud.fake.endpoint:", "http://host:port"}}},
		"EndpointSocket": {"an absolute path", func(c *ManagerConfiguration) { c.Cloud.Fake = &FakeCloud{Endpoint: "unix://run/x"} }, [][2]string{{"cloud.fake.endpoint:", "unix:///path"}}},
		"PluginName":     {"classes could not name it", plugins(CloudPlugin{Name: "My Rack", Socket: "/a"}), [][2]string{{"cloud.plugins[0].name:", "lower case"}}},
		"PluginNameless": {"classes could not name it", plugins(CloudPlugin{Socket: "/a"}), [][2]string{{"cloud.plugins[0].name:", "lower case"}}},
		"PluginTwice":    {"a class could mean either", plugins(CloudPlugin{Name: "a", Socket: "/a"}, CloudPlugin{Name: "b", Socket: "/b"}, CloudPlugin{Name: "a", Socket: "/c"}), [][2]string{{"cloud.plugins[2].name:", "cloud.plugins[0]"}}},
		"PluginRelative": {"an example is given", plugins(CloudPlugin{Name: "a", Socket: "run/a.sock"}), [][2]string{{"cloud.plugins[0].socket:", "/run/fairlead/a.sock"}}},
		"PluginURL":      {"an example is given", plugins(CloudPlugin{Name: "a", Socket: "unix:///run/a.sock"}), [][2]string{{"cloud.plugins[0].socket:", "/run/fairlead/a.sock"}}},
		"PluginNowhere":  {"an example is given", plugins(CloudPlugin{Name: "a"}), [][2]string{{"cloud.plugins[0].socket:", "/run/fairlead/a.sock"}}},
		"PluginDetour":   {"two ways to write one path", plugins(CloudPlugin{Name: "a", Socket: "/run//a.sock"}), [][2]string{{"cloud.plugins[0].socket:", "absolute"}}},
		"PluginFarAway":  {"the system would refuse it", plugins(CloudPlugin{Name: "a", Socket: "/" + strings.Repeat("a", 96)}), [][2]string{{"cloud.plugins[0].socket:", "96 bytes"}}},
		"PluginSockets":  {"one of the two is a mistake", plugins(CloudPlugin{Name: "a", Socket: "/a"}, CloudPlugin{Name: "b", Socket: "/a"}), [][2]string{{"cloud.plugins[1].socket:", "cloud.plugins[0]"}}},
		"PluginHasty":    {"nothing would work", plugins(CloudPlugin{Name: "a", Socket: "/a", Timeout: &metav1.Duration{Duration: time.Millisecond}}), [][2]string{{"cloud.plugins[0].timeout:", "1s"}}},
		"PluginPatient":  {"the pass would end first", plugins(CloudPlugin{Name: "a", Socket: "/a", Timeout: seconds(241)}), [][2]string{{"cloud.plugins[0].timeout:", "4m0s"}}},
		"LimitsEmpty":    {"a slip of indentation", limits(CloudLimits{}), [][2]string{{"cloud.limits[x]:", "reads or writes"}}},
		"LimitZero":      {"nothing would be sent", limits(CloudLimits{Writes: &CallLimit{Burst: 5}}), [][2]string{{"cloud.limits[x].writes.perSecond:", "positive"}}},
		"LimitBurst":     {"nothing would be sent", limits(CloudLimits{Reads: &CallLimit{PerSecond: 5, Burst: -1}}), [][2]string{{"cloud.limits[x].reads.burst:", "1 or more"}}},
		"NoLimitBurst":   {"one of the two is a mistake", limits(CloudLimits{Reads: &CallLimit{PerSecond: -1, Burst: 5}}), [][2]string{{"cloud.limits[x].reads.burst:", "without a limit"}}},
		"MetricsAddress": {"forms are named", func(c *ManagerConfiguration) { c.Metrics.BindAddress = "8443" }, [][2]string{{"metrics.bindAddress:", ":port"}}},
		"SameAddress":    {"the second would fail to listen", func(c *ManagerConfiguration) { c.Health.BindAddress = ":8443" }, [][2]string{{"health.bindAddress:", "another port"}}},
		"WebhookAddress": {"what is configured must be answered", func(c *ManagerConfiguration) { c.Webhook.BindAddress = "0" }, [][2]string{{"webhook.bindAddress:", ":port"}}},
		"WebhookAnyPort": {"nobody could know it", func(c *ManagerConfiguration) { c.Webhook.BindAddress = ":0" }, [][2]string{{"webhook.bindAddress:", "host:port"}}},
		"WebhookTaken":   {"the second would fail to listen", func(c *ManagerConfiguration) { c.Webhook.BindAddress = ":8081" }, [][2]string{{"webhook.bindAddress:", "another port"}}},
		"ReportPort":     {"no such port", func(c *ManagerConfiguration) { c.NodeReports.Port = 65536 }, [][2]string{{"nodeReports.port:", "reportBindAddress"}}},
		"ReportBelow":    {"no such port", func(c *ManagerConfiguration) { c.NodeReports.Port = -1 }, [][2]string{{"nodeReports.port:", "reportBindAddress"}}},
		"ReportsOften":   {"it would only cost", func(c *ManagerConfiguration) { c.NodeReports.Interval = &metav1.Duration{Duration: time.Millisecond} }, [][2]string{{"nodeReports.interval:", "1s"}}},
		"ReportsRarely":  {"nothing would be seen", func(c *ManagerConfiguration) { c.NodeReports.Interval = seconds(3601) }, [][2]string{{"nodeReports.interval:", "1h"}}},
		"CertWithoutTLS": {"it would not be used", func(c *ManagerConfiguration) { c.Metrics.Secure, c.Metrics.CertDir = new(false), "/c" }, [][2]string{{"metrics.certDir:", "metrics.secure"}}},
		"QPSZero":        {"nothing would be sent", func(c *ManagerConfiguration) { c.ClientConnection.QPS = new(float32(0)) }, [][2]string{{"clientConnection.qps:", "positive"}}},
		"BurstBelowQPS":  {"it would be the QPS", func(c *ManagerConfiguration) { c.ClientConnection.Burst = new(int32(1)) }, [][2]string{{"clientConnection.burst:", "at least"}}},
		"Lease":          {"the lease would run out first", func(c *ManagerConfiguration) { c.LeaderElection.LeaseDuration = seconds(10) }, [][2]string{{"leaderElection.leaseDuration:", "more than"}}},
		"Renew":          {"no second try", func(c *ManagerConfiguration) { c.LeaderElection.RetryPeriod = seconds(9) }, [][2]string{{"leaderElection.renewDeadline:", "more than"}}},
		"Retry":          {"a tight loop", func(c *ManagerConfiguration) { c.LeaderElection.RetryPeriod = seconds(0) }, [][2]string{{"leaderElection.retryPeriod:", "2s"}}},
		"LeaseName":      {"the API server would refuse it", func(c *ManagerConfiguration) { c.LeaderElection.Name = "A B" }, [][2]string{{"leaderElection.name:", "lower case"}}},
		"LeaseNamespace": {"the API server would refuse it", func(c *ManagerConfiguration) { c.LeaderElection.Namespace = "a.b" }, [][2]string{{"leaderElection.namespace:", "lower case"}}},
		"AllTogether": {
			"one run shows every mistake",
			func(c *ManagerConfiguration) { c.Mode, c.NodePortRange, c.Controllers = "x", "2-1", []string{"y"} },
			[][2]string{{"mode:", "Replace"}, {"controllers:", "choose"}, {"nodePortRange:", "1-2"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := &ManagerConfiguration{}
			c.Default()
			tc.change(c)
			err := c.Validate()
			if err == nil {
				t.Fatalf("accepted: %s", tc.reason)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tc.want) {
				t.Fatalf("%d lines, want %d:\n%v", len(lines), len(tc.want), err)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(lines[i], want[0]) || !strings.Contains(lines[i], want[1]) {
					t.Errorf("%q does not begin with %q and say %q: %s", lines[i], want[0], want[1], tc.reason)
				}
			}
		})
	}
}

func TestSelectControllers(t *testing.T) {
	cases := map[string]struct {
		reason string
		list   []string
		want   []string
		wrong  int
	}{
		"All":         {reason: "sorted", list: []string{"*"}, want: []string{"endpoints", "endpointslice", "loadbalancer", "mirroring", "nodeport", "topology"}},
		"AllButOne":   {reason: "order does not count", list: []string{"-nodeport", " * "}, want: []string{"endpoints", "endpointslice", "loadbalancer", "mirroring", "topology"}},
		"Two":         {reason: "only what is named", list: []string{"nodeport", "endpoints"}, want: []string{"endpoints", "nodeport"}},
		"OnlyOff":     {reason: "nothing would run", list: []string{"-nodeport"}, wrong: 1},
		"OnAndOff":    {reason: "neither can be guessed", list: []string{"nodeport", "-nodeport"}, wrong: 1},
		"Unknown":     {reason: "every one is named", list: []string{"*", "a", "-b"}, wrong: 2},
		"NotAll":      {reason: "-* is not a name", list: []string{"-*"}, wrong: 1},
		"EmptyString": {reason: "--controllers= is a slip", list: []string{""}, wrong: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, wrong := SelectControllers(tc.list)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if len(wrong) != tc.wrong {
				t.Errorf("%d mistakes, want %d: %v", len(wrong), tc.wrong, errors.Join(wrong...))
			}
		})
	}
}
