package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// auditPolicy makes the API server note what service accounts ask for.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
`

// auditEvent is the part of an audit event that rights are read from.
type auditEvent struct {
	Verb string
	User struct{ Username string }
	// ObjectRef is nil for requests that are about no object.
	ObjectRef *struct {
		APIGroup, Resource, Subresource, Namespace, Name string
	}
	RequestURI     string
	ResponseStatus struct{ Code int }
	Annotations    map[string]string
}

// asked returns what an account asked for so far.
func asked(t *testing.T, account string) []auditEvent {
	t.Helper()
	file, err := os.Open(suite.audit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var events []auditEvent
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			continue // the API server is still writing the last line
		}
		if event.User.Username == "system:serviceaccount:"+account {
			events = append(events, event)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// refusedOf returns what an account asked for and was refused for want of rights.
func refusedOf(t *testing.T, account string) []string {
	t.Helper()
	var refused []string
	for _, event := range asked(t, account) {
		if event.Annotations["authorization.k8s.io/decision"] == "forbid" {
			refused = append(refused, event.Verb+" "+event.RequestURI)
		}
	}
	slices.Sort(refused)
	return slices.Compact(refused)
}

// unseen are rights that are needed though no request in the audit log shows it.
var unseen = map[string]string{
	"update endpoints/finalizers":                                           "admission asks for it where a slice's owner reference blocks its owner's deletion (OwnerReferencesPermissionEnforcement)",
	"update services/finalizers":                                            "admission asks for it where a slice's owner reference blocks its owner's deletion (OwnerReferencesPermissionEnforcement)",
	"create loadbalancerrecords.fairlead.dev":                               "a record is created by server-side apply, a patch, which asks for both rights",
	"create validatingadmissionpolicies.admissionregistration.k8s.io":       "server-side apply, as above",
	"create validatingadmissionpolicybindings.admissionregistration.k8s.io": "server-side apply, as above",
	"get loadbalancerclasses.fairlead.dev":                                  "orphans are deleted where a class asks for it, after ten minutes of grace",
	"patch loadbalancerclasses.fairlead.dev":                                "what was asked of orphans is taken off the class, as above",
	"get loadbalancerrecords.fairlead.dev":                                  "a record is read past the cache where that shows its Service gone before the record, which two watches may do or not",
	"get validatingadmissionpolicies.admissionregistration.k8s.io":          "what somebody else changed in the policy is put back from what is there",
	"get validatingadmissionpolicybindings.admissionregistration.k8s.io":    "as above",
	"patch pods/status":                                                     "Pods pass their gate where the cloud sends to them, which needs a dataplane: TestPacketsPodTargets",
	"update secrets":                                                        "the certificate of the webhooks is renewed after 60 days",
	"get services":                                                          "one of two Services with one node port, which only a write past the API server can make, is read again before it is moved",
	"patch events":                                                          "an event that is repeated is counted up",
	"patch events.events.k8s.io":                                            "an event that is repeated is counted up",
}

// unusedOf returns what rules allow and an account never asked for, as "verb resource.group".
func unusedOf(t *testing.T, account string, rules []rbacv1.PolicyRule) []string {
	t.Helper()
	used := map[string]bool{}
	for _, event := range asked(t, account) {
		if ref := event.ObjectRef; ref != nil {
			resource := ref.Resource
			if ref.Subresource != "" {
				resource += "/" + ref.Subresource
			}
			used[right(event.Verb, resource, ref.APIGroup)] = true
			if event.Verb == "watch" {
				// Where the server streams the first list too (WatchList), listing is what is fallen back to.
				used[right("list", resource, ref.APIGroup)] = true
			}
		}
	}
	var unused []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if r := right(verb, resource, group); !used[r] && unseen[r] == "" {
						unused = append(unused, r)
					}
				}
			}
		}
	}
	slices.Sort(unused)
	return slices.Compact(unused)
}

func right(verb, resource, group string) string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s.%s", verb, resource, group), ".")
}

// rights wants an account's rights to be enough and, within a few seconds, all used. The audit log is written a moment
// after the answer.
func rights(t *testing.T, account string, rules []rbacv1.PolicyRule) {
	t.Helper()
	if refused := refusedOf(t, account); len(refused) > 0 {
		t.Errorf("%s was refused:\n%s", account, strings.Join(refused, "\n"))
	}
	eventually(t, waitFor, "use of every right of "+account, func() error {
		if unused := unusedOf(t, account, rules); len(unused) > 0 {
			return fmt.Errorf("never used:\n%s", strings.Join(unused, "\n"))
		}
		return nil
	})
}

// TestRights comes last (tests run in the order of files): what the managers of all tests before it were allowed, they
// needed, and nothing that they needed was refused. A right that no test has a use for is one to take away.
func TestRights(t *testing.T) {
	needsAPIServer(t)
	role, election, metrics := &rbacv1.ClusterRole{}, &rbacv1.Role{}, &rbacv1.ClusterRole{}
	hooks, certificate := &rbacv1.ClusterRole{}, &rbacv1.Role{}
	get(t, "", "fairlead-manager", role)
	get(t, "", "fairlead-metrics-auth", metrics)
	get(t, "fairlead-system", "fairlead-manager-leader-election", election)
	get(t, "", "fairlead-manager-webhook", hooks)
	get(t, "fairlead-system", "fairlead-manager-webhook", certificate)
	var rules []rbacv1.PolicyRule
	for _, more := range [][]rbacv1.PolicyRule{role.Rules, metrics.Rules, election.Rules, hooks.Rules, certificate.Rules} {
		rules = append(rules, more...)
	}
	rights(t, "fairlead-system:fairlead-manager", rules)
}
