package certificate

import (
	"crypto/x509"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newest(t *testing.T, pairs []*pair, hosts []string, now time.Time) []*pair {
	t.Helper()
	next, _, err := renew(pairs, hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestRenew(t *testing.T) {
	hosts := []string{"10.0.0.1", "hooks.system.svc"}
	first := newest(t, nil, hosts, start)
	second := newest(t, first, hosts, start.Add(RenewAfter))
	cases := map[string]struct {
		reason string
		pairs  []*pair
		hosts  []string
		after  time.Duration
		// fresh says that a new pair is wanted, kept how many of the old ones.
		fresh bool
		kept  int
	}{
		"None":        {reason: "the first is made", hosts: hosts, fresh: true},
		"Young":       {reason: "nothing is written where nothing is to do", pairs: first, hosts: hosts, after: RenewAfter - time.Second, kept: 1},
		"Old":         {reason: "both are there until the first expires", pairs: first, hosts: hosts, after: RenewAfter, fresh: true, kept: 1},
		"Both":        {reason: "what has begun is not begun again", pairs: second, hosts: hosts, after: RenewAfter + Settle, kept: 2},
		"Expired":     {reason: "nobody serves what has expired", pairs: second, hosts: hosts, after: Lifetime, kept: 1},
		"Overslept":   {reason: "a manager that was off for long begins anew", pairs: first, hosts: hosts, after: 2 * Lifetime, fresh: true},
		"OtherHosts":  {reason: "a certificate for other hosts is refused", pairs: first, hosts: []string{"other.system.svc"}, fresh: true, kept: 1},
		"FewerHosts":  {reason: "a host too many does no harm", pairs: first, hosts: hosts[1:], kept: 1},
		"ClockBehind": {reason: "an hour's difference of clocks does no harm", pairs: first, hosts: hosts, after: -30 * time.Minute, kept: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			next, changed, err := renew(tc.pairs, tc.hosts, start.Add(tc.after))
			if err != nil {
				t.Fatal(err)
			}
			want := tc.kept
			if tc.fresh {
				want++
			}
			if len(next) != want || changed != (tc.fresh || tc.kept != len(tc.pairs)) {
				t.Fatalf("%s: %d pairs, changed %t", tc.reason, len(next), changed)
			}
			if tc.fresh == (len(tc.pairs) > 0 && next[0] == tc.pairs[0]) {
				t.Errorf("%s: a new one %t", tc.reason, !tc.fresh)
			}
			if !next[0].covers(tc.hosts) {
				t.Errorf("%v is not for %v", next[0].leaf.DNSNames, tc.hosts)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	old := newest(t, nil, []string{"a"}, start)
	both := newest(t, old, []string{"a"}, start.Add(RenewAfter))
	since := func(of ...time.Duration) map[string]time.Time {
		trusted := map[string]time.Time{}
		for i, after := range of {
			trusted[string(both[i].certificate)] = start.Add(after)
		}
		return trusted
	}
	cases := map[string]struct {
		reason  string
		trusted map[string]time.Time
		after   time.Duration
		want    int
		next    time.Duration
	}{
		"Began":   {reason: "API servers may not have heard of the new one", trusted: since(RenewAfter, 0), after: RenewAfter, want: 1, next: RenewAfter + Settle},
		"Almost":  {reason: "one of them may be slow", trusted: since(RenewAfter, 0), after: RenewAfter + Settle - 1, want: 1, next: RenewAfter + Settle},
		"Settled": {reason: "all have", trusted: since(RenewAfter, 0), after: RenewAfter + Settle, want: 0, next: Lifetime},
		"Started": {reason: "a replica that has just started does not know for how long the new one has been trusted",
			trusted: since(RenewAfter+time.Hour, RenewAfter+time.Hour), after: RenewAfter + time.Hour, want: 1, next: RenewAfter + time.Hour + Settle},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			now := start.Add(tc.after)
			if got := choose(both, tc.trusted, now); got != both[tc.want] {
				t.Errorf("the wrong one is served: %s", tc.reason)
			}
			if got := next(both, tc.trusted, now); !got.Equal(start.Add(tc.next)) {
				t.Errorf("the next pass is %s after the start, want %s", got.Sub(start), tc.next)
			}
		})
	}
}

// TestPairIsItsOwnAuthority: whoever trusts a certificate and nothing else accepts it, and signs nothing by it.
func TestPairIsItsOwnAuthority(t *testing.T) {
	p := newest(t, nil, []string{"hooks.system.svc", "127.0.0.1"}, start)[0]
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle([]*pair{p})) {
		t.Fatal("the bundle cannot be read")
	}
	for _, host := range []string{"hooks.system.svc", "127.0.0.1"} {
		if _, err := p.leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: start}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if p.leaf.IsCA || p.leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("it can sign others")
	}
}
