package v1alpha1

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What stands where nothing was given.
const (
	DefaultNodePortRange                   = "30000-32767"
	DefaultLeaderElectionNamespace         = "fairlead-system"
	DefaultLeaderElectionName              = "fairlead-manager"
	DefaultMetricsBindAddress              = ":8443"
	DefaultHealthBindAddress               = ":8081"
	DefaultWebhookBindAddress              = ":9443"
	DefaultQPS                     float32 = 500

	defaultMaxEndpointsPerSlice int32 = 100
	defaultSliceBatchDelay            = 200 * time.Millisecond
	defaultSliceSyncs           int32 = 5
	defaultEndpointsBatchDelay        = 3 * time.Second
	defaultEndpointsSyncs       int32 = 5

	defaultPluginTimeout = time.Minute

	defaultReportInterval = time.Minute

	defaultLeaseDuration = 15 * time.Second
	defaultRenewDeadline = 10 * time.Second
	defaultRetryPeriod   = 2 * time.Second
)

// Default fills in what was left out, in place. It leaves ClusterID and LeaderElection.Namespace alone: only the
// running program can find those out.
func (c *ManagerConfiguration) Default() {
	c.APIVersion, c.Kind = GroupVersion.String(), "ManagerConfiguration"
	orDefault(&c.Mode, ModeReplace)
	if len(c.Controllers) == 0 {
		c.Controllers = []string{"*"}
	}
	orDefault(&c.NodePortRange, DefaultNodePortRange)
	orDefault(&c.EndpointSlice.MaxEndpointsPerSlice, new(defaultMaxEndpointsPerSlice))
	orDefault(&c.EndpointSlice.MaxBatchDelay, &metav1.Duration{Duration: defaultSliceBatchDelay})
	orDefault(&c.EndpointSlice.ConcurrentSyncs, new(defaultSliceSyncs))
	orDefault(&c.Endpoints.MaxBatchDelay, &metav1.Duration{Duration: defaultEndpointsBatchDelay})
	orDefault(&c.Endpoints.ConcurrentSyncs, new(defaultEndpointsSyncs))
	for i := range c.Cloud.Plugins {
		orDefault(&c.Cloud.Plugins[i].Timeout, &metav1.Duration{Duration: defaultPluginTimeout})
	}
	c.Cloud.defaultLimits()
	orDefault(&c.LeaderElection.Name, DefaultLeaderElectionName)
	orDefault(&c.LeaderElection.Enabled, new(true))
	orDefault(&c.LeaderElection.LeaseDuration, &metav1.Duration{Duration: defaultLeaseDuration})
	orDefault(&c.LeaderElection.RenewDeadline, &metav1.Duration{Duration: defaultRenewDeadline})
	orDefault(&c.LeaderElection.RetryPeriod, &metav1.Duration{Duration: defaultRetryPeriod})
	orDefault(&c.Metrics.BindAddress, DefaultMetricsBindAddress)
	orDefault(&c.Metrics.Secure, new(true))
	orDefault(&c.Health.BindAddress, DefaultHealthBindAddress)
	orDefault(&c.NodeReports.Interval, &metav1.Duration{Duration: defaultReportInterval})
	orDefault(&c.Webhook.BindAddress, DefaultWebhookBindAddress)
	orDefault(&c.ClientConnection.QPS, new(DefaultQPS))
	orDefault(&c.ClientConnection.Burst, new(defaultBurst(*c.ClientConnection.QPS)))
}

// defaultBurst is twice the QPS, whatever was given for it: validation names what is wrong with a QPS.
func defaultBurst(qps float32) int32 {
	burst := math.Ceil(2 * float64(qps))
	return int32(min(max(burst, 0), math.MaxInt32))
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
