package aws

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// What the service itself does that its calls alone do not show.

// TestDependentRights: a right of another service that AWS asks for is named as such, and not the call's own, which the role has.
func TestDependentRights(t *testing.T) {
	for _, action := range []string{"ec2:DescribeInternetGateways", "ec2:GetSecurityGroupsForVpc", "iam:CreateServiceLinkedRole", "ec2:DescribeVpcs"} {
		server := awstest.New(awstest.Options{})
		server.Deny(action)
		p := testProvider(server, unlimited)
		_, err := onePass(t, p, spec("uid-1", 1), cloud.Options{})
		if err == nil || p.Classify(err).After != deniedFor || !strings.HasSuffix(err.Error(), "let the manager's role do "+action) {
			t.Errorf("without %s: %v", action, err)
		}
	}
}

// TestRoleOnce: the role of ELB is made with the first balancer of the account only.
func TestRoleOnce(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	one, two := spec("uid-1", 1), spec("uid-2", 1)
	settled(t, p, one.Owner, &one)
	server.Deny("iam:CreateServiceLinkedRole")
	settled(t, p, two.Owner, &two)
}

// TestRoleIsNotAssumed: a role that the manager may not assume is told as that, and not as a missing right to list balancers.
func TestRoleIsNotAssumed(t *testing.T) {
	noMetadata(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`))
	}))
	t.Cleanup(served.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_WEB_IDENTITY_TOKEN_FILE": token,
		"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/fairlead", "AWS_ENDPOINT_URL_STS": served.URL} {
		t.Setenv(name, value)
	}
	p, err := New(cloud.Config{Endpoint: served.URL, File: []byte("region: eu-north-1\nvpcID: vpc-0a1b2c3d\n")})
	if err != nil {
		t.Fatal(err)
	}
	s := spec("uid-1", 1)
	if _, err = onePass(t, p, s, cloud.Options{}); err == nil || !strings.Contains(err.Error(), "sts:AssumeRoleWithWebIdentity") ||
		!strings.Contains(err.Error(), "trust policy") || strings.Contains(err.Error(), "elasticloadbalancing") || p.Classify(err).After != deniedFor {
		t.Errorf("the error is %v", err)
	}
}

// TestUnhealthyConnections: attributes of connections to unhealthy targets, which depend on one another and on the protocol.
func TestUnhealthyConnections(t *testing.T) {
	const end, wait = attributeTerminate + "=", attributeDraining + "="
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	for text, wrong := range map[string]string{end + "true": "TCP and TLS only (port 53)", wait + "30": "set " + attributeTerminate + " to false"} {
		s := spec("uid-1", 1)
		s.Annotations = map[string]string{AnnotationPrefix + "target-group-attributes": text}
		if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// To and fro, for the port of TCP; then also for that of UDP, what is false there already.
	s := spec("uid-1", 1)
	for _, annotations := range []map[string]string{nil, {"target-group-attributes.80": end + "false," + wait + "30"}, nil, {"target-group-attributes": end + "false"}} {
		s.Annotations = map[string]string{}
		for name, value := range annotations {
			s.Annotations[AnnotationPrefix+name] = value
		}
		settled(t, p, s.Owner, &s)
		if out, err := onePass(t, p, s, cloud.Options{}); err != nil || len(out.Done) > 0 {
			t.Errorf("%v: again it did %+v (%v)", annotations, out.Done, err)
		}
	}
}

// TestHiddenAttributes: attributes that AWS does not show, and nobody asks for, are not set again in every pass.
func TestHiddenAttributes(t *testing.T) {
	have := map[string]string{}
	shown(have, balancerDefaults(), map[string]string{attributeCrossZone: "true"})
	want := balancer(spec("uid-1", 1), &settings{balancerAttributes: map[string]string{"access_logs.s3.prefix": "x"}}, nil)
	if diff := cmp.Diff(map[string]string{attributeCrossZone: "false", "access_logs.s3.prefix": "x"}, awsAttributes(want.Attributes, have)); diff != "" {
		t.Errorf("what is set (-want +got):\n%s", diff)
	}
}

// TestAddressesOnlyGrow: more addresses in each subnet stay, whoever asks for fewer; who does is told, and everything else is done.
func TestAddressesOnlyGrow(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	s := spec("uid-1", 1)
	ask := func(text string) (string, error) {
		s.Annotations = map[string]string{}
		if text != "" {
			s.Annotations[AnnotationPrefix+"attributes"] = text
		}
		_, err := onePass(t, p, s, cloud.Options{})
		observed := observe(t, p, s.Owner)
		a := observed[slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == KindLoadBalancer })].Attributes
		return a[attributePrefix+attributeSecondary] + " " + a[attributePrefix+attributeCrossZone], err
	}
	for _, c := range []struct{ text, want, wrong string }{
		{attributeSecondary + "=0", "0 false", ""}, {attributeSecondary + "=2", "2 false", ""}, {"", "2 false", ""},
		{attributeSecondary + "=1," + attributeCrossZone + "=true", "2 true", attributeSecondary + " is 2"}, {attributeSecondary + "=3", "3 false", ""},
	} {
		got, err := ask(c.text)
		if got != c.want || (err != nil) != (c.wrong != "") || err != nil && (!strings.Contains(err.Error(), c.wrong) || !cloud.IsClass(err, cloud.UserError)) {
			t.Errorf("%q: it has %s (%v), want %s", c.text, got, err, c.want)
		}
	}
}

// TestFittingSubnets: of the subnets of a zone the first that a balancer can be in is taken.
func TestFittingSubnets(t *testing.T) {
	tags := func(more ...string) map[string]string {
		all := map[string]string{"kubernetes.io/role/internal-elb": "1"}
		for _, key := range more {
			all[clusterTag+key] = "owned"
		}
		return all
	}
	const six = "2600:1f16:1:0::/64"
	options := awstest.Options{VPC: "vpc-0a1b2c3d", Subnets: []awstest.Subnet{
		{ID: "subnet-01", Zone: "a", CIDR: "172.30.0.0/24", CIDR6: six, Tags: tags("green")},
		{ID: "subnet-02", Zone: "a", CIDR: "172.30.1.0/24", CIDR6: six, Tags: tags(), Free: 7},
		{ID: "subnet-03", Zone: "a", CIDR: "172.30.2.0/24", Tags: tags("green", testCluster), Free: 8},
		{ID: "subnet-04", Zone: "a", CIDR: "172.30.3.0/24", CIDR6: six, Tags: tags()},
		{ID: "subnet-05", Zone: "b", CIDR: "172.30.4.0/24", Tags: tags(testCluster)},
	}}
	for kind, want := range map[string][]string{addressTypeFour: {"subnet-03", "subnet-05"}, addressTypeDouble: {"subnet-04"}} {
		p := testProvider(awstest.New(options), unlimited)
		got, err := p.discover(t.Context(), schemeInternal, kind)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", kind, err, diff)
		}
		p.clusterName = "" // no tag says that it is another's
		if got, err := p.discover(t.Context(), schemeInternal, kind); err != nil || got[0] != "subnet-01" {
			t.Errorf("%s: without a name: %q (%v)", kind, got, err)
		}
	}
	options.Subnets = options.Subnets[:2]
	if _, err := testProvider(awstest.New(options), unlimited).discover(t.Context(), schemeInternal, addressTypeFour); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "none of the 2 subnets") {
		t.Errorf("the error is %v", err)
	}
}

// TestOldInternal: what the value was before it was true or false.
func TestOldInternal(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	if got := asked(t, p, spec("uid-1", 1), "type", "nlb", "internal", "0.0.0.0/0").Attributes[scheme]; got != schemeInternal {
		t.Errorf("the scheme is %s", got)
	}
}

// TestOtherSubnets: a balancer with IPv4 only moves to other subnets, without a word on IPv6, which AWS refuses there.
func TestOtherSubnets(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 1)
	settled(t, p, s.Owner, &s)
	s.Annotations = map[string]string{AnnotationPrefix + "subnets": "subnet-0b01"}
	for _, r := range settled(t, p, s.Owner, &s).Observed {
		if r.Kind == KindLoadBalancer {
			_, err := elb.NewFromConfig(sdk(server)).SetSubnets(t.Context(), &elb.SetSubnetsInput{LoadBalancerArn: aws.String(r.ID), Subnets: []string{"subnet-0b02"},
				EnablePrefixForIpv6SourceNat: types.EnablePrefixForIpv6SourceNatEnumOff})
			if r.Attributes[subnets] != "subnet-0b01" || codeOf(plain("", "", err)) != "InvalidConfigurationRequest" {
				t.Errorf("it is in %s; the emulator answers %v", r.Attributes[subnets], err)
			}
		}
	}
}

// TestChosenIPv6: an address of IPv6 that AWS has chosen beside elastic ones is none that somebody asked for.
func TestChosenIPv6(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	s := spec("uid-1", 1)
	s.Families = bothFamilies
	ask := func(pairs ...string) {
		s.Annotations = map[string]string{AnnotationPrefix + "scheme": "internet-facing",
			AnnotationPrefix + "subnets": "subnet-0a01", AnnotationPrefix + "eip-allocations": "eipalloc-01"}
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[AnnotationPrefix+pairs[i]] = pairs[i+1]
		}
	}
	ask()
	settled(t, p, s.Owner, &s)
	if out, err := onePass(t, p, s, cloud.Options{}); err != nil || !out.Left.Empty() || len(out.Done) > 0 {
		t.Errorf("again it did %+v and left %+v (%v)", out.Done, out.Left, err)
	}
	ask("ipv6-addresses", "2600:1f16:1::1") // the one that it has
	settled(t, p, s.Owner, &s)
	ask("ipv6-addresses", "2600:1f16:1::9")
	if out, err := onePass(t, p, s, cloud.Options{}); err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockReplacement {
		t.Errorf("for another address it left %+v (%v)", out.Left, err)
	}
	ask("eip-allocations", "eipalloc-02")
	if out, err := onePass(t, p, s, cloud.Options{}); err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockReplacement {
		t.Errorf("for another elastic address it left %+v (%v)", out.Left, err)
	}
}

// TestAttributesAreRefused: the emulator refuses what AWS does.
func TestAttributesAreRefused(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	s := spec("uid-1", 1)
	s.Annotations = map[string]string{AnnotationPrefix + "attributes": attributeSecondary + "=2"}
	for _, r := range settled(t, p, s.Owner, &s).Observed {
		var err error
		switch r.Name() {
		case "TargetGroup/80":
			err = p.setGroupAttributes(t.Context(), r.ID, map[string]string{attributeDraining: "30"})
		case "TargetGroup/53":
			err = p.setGroupAttributes(t.Context(), r.ID, map[string]string{attributeTerminate: "true"})
		case "LoadBalancer/main":
			err = p.setBalancerAttributes(t.Context(), r.ID, map[string]string{attributeSecondary: "1"})
		default:
			continue
		}
		if codeOf(err) != "InvalidConfigurationRequest" {
			t.Errorf("%s: the answer is %v", r.Name(), err)
		}
	}
}
