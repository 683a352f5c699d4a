package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/dataplane/model"
)

// maxTimeout is what the kernel takes for a timeout in seconds, and more than anybody means.
const maxTimeout = 365 * 24 * time.Hour

// validate names every field that is wrong, by its name in the file. nil: nothing is.
func (c *configuration) validate() []string {
	var problems []string
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			if name, differs := c.names[field]; differs {
				field = name
			}
			problems = append(problems, field+": "+fmt.Sprintf(format, args...))
		}
	}
	check(c.Mode == configv1alpha1.ModeReplace || c.Mode == configv1alpha1.ModeCoexist, "mode",
		"%q is not a mode: write %s or %s", c.Mode, configv1alpha1.ModeReplace, configv1alpha1.ModeCoexist)
	check(c.NodeName == "" || len(validation.IsDNS1123Subdomain(c.NodeName)) == 0, "nodeName", "%q cannot name a Node", c.NodeName)
	check(c.Verbosity >= 0, "verbosity", "%d is below 0", c.Verbosity)
	if qps, burst := c.ClientConnection.QPS, c.ClientConnection.Burst; qps != nil && *qps == 0 {
		check(false, "clientConnection.qps", "0 would send nothing: write a positive number, or a negative one for no limit")
	} else if burst != nil {
		check(*burst > 0, "clientConnection.burst", "%d is not positive", *burst)
	}
	check(c.MinSyncPeriod.Duration >= 0, "minSyncPeriod", "%v is below 0s", c.MinSyncPeriod.Duration)
	check(c.SyncPeriod.Duration >= time.Second, "syncPeriod", "%v is below 1s", c.SyncPeriod.Duration)
	check(*c.MasqueradeBit >= 0 && *c.MasqueradeBit <= 31, "masqueradeBit", "%d is not within 0 and 31", *c.MasqueradeBit)
	if score := c.OOMScoreAdj; score != nil {
		check(*score >= -1000 && *score <= 1000, "oomScoreAdj", "%d is not within -1000 and 1000", *score)
	}
	_, err := model.ParseNodePortPolicy(c.NodePortAddresses)
	check(err == nil, "nodePortAddresses", "%v", err)
	check(bindable(*c.HealthzBindAddress), "healthzBindAddress", "%q is not address:port", *c.HealthzBindAddress)
	check(bindable(*c.MetricsBindAddress), "metricsBindAddress", "%q is not address:port", *c.MetricsBindAddress)
	check(!overlap(*c.MetricsBindAddress, *c.HealthzBindAddress), "metricsBindAddress",
		"%q is taken by healthzBindAddress: choose another port", *c.MetricsBindAddress)
	check(bindable(c.ReportBindAddress), "reportBindAddress", "%q is not address:port", c.ReportBindAddress)
	check(!overlap(c.ReportBindAddress, *c.HealthzBindAddress) && !overlap(c.ReportBindAddress, *c.MetricsBindAddress),
		"reportBindAddress", "%q is taken by healthzBindAddress or metricsBindAddress: choose another port", c.ReportBindAddress)
	c.validateDetection(check)
	c.validateConntrack(check)
	return problems
}

type checker func(ok bool, field, format string, args ...any)

func (c *configuration) validateDetection(check checker) {
	_, err := model.ParsePrefixes(c.LocalDetection.ClusterCIDRs)
	check(err == nil, "localDetection.clusterCIDRs", "%v", err)
	check(c.detections() <= 1, "localDetection", "set one of clusterCIDRs, nodeCIDR, interfacePrefixes and interfaces, not several")
	for _, list := range []struct {
		field string
		names []string
	}{
		{"localDetection.interfacePrefixes", c.LocalDetection.InterfacePrefixes},
		{"localDetection.interfaces", c.LocalDetection.Interfaces},
	} {
		i := slices.IndexFunc(list.names, func(name string) bool { return !interfaceName(name) })
		if i >= 0 {
			check(false, list.field, "%q cannot be an interface's name or begin one (1 to 15 characters, no / * or blanks)", list.names[i])
		}
	}
}

func interfaceName(name string) bool {
	return name != "" && len(name) < 16 && !strings.ContainsAny(name, "/* \t\n")
}

// detections counts the ways of local detection that are asked for.
func (c *configuration) detections() int {
	d, n := c.LocalDetection, 0
	for _, set := range []bool{len(d.ClusterCIDRs) > 0, d.NodeCIDR, len(d.InterfacePrefixes) > 0, len(d.Interfaces) > 0} {
		if set {
			n++
		}
	}
	return n
}

func (c *configuration) validateConntrack(check checker) {
	t := c.Conntrack
	check(*t.MaxPerCore >= 0, "conntrack.maxPerCore", "%d is below 0", *t.MaxPerCore)
	check(*t.Min >= 0, "conntrack.min", "%d is below 0", *t.Min)
	for _, timeout := range []struct {
		field string
		value *metav1.Duration
	}{
		{"conntrack.tcpEstablishedTimeout", t.TCPEstablishedTimeout},
		{"conntrack.tcpCloseWaitTimeout", t.TCPCloseWaitTimeout},
		{"conntrack.udpTimeout", t.UDPTimeout},
		{"conntrack.udpStreamTimeout", t.UDPStreamTimeout},
	} {
		if timeout.value != nil {
			check(timeout.value.Duration >= 0 && timeout.value.Duration <= maxTimeout, timeout.field,
				"%v is not within 0s and %v", timeout.value.Duration, maxTimeout)
		}
	}
}

// bindable accepts address:port, :port, and "" for off. It does not resolve names.
func bindable(address string) bool {
	_, err := bindAddress(address)
	return address == "" || err == nil
}

// bindAddress reads address:port, and :port as all addresses.
func bindAddress(s string) (netip.AddrPort, error) {
	if strings.HasPrefix(s, ":") {
		s = "0.0.0.0" + s
	}
	return netip.ParseAddrPort(s)
}

// overlap says that two servers cannot both listen. One on all addresses of a family does so on those of the other, too.
func overlap(a, b string) bool {
	p, err := bindAddress(a)
	q, other := bindAddress(b)
	if err != nil || other != nil || p.Port() != q.Port() || p.Port() == 0 {
		return false
	}
	return p.Addr().IsUnspecified() || q.Addr().IsUnspecified() || p.Addr().Unmap() == q.Addr().Unmap()
}
