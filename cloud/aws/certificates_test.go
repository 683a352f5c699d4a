package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

func certificateARN(name string) string {
	return strings.TrimSuffix(testCertificate, "1") + name
}

func certificatesFrom(names ...string) string {
	var all []string
	for _, name := range names {
		all = append(all, certificateARN(name))
	}
	return strings.Join(all, ",")
}

// withCertificates is a Service whose port 80 is TLS with certificates; with none it is TCP.
func withCertificates(names ...string) *cloud.Spec {
	s := spec("uid-1", 1)
	s.Ports = s.Ports[:1]
	if len(names) > 0 {
		s.Annotations = map[string]string{AnnotationPrefix + "ssl-cert": certificatesFrom(names...)}
	}
	return &s
}

// served are the certificates of the only listener, first the default, as anybody sees them.
func served(t *testing.T, server *awstest.Server) []string {
	t.Helper()
	client := elb.NewFromConfig(sdk(server))
	found, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil || len(found.LoadBalancers) != 1 {
		return nil
	}
	listeners, err := client.DescribeListeners(t.Context(), &elb.DescribeListenersInput{LoadBalancerArn: found.LoadBalancers[0].LoadBalancerArn})
	if err != nil || len(listeners.Listeners) != 1 {
		return nil
	}
	var all []string
	for pages := elb.NewDescribeListenerCertificatesPaginator(client, &elb.DescribeListenerCertificatesInput{ListenerArn: listeners.Listeners[0].ListenerArn}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Certificates {
			all = append(all, strings.TrimPrefix(aws.ToString(c.CertificateArn), certificateARN("")))
		}
	}
	if len(all) > 1 {
		slices.Sort(all[1:])
	}
	return all
}

// TestCertificates: the first is the default, and what both the one before and the one after have is served all the time.
func TestCertificates(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	var before []string
	for i, step := range []struct {
		names, want []string
		// writes that it takes; -1: not counted.
		writes int
	}{
		{[]string{"a", "b", "c"}, []string{"a", "b", "c"}, -1},
		{[]string{"a", "c", "b"}, []string{"a", "b", "c"}, 0},
		{[]string{"b", "a", "c"}, []string{"b", "a", "b", "c"}, 2},
		{[]string{"c", "a"}, []string{"c", "a", "c"}, 2},
		{[]string{"c"}, []string{"c", "c"}, 2},
		{[]string{"c"}, []string{"c", "c"}, 0},
		{[]string{"d"}, []string{"d"}, 2},
		{[]string{"e", "f"}, []string{"e", "f"}, -1},
		{nil, nil, -1},
		{[]string{"a", "b"}, []string{"a", "b"}, -1},
	} {
		c := &counted{calls: map[string]int{}}
		both := slices.DeleteFunc(slices.Clone(before), func(one string) bool { return !slices.Contains(step.names, one) })
		looking := false
		server.SetHook(func(call awstest.Call) error {
			if looking {
				return nil
			}
			if looking = call.After && call.Write(); looking {
				for _, one := range both {
					if now := served(t, server); !slices.Contains(now, one) {
						t.Errorf("step %d: after %s %s is not served (%q)", i, call.Action, one, now)
					}
				}
				looking = false
			}
			return c.hook(call)
		})
		settled(t, p, withCertificates().Owner, withCertificates(step.names...))
		server.SetHook(nil)
		if diff := cmp.Diff(step.want, served(t, server)); diff != "" {
			t.Errorf("step %d: %q are served otherwise (-want +got):\n%s", i, step.names, diff)
		}
		text, writes, _ := c.take()
		if step.writes >= 0 && writes != step.writes {
			t.Errorf("step %d: %q takes %s, want %d writes", i, step.names, text, step.writes)
		}
		before = step.names
		if tagged := strings.Contains(strings.Join(server.Snapshot(), "\n"), tagAlso+"="+alsoCertificates); tagged != (len(step.names) > 1) {
			t.Errorf("step %d: with %q the listener is tagged: %t", i, step.names, tagged)
		}
	}
}

// TestCertificatesAreCheap: who has one certificate pays nothing for those that have several.
func TestCertificatesAreCheap(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	settled(t, p, withCertificates().Owner, withCertificates("a"))
	server.SetHook(func(call awstest.Call) error {
		if strings.HasSuffix(call.Action, "DescribeListenerCertificates") {
			t.Error("the list of a listener with one certificate is looked at")
		}
		return nil
	})
	settled(t, p, withCertificates().Owner, withCertificates("a"))
}

// TestWithoutALPN: a listener that has no policy of ALPN, since whoever made it named none, has what nobody asked for, and is left.
func TestWithoutALPN(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := withCertificates("a")
	observed := settled(t, p, s.Owner, s).Observed
	is := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindListener && r.Attributes[protocol] == "TLS" })]
	client := elb.NewFromConfig(sdk(server))
	if _, err := client.DeleteListener(t.Context(), &elb.DeleteListenerInput{ListenerArn: aws.String(is.ID)}); err != nil {
		t.Fatal(err)
	}
	in := &elb.CreateListenerInput{Port: aws.Int32(int32(atoi(is.Key))), Protocol: types.ProtocolEnumTls, Tags: elbTags(marksOf(s.Owner, is))}
	in.LoadBalancerArn, in.DefaultActions = forwarding(is)
	in.Certificates, in.SslPolicy, _ = tlsOf(is)
	if _, err := client.CreateListener(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	server.SetHook(func(call awstest.Call) error {
		if call.Write() {
			t.Errorf("%s is called", call.Action)
		}
		return nil
	})
	settled(t, p, s.Owner, s)
}

// TestCertificatesByHand: what somebody took away or put there is put right.
func TestCertificatesByHand(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := withCertificates("a", "b", "c")
	observed := settled(t, p, s.Owner, s).Observed
	listener := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindListener })].ID
	if err := p.removeCertificates(t.Context(), listener, []string{certificateARN("b")}); err != nil {
		t.Fatal(err)
	}
	if err := p.addCertificates(t.Context(), listener, []string{certificateARN("x")}); err != nil {
		t.Fatal(err)
	}
	now, err := p.Observe(t.Context(), s.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if all := cloud.Differences(observed, now); len(all) != 1 || all[0].Kind != KindListener || !strings.Contains(all[0].What, certificates) {
		t.Errorf("it is told as %+v", all)
	}
	settled(t, p, s.Owner, s)
	if diff := cmp.Diff([]string{"a", "b", "c"}, served(t, server)); diff != "" {
		t.Errorf("served are (-want +got):\n%s", diff)
	}
}

// TestManyCertificates: as many as a listener takes, over several pages; all of them change though there is room for no more; and
// too many are of class Quota.
func TestManyCertificates(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	names := func(kind string, n int) []string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("%s%02d", kind, i))
		}
		return all
	}
	for _, kind := range []string{"a", "b"} {
		s := withCertificates(names(kind, 26)...)
		settled(t, p, s.Owner, s)
		if diff := cmp.Diff(names(kind, 26), served(t, server)); diff != "" {
			t.Errorf("served are (-want +got):\n%s", diff)
		}
	}
	if _, err := onePass(t, p, *withCertificates(names("b", 27)...), cloud.Options{}); err == nil || p.Classify(err).Class != cloud.Quota {
		t.Errorf("27 certificates: %v", err)
	}
}

// TestCertificatesCrash: whichever call a manager was killed at, the next one comes to the same end.
func TestCertificatesCrash(t *testing.T) {
	all := func(server *awstest.Server) any {
		names := served(t, server)
		slices.Sort(names)
		return slices.Compact(names)
	}
	for _, names := range [][]string{{"a", "b", "c"}, {"b", "a"}, {"d"}, nil} {
		crashAnywhere(t, awstest.Options{}, withCertificates("a", "b"), withCertificates(names...), all)
		crashAnywhere(t, awstest.Options{}, withCertificates("a"), withCertificates(names...), all)
		crashAnywhere(t, awstest.Options{}, nil, withCertificates(names...), nil)
	}
}
