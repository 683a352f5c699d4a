package v1alpha1

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Validate names everything that is wrong with a configuration that Default has been over, joined into one
// error of one line each: the field, what is wrong, what to write instead. Nil: nothing is wrong.
func (c *ManagerConfiguration) Validate() error {
	var mistakes []error
	add := func(err error) {
		if err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if c.Mode != ModeReplace && c.Mode != ModeCoexist {
		add(fmt.Errorf("mode: %q is not a mode: write %s or %s", c.Mode, ModeReplace, ModeCoexist))
	}
	_, wrong := SelectControllers(c.Controllers)
	mistakes = append(mistakes, wrong...)
	if c.ClusterID != "" && !clusterID.MatchString(c.ClusterID) {
		add(fmt.Errorf("clusterID: %q cannot be used: write at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last", c.ClusterID))
	}
	add(wrapField("nodePortRange", checkPortRange(c.NodePortRange)))
	add(wrapField("endpointSlice.maxEndpointsPerSlice", checkCount(*c.EndpointSlice.MaxEndpointsPerSlice)))
	add(wrapField("endpointSlice.maxBatchDelay", checkBatchDelay(c.EndpointSlice.MaxBatchDelay.Duration)))
	add(wrapField("endpointSlice.concurrentSyncs", checkCount(*c.EndpointSlice.ConcurrentSyncs)))
	add(wrapField("endpoints.maxBatchDelay", checkBatchDelay(c.Endpoints.MaxBatchDelay.Duration)))
	add(wrapField("endpoints.concurrentSyncs", checkCount(*c.Endpoints.ConcurrentSyncs)))
	mistakes = append(mistakes, c.EndpointSelector.validate()...)
	mistakes = append(mistakes, c.Cloud.validate()...)
	mistakes = append(mistakes, c.Cloud.validateLimits()...)
	mistakes = append(mistakes, c.LeaderElection.validate()...)
	add(wrapField("metrics.bindAddress", checkBindAddress(c.Metrics.BindAddress)))
	add(wrapField("health.bindAddress", checkBindAddress(c.Health.BindAddress)))
	add(taken("health.bindAddress", c.Health.BindAddress, "metrics.bindAddress", c.Metrics.BindAddress))
	if address := c.Webhook.BindAddress; address == "0" || strings.HasSuffix(address, ":0") {
		add(fmt.Errorf("webhook.bindAddress: %q is no place where the API server could ask: write host:port or :port", address))
	} else {
		add(wrapField("webhook.bindAddress", checkBindAddress(c.Webhook.BindAddress)))
		add(taken("webhook.bindAddress", c.Webhook.BindAddress, "metrics.bindAddress", c.Metrics.BindAddress))
		add(taken("webhook.bindAddress", c.Webhook.BindAddress, "health.bindAddress", c.Health.BindAddress))
	}
	if port := c.NodeReports.Port; port < 0 || port > 65535 {
		add(fmt.Errorf("nodeReports.port: %d is no port: write that of the node agents' reportBindAddress, or 0 to ask nobody", port))
	}
	if d := c.NodeReports.Interval.Duration; d < time.Second || d > time.Hour {
		add(fmt.Errorf("nodeReports.interval: %s is not within 1s and 1h", d))
	}
	if c.Metrics.CertDir != "" && !*c.Metrics.Secure {
		add(errors.New("metrics.certDir: there is no certificate without HTTPS: set metrics.secure to true or leave certDir out"))
	}
	if qps, burst := *c.ClientConnection.QPS, *c.ClientConnection.Burst; qps == 0 {
		add(errors.New("clientConnection.qps: 0 would send nothing: write a positive number, or a negative one for no limit"))
	} else if qps > 0 && float32(burst) < qps {
		add(fmt.Errorf("clientConnection.burst: %d is below qps %v: write at least that", burst, qps))
	}
	return errors.Join(mistakes...)
}

// clusterID fits tags of every cloud and a Kubernetes label's value.
var clusterID = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

func (e *EndpointSelector) validate() []error {
	var mistakes []error
	for i, text := range e.AllowedCIDRs {
		cidr, err := netip.ParsePrefix(text)
		switch {
		case err != nil || cidr.Addr().Is4In6():
			err = fmt.Errorf("%q is no range of addresses: write it as 192.0.2.0/24 or 2001:db8::/64", text)
		case cidr.Bits() == 0:
			err = fmt.Errorf("%q holds every address, those of nodes and of other tenants too: name the ranges of the secondary networks", text)
		case cidr != cidr.Masked():
			err = fmt.Errorf("%q is an address with a length: write %s for its range", text, cidr.Masked())
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("endpointSelector.allowedCIDRs[%d]: %w", i, err))
		}
	}
	return mistakes
}

func (c *Cloud) validate() []error {
	mistakes := c.validatePlugins()
	if c.Fake == nil || c.Fake.Endpoint == "" {
		return mistakes
	}
	endpoint, err := url.Parse(c.Fake.Endpoint)
	switch {
	case err != nil:
	case endpoint.Scheme == "http" && endpoint.Host != "" && endpoint.Path == "":
		return mistakes
	case endpoint.Scheme == "unix" && endpoint.Host == "" && endpoint.Path != "":
		return mistakes
	}
	return append(mistakes, fmt.Errorf("cloud.fake.endpoint: %q is no place to reach it: write http://host:port or unix:///path", c.Fake.Endpoint))
}

// The system takes 107 bytes as the path of a socket; a plugin in Go makes it under a name that is a little longer.
const maxSocket = 96

// maxPluginTimeout is below the 5 minutes that one pass of a controller may take.
const maxPluginTimeout = 4 * time.Minute

func (c *Cloud) validatePlugins() []error {
	var mistakes []error
	names, sockets := map[string]int{}, map[string]int{}
	for i, p := range c.Plugins {
		add := func(field, format string, args ...any) {
			mistakes = append(mistakes, fmt.Errorf("cloud.plugins[%d].%s: %w", i, field, fmt.Errorf(format, args...)))
		}
		if len(validation.IsDNS1123Label(p.Name)) > 0 {
			add("name", "%q cannot name a provider: write lower case letters, digits and '-'", p.Name)
		} else if other, taken := names[p.Name]; taken {
			add("name", "%q is taken by cloud.plugins[%d]: choose another name", p.Name, other)
		} else {
			names[p.Name] = i
		}
		if !path.IsAbs(p.Socket) || path.Clean(p.Socket) != p.Socket || len(p.Socket) > maxSocket {
			add("socket", "%q is no place for a socket: write an absolute path of at most %d bytes, like /run/fairlead/%s.sock",
				p.Socket, maxSocket, cmp.Or(p.Name, "name"))
		} else if other, taken := sockets[p.Socket]; taken {
			add("socket", "%q is taken by cloud.plugins[%d]: give each plugin its own", p.Socket, other)
		} else {
			sockets[p.Socket] = i
		}
		if d := p.Timeout.Duration; d < time.Second || d > maxPluginTimeout {
			add("timeout", "%s is not within 1s and %s", d, maxPluginTimeout)
		}
	}
	return mistakes
}

func (e *LeaderElection) validate() []error {
	var mistakes []error
	if e.Namespace != "" && len(validation.IsDNS1123Label(e.Namespace)) > 0 {
		mistakes = append(mistakes, fmt.Errorf("leaderElection.namespace: %q cannot name one: write lower case letters, digits and '-'", e.Namespace))
	}
	if len(validation.IsDNS1123Subdomain(e.Name)) > 0 {
		mistakes = append(mistakes, fmt.Errorf("leaderElection.name: %q cannot name a Lease: write lower case letters, digits, '-' and '.'", e.Name))
	}
	lease, renew, retry := e.LeaseDuration.Duration, e.RenewDeadline.Duration, e.RetryPeriod.Duration
	if retry <= 0 {
		mistakes = append(mistakes, fmt.Errorf("leaderElection.retryPeriod: %s is not positive: write 2s", retry))
	}
	// The renewer waits up to 1.2 retry periods between tries (client-go's JitterFactor), so that a deadline any
	// shorter would leave it no second try.
	if shortest := retry + retry/5; renew <= shortest {
		mistakes = append(mistakes, fmt.Errorf("leaderElection.renewDeadline: %s leaves no time to try twice: write more than %s", renew, shortest))
	}
	if lease <= renew {
		mistakes = append(mistakes, fmt.Errorf("leaderElection.leaseDuration: %s is not above renewDeadline %s: write more than that", lease, renew))
	}
	return mistakes
}

// checkCount takes what the API allows of endpoints in a slice, and more workers than help anyone.
func checkCount(n int32) error {
	if n < 1 || n > 1000 {
		return fmt.Errorf("%d is not within 1 and 1000", n)
	}
	return nil
}

// maxBatchDelay is far above what anyone should want, and below what looks like an outage.
const maxBatchDelay = time.Minute

func checkBatchDelay(d time.Duration) error {
	if d < 0 || d > maxBatchDelay {
		return fmt.Errorf("%s is not within 0s and %s", d, maxBatchDelay)
	}
	return nil
}

// checkPortRange takes "first-last", as kube-apiserver's --service-node-port-range does.
func checkPortRange(text string) error {
	first, last, both := strings.Cut(text, "-")
	if !both {
		return fmt.Errorf("%q is not a range: write it as first-last, for example %s", text, DefaultNodePortRange)
	}
	var ends [2]uint64
	for i, end := range []string{first, last} {
		port, err := strconv.ParseUint(end, 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("%q is not a port: write a number from 1 to 65535 on both sides of %q", end, text)
		}
		ends[i] = port
	}
	if ends[0] > ends[1] {
		return fmt.Errorf("%q is upside down: write %d-%d", text, ends[1], ends[0])
	}
	return nil
}

// checkBindAddress takes host:port with an empty host or an IP address or a name, or "0" for nothing at all.
func checkBindAddress(address string) error {
	if address == "0" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q cannot be listened on: write host:port or :port, or 0 for none", address)
	}
	return nil
}

// taken refuses an address that another field has already.
func taken(field, address, other, otherAddress string) error {
	if address == "0" || address != otherAddress || strings.HasSuffix(address, ":0") {
		return nil
	}
	return fmt.Errorf("%s: %q is taken by %s: choose another port", field, address, other)
}

func wrapField(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}
