package fake_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/fake/faketest"
)

// direct is an HTTP transport that calls a handler, without a socket: in a bubble time must be able to stand still.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, request)
	return recorder.Result(), nil
}

// harness makes a cloud whose provider is in the same process, or behind HTTP.
func harness(options fake.Options, overHTTP bool, edits ...func(*cloud.Capabilities)) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		h, _ := harnessOf(t, options, overHTTP, edits...)
		return h
	}
}

func harnessOf(t *testing.T, options fake.Options, overHTTP bool, edits ...func(*cloud.Capabilities)) (*cloudtest.Harness, *fake.Cloud) {
	t.Helper()
	c := faketest.New(options)
	var api fake.API = c
	if overHTTP {
		api = fake.NewClientFor("http://fake", direct{fake.Handler(c.Cloud)})
	}
	return c.Harness(func() cloud.Provider {
		lag := func(caps *cloud.Capabilities) { caps.ReadLag = options.ReadLag }
		return fake.NewProvider(api, append(edits, lag)...)
	}), c.Cloud
}

// suiteEnv names the one of suites that TestSuite runs.
const suiteEnv = "FAIRLEAD_SUITE"

var smallAccount = fake.Options{Limits: cloud.Limits{Reads: cloud.Limit{PerSecond: 2, Burst: 3}, Writes: cloud.Limit{PerSecond: 2, Burst: 3}}}

// simple is a provider that declares next to nothing.
func simple(caps *cloud.Capabilities) {
	*caps = cloud.Capabilities{Protocols: []string{"TCP"}, Families: []cloud.Family{cloud.IPv4}, NodePorts: true,
		Targets: caps.Targets}
}

var simpleSkips = []string{
	"AdoptedWithConsent", "AdoptionCrashAnywhere", "Feature/DualStack", "Feature/IPv6", "Feature/LocalHealthChecks", "Feature/MixedProtocols",
	"Feature/RequestedAddress", "Feature/SCTP",
	"Feature/SessionAffinity", "Feature/Share", "Feature/SourceRanges", "Feature/UDP", "HealthIsTold",
	"NotAdoptedWithoutConsent", "OfferedAndTakenOver", "PodsAreCheap", "PodsAreTargets", "SharedConcurrently", "SharedCrashAnywhere", "SharedInAnyOrder",
}

// suites are providers that keep the contract, by name, and the cases that are skipped since they do not declare what these
// are about.
var suites = map[string]struct {
	factory func(t *testing.T) *cloudtest.Harness
	skipped []string
}{
	"InProcess": {harness(fake.Options{}, false), []string{"Feature/SCTP"}},
	"Slow":      {harness(fake.Options{Slow: 7 * time.Second}, false), []string{"Feature/SCTP"}},
	// Reads show what was a while ago, and what is made or deleted takes its time. Of one family and without UDP, or it
	// would take long.
	"Lagging": {harness(fake.Options{ReadLag: 4 * time.Second, Slow: 3 * time.Second}, false, func(caps *cloud.Capabilities) {
		caps.Families, caps.DualStack, caps.MixedProtocols = caps.Families[:1], false, false
	}), []string{"Feature/DualStack", "Feature/IPv6", "Feature/MixedProtocols", "Feature/SCTP"}},
	"OverHTTP": {harness(fake.Options{}, true), []string{"Feature/SCTP"}},
	// The cloud throttles by itself what is sent past its limits, which the provider declares.
	"SmallAccount": {harness(smallAccount, false, func(caps *cloud.Capabilities) { caps.Limits = smallAccount.Limits }),
		[]string{"Feature/SCTP"}},
	// What is made or deleted takes minutes, as it does in some clouds.
	"Minutes": {harness(fake.Options{Slow: 100 * time.Second}, false, simple), simpleSkips},
	"Simple":  {harness(fake.Options{}, false, simple), simpleSkips},
}

// TestSuite is what TestProvider runs in a process of its own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if name := os.Getenv(suiteEnv); name != "" {
		cloudtest.Run(t, suites[name].factory)
	}
}

// TestProvider: each provider passes the suite, of which exactly what it does not declare is skipped, and visibly so.
func TestProvider(t *testing.T) {
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Passes(t, "TestSuite", suiteEnv+"="+name, suite.skipped...)
		})
	}
}
