package aws

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

var update = flag.Bool("update", false, "write the generated parts of docs/aws.md")

const page = "../../docs/aws.md"

// counted counts calls by action.
type counted struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counted) hook(call awstest.Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !call.After {
		c.calls[call.Action]++
	}
	return nil
}

// take returns what was counted since the last time, in one line, and how many changed something and how many did not.
func (c *counted) take() (text string, writes, reads int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, action := range slices.Sorted(maps.Keys(c.calls)) {
		_, name, _ := strings.Cut(action, ":")
		n := c.calls[action]
		if (awstest.Call{Action: action}).Write() {
			writes += n
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		} else {
			reads += n
		}
	}
	c.calls = map[string]int{}
	return strings.Join(parts, ", "), writes, reads
}

// spec is a Service with a port of TCP and one of UDP, and n nodes.
func spec(uid string, n int) cloud.Spec {
	s := cloud.Spec{Owner: cloud.Owner{ClusterID: "cluster-a", ServiceUID: uid, Namespace: "shop", Name: "cart"}, Families: []cloud.Family{cloud.IPv4},
		Ports: []cloud.Port{
			{Name: "web", Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}},
			{Name: "dns", Protocol: "UDP", Port: 53, NodePort: 30053, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}},
		}}
	for i := range n {
		s.Nodes = append(s.Nodes, cloud.Node{Name: fmt.Sprint("n", i), ProviderID: fmt.Sprintf("aws:///%sa/i-%017d", awstest.Region, i+1)})
	}
	return s
}

// settled passes until nothing is left, without waiting: the emulator does everything at once.
func settled(t *testing.T, p cloud.Provider, owner cloud.Owner, s *cloud.Spec) cloud.Outcome {
	t.Helper()
	var desired []cloud.Resource
	if s != nil {
		var err error
		if desired, err = p.Desired(*s); err != nil {
			t.Fatal(err)
		}
	}
	out, err := cloud.Converge(t.Context(), p, owner, desired, cloud.Options{})
	if err != nil || !out.Left.Empty() {
		t.Fatalf("the pass ended with %v and left %+v", err, out.Left)
	}
	return out
}

// TestCalls keeps the table of calls on the page.
func TestCalls(t *testing.T) {
	server := awstest.New(awstest.Options{Quotas: awstest.Quotas{Balancers: 200}})
	p := testProvider(server, unlimited)
	c := &counted{calls: map[string]int{}}
	server.SetHook(c.hook)
	var b strings.Builder
	b.WriteString("| what | calls that change something | those that only read |\n| --- | --- | --- |\n")
	row := func(what string) (writes int) {
		text, writes, reads := c.take()
		if writes == 0 {
			text = "none"
		}
		fmt.Fprintf(&b, "| %s | %d: %s | %d |\n", what, writes, text, reads)
		return writes
	}
	one := spec("uid-1", 3)
	settled(t, p, one.Owner, &one)
	if writes := row("create a Service with two ports and three nodes"); writes > 10 {
		t.Errorf("creation takes %d calls", writes)
	}
	settled(t, p, one.Owner, &one)
	if writes := row("a pass without a change"); writes > 0 {
		t.Errorf("a pass without a change makes %d", writes)
	}
	var changes []cloud.TargetChange
	for i := range 100 {
		few, more := spec(fmt.Sprint("uid-", 100+i), 3), spec(fmt.Sprint("uid-", 100+i), 4)
		out := settled(t, p, few.Owner, &few)
		desired, err := p.Desired(more)
		if err != nil {
			t.Fatal(err)
		}
		compared, err := cloud.Compare(more.Owner, desired, out.Observed, cloud.Options{})
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, compared.Left.TargetChanges(more.Owner)...)
	}
	c.take()
	if errs := p.SyncTargets(t.Context(), changes); errs != nil {
		t.Fatal(errs)
	}
	if writes := row("a node added, with 100 such Services"); writes != 200 {
		t.Errorf("a node costs %d calls, want one for each target group", writes)
	}
	if _, err := p.List(t.Context(), "cluster-a"); err != nil {
		t.Fatal(err)
	}
	row("look at all 101 Services (start, and every ten minutes)")
	settled(t, p, one.Owner, nil)
	if writes := row("delete the first one"); writes != 6 {
		t.Errorf("deletion takes %d calls", writes)
	}
	named := awstest.New(withNames)
	p = testProvider(named, unlimited)
	named.SetHook(c.hook)
	for _, by := range []struct{ what, subnets, groups string }{{"id", "subnet-01", "sg-01"}, {"name", "zone a=blue", "web"}} {
		s := asking(3, "subnets", by.subnets, "security-groups", by.groups)
		settled(t, p, s.Owner, s)
		row("create one whose subnets and security groups are given by " + by.what)
		settled(t, p, s.Owner, s)
		row("a pass of that one without a change")
		settled(t, p, s.Owner, nil)
		c.take()
	}
	generated(t, "calls", b.String())
}

// generated holds a part of the page to what the tests made.
func generated(t *testing.T, name, text string) {
	t.Helper()
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(have), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s lacks %q", page, begin)
	}
	want := before + begin + text + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	} else if want != string(have) {
		t.Errorf("%s: the part %q is not what the code does: run go test ./cloud/aws -run %s -update", page, name, t.Name())
	}
}

// TestPolicy keeps the least policy on the page: of the actions that the provider's calls need, each of which is made here.
func TestPolicy(t *testing.T) {
	server := awstest.New(withMachines)
	p := testProvider(server, unlimited)
	life(t, server, p)
	elastic := spec("uid-3", 1)
	elastic.Annotations = map[string]string{AnnotationPrefix + "scheme": "internet-facing", AnnotationPrefix + "subnets": "subnet-0a01",
		AnnotationPrefix + "eip-allocations": "eipalloc-01"}
	desired, err := p.Desired(elastic)
	for i := range desired {
		err = errors.Join(err, p.Check(t.Context(), elastic.Owner, desired[i], nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	type statement struct {
		Effect, Resource string
		Action           []string
		Condition        map[string]map[string]string `json:",omitempty"`
	}
	actions := server.Actions()
	linked := slices.Index(actions, "iam:CreateServiceLinkedRole")
	if linked < 0 {
		t.Fatal("the first balancer took no role of ELB")
	}
	role := statement{"Allow", "*", []string{actions[linked]}, map[string]map[string]string{"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}}}
	policy, err := json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{{"Allow", "*", slices.Delete(slices.Clone(actions), linked, linked+1), nil}, role}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range operations(t) {
		if !slices.ContainsFunc(server.Actions(), func(action string) bool { return strings.HasSuffix(action, ":"+operation) }) {
			t.Errorf("the provider can call %s, and the test does not have it do so", operation)
		}
	}
	generated(t, "policy", "```json\n"+string(policy)+"\n```\n")
}

// calling matches what has the SDK do an operation.
var calling = regexp.MustCompile(`p\.elb\.(\w+)\(|NewDescribe(\w+)Paginator|&ec2\.(\w+)Input\{`)

// operations are those of the SDK that the package's code calls.
func operations(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range calling.FindAllStringSubmatch(string(text), -1) {
			name := m[1] + m[3]
			if m[2] != "" {
				name = "Describe" + m[2]
			}
			all = append(all, name)
		}
	}
	if len(all) < 30 {
		t.Fatalf("found only %q", all)
	}
	return all
}

// life makes every kind of call that the provider can make.
func life(t *testing.T, server *awstest.Server, p *Provider) {
	t.Helper()
	begin := server.Snapshot()
	one := spec("uid-1", 3)
	one.Annotations = map[string]string{AnnotationPrefix + "attributes": "load_balancing.cross_zone.enabled=true",
		AnnotationPrefix + "target-group-attributes":             "deregistration_delay.timeout_seconds=30",
		AnnotationPrefix + "minimum-load-balancer-capacity":      "CapacityUnits=3000",
		AnnotationPrefix + "manage-backend-security-group-rules": "true"}
	settled(t, p, one.Owner, &one)
	// Another check, other attributes, TLS, other families, subnets, groups of clients, tags, fewer nodes and ports.
	two := spec("uid-1", 2)
	two.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
	two.LocalOnly = true
	two.Ports = two.Ports[:1]
	two.Ports[0].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	two.Annotations = map[string]string{AnnotationPrefix + "subnets": "subnet-0b01,subnet-0b02", AnnotationPrefix + "listener-attributes.TCP-80": attributeIdle + "=600",
		AnnotationPrefix + "additional-resource-tags": "team=shop"}
	settled(t, p, two.Owner, &two)
	three := two
	three.Annotations = map[string]string{AnnotationPrefix + "subnets": "subnet-0b01,subnet-0b02",
		AnnotationPrefix + "ssl-cert": "arn:aws:acm:eu-north-1:123456789012:certificate/1"}
	settled(t, p, three.Owner, &three)
	several := three
	several.Annotations = over(three.Annotations, map[string]string{AnnotationPrefix + "ssl-cert": certificatesFrom("1", "2", "3")})
	settled(t, p, three.Owner, &several)
	settled(t, p, three.Owner, &three)
	group := settled(t, p, three.Owner, &three).Observed
	given := group[slices.IndexFunc(group, func(r cloud.Resource) bool { return r.Kind == KindSecurityGroup })].ID
	other := spec("uid-2", 1)
	settled(t, p, other.Owner, &other)
	other.Annotations = map[string]string{AnnotationPrefix + "security-groups": given}
	settled(t, p, other.Owner, &other)
	settled(t, p, other.Owner, nil)
	settled(t, p, three.Owner, nil)
	if diff := cmp.Diff(begin, server.Snapshot()); diff != "" {
		t.Errorf("it leaves (-before +after):\n%s", diff)
	}
	// It is looked whether a replacement with an address could be made.
	if err := p.Check(t.Context(), one.Owner, asked(t, p, spec("uid-1", 1), "scheme", "internet-facing", "subnets", "subnet-0a01", "eip-allocations", "eipalloc-01"), nil); err != nil {
		t.Error(err)
	}
	// What somebody made by hand is adopted, and let go.
	id, err := plantBalancer(server, plantFor(one), 1, awstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	desired, err := p.Desired(one)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cloud.Converge(t.Context(), p, one.Owner, desired, cloud.Options{Adopt: id, Granted: true}); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, p, one.Owner, nil)
}

func plantFor(s cloud.Spec) cloudtest.Plant { return cloudtest.Plant{Spec: s} }
