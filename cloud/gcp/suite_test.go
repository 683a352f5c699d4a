package gcp_test

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// suiteEnv names the one of suites that TestSuite runs.
const suiteEnv = "FAIRLEAD_GCP_SUITE"

// skipped are the cases of what the provider does not declare.
var skipped = []string{"Feature/SCTP", "Feature/Share", "HealthIsTold", "PodsAreCheap", "PodsAreTargets", "SharedConcurrently", "SharedCrashAnywhere",
	"SharedInAnyOrder"}

// suites are clouds, by name, and the cases that are skipped.
var suites = map[string]struct {
	options gcptest.Options
	edits   []func(*cloud.Capabilities)
	skipped []string
}{
	"AtOnce": {gcptest.Options{}, nil, skipped},
	// Operations take their time, and what they make is not to be seen for half of it. Of one family and protocol, or it would
	// take long.
	"Slow": {gcptest.Options{Slow: 2 * time.Second}, []func(*cloud.Capabilities){simple},
		append([]string{"Feature/DualStack", "Feature/IPv6", "Feature/MixedProtocols"}, skipped...)},
	"Lagging": {gcptest.Options{ReadLag: 5 * time.Second}, []func(*cloud.Capabilities){simple}, nil},
}

func simple(caps *cloud.Capabilities) {
	caps.Families, caps.DualStack, caps.MixedProtocols = caps.Families[:1], false, false
}

// TestSuite is what TestProvider runs in a process of its own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if name := os.Getenv(suiteEnv); name != "" {
		debug.SetGCPercent(400) // thousands of small clouds come and go: a quarter of the time went into collecting them
		suite := suites[name]
		cloudtest.Run(t, func(*testing.T) *cloudtest.Harness { return gcptest.New(suite.options).Harness(suite.edits...) })
	}
}

// TestProvider: the provider passes the suite, of which exactly what it does not declare is skipped, and visibly so.
func TestProvider(t *testing.T) {
	for name, suite := range suites {
		if name == "Lagging" { // TestLaggingLists
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Passes(t, "TestSuite", suiteEnv+"="+name, suite.skipped...)
		})
	}
}

// TestLaggingLists runs those cases in which it matters where lists are behind what was written.
func TestLaggingLists(t *testing.T) {
	t.Parallel()
	cases := []string{"AdoptedWithConsent", "DeleteWhateverIsThere", "ForeignIsUntouched", "ListIsComplete", "NoChangeNoWrite", "NodesAreCheap",
		"NotAdoptedWithoutConsent", "OfferedAndTakenOver", "ReplayIsIdempotent"}
	out := apart.Run(t.Context(), "TestSuite/("+strings.Join(cases, "|")+")", suiteEnv+"=Lagging")
	if diff := cmp.Diff(cases, out.Passed); diff != "" || out.Err != nil {
		t.Errorf("%v, cases that passed (-want +got):\n%s\n%s", out.Err, diff, out.Output)
	}
}
