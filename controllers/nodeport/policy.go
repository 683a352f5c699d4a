package nodeport

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/fairlead/fairlead/portalloc"
)

// PolicyName is the name of the ValidatingAdmissionPolicy that stands while a pool says Enforce, and of its binding.
const PolicyName = "fairlead-node-ports"

// policy makes the policy that refuses a Service with node ports that its namespace may not have. It is asked after the
// API server's allocator: what the webhook has not numbered is numbered at random by then, and refused unless it happens
// to fit. What an update leaves as it was passes. nil: no pool says Enforce, or nothing numbers Services.
func (b *Book) policy() *admissionregistrationv1.ValidatingAdmissionPolicySpec {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.enforced() {
		return nil
	}
	return policyOf(b.pools, b.ledger.Shares())
}

// policyOf is given the pools and their shares in the same order, and as the last share what they leave.
func policyOf(pools []pool, shares []portalloc.Share) *admissionregistrationv1.ValidatingAdmissionPolicySpec {
	variable := func(name, expression string) admissionregistrationv1.Variable {
		return admissionregistrationv1.Variable{Name: name, Expression: expression}
	}
	var drawn, none []string
	variables := []admissionregistrationv1.Variable{
		variable("labels", "has(namespaceObject.metadata.labels) ? namespaceObject.metadata.labels : {}"),
	}
	for i, p := range pools {
		name := fmt.Sprint("pool", i)
		variables = append(variables, variable(name, selects(p.selector)))
		drawn = append(drawn, fmt.Sprintf("(variables.%s ? %s : [])", name, list(shares[i].Ranges)))
		none = append(none, "!variables."+name)
	}
	drawn = append(drawn, fmt.Sprintf("(%s ? %s : [])", strings.Join(none, " && "), list(shares[len(pools)].Ranges)))
	variables = append(variables,
		variable("ranges", strings.Join(drawn, " + ")),
		variable("given", "(has(object.spec.ports) ? object.spec.ports.filter(p, has(p.nodePort)).map(p, p.nodePort) : []) + "+
			"(has(object.spec.healthCheckNodePort) ? [object.spec.healthCheckNodePort] : [])"),
		variable("had", "oldObject == null ? [] : (has(oldObject.spec.ports) ? oldObject.spec.ports.filter(p, has(p.nodePort)).map(p, p.nodePort) : []) + "+
			"(has(oldObject.spec.healthCheckNodePort) ? [oldObject.spec.healthCheckNodePort] : [])"),
		variable("text", "size(variables.ranges) == 0 ? 'none' : variables.ranges.map(r, string(r[0]) + '-' + string(r[1])).join(', ')"),
	)
	const outside = "the NodePortPools are enforced, and this namespace may not have these node ports: choose others, or none, and try again " +
		"when Fairlead's webhook answers; the ranges of the namespace are: "
	return &admissionregistrationv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: new(admissionregistrationv1.Fail),
		MatchConstraints: &admissionregistrationv1.MatchResources{
			ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"services"}}}}},
		},
		MatchConditions: []admissionregistrationv1.MatchCondition{
			{Name: "has-node-ports", Expression: "object.spec.type in ['NodePort', 'LoadBalancer']"},
			{Name: "stays", Expression: "!has(object.metadata.deletionTimestamp)"},
		},
		Variables: variables,
		Validations: []admissionregistrationv1.Validation{{
			Expression:        "variables.given.all(p, p == 0 || p in variables.had || variables.ranges.exists(r, r[0] <= p && p <= r[1]))",
			MessageExpression: strconv.Quote(outside) + " + variables.text",
		}},
	}
}

// binding has the policy refuse everywhere.
func binding() admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec {
	return admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: PolicyName,
		ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}
}

// list is the ranges as a list of pairs.
func list(ranges portalloc.Ranges) string {
	pairs := make([]string, len(ranges))
	for i, r := range ranges {
		pairs[i] = fmt.Sprintf("[%d, %d]", r.First, r.Last)
	}
	return "[" + strings.Join(pairs, ", ") + "]"
}

// selects is a selector as an expression over variables.labels. Keys and values of labels need no escapes but quotes.
func selects(selector labels.Selector) string {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return "false"
	}
	terms := []string{"true"}
	for _, r := range requirements {
		has := strconv.Quote(r.Key()) + " in variables.labels"
		quoted := r.Values().List()
		for i, value := range quoted {
			quoted[i] = strconv.Quote(value)
		}
		in := fmt.Sprintf("%s && variables.labels[%s] in [%s]", has, strconv.Quote(r.Key()), strings.Join(quoted, ", "))
		switch r.Operator() {
		case selection.Exists:
			terms = append(terms, "("+has+")")
		case selection.DoesNotExist:
			terms = append(terms, "!("+has+")")
		case selection.NotIn, selection.NotEquals:
			terms = append(terms, "!("+in+")")
		default: // In, Equals
			terms = append(terms, "("+in+")")
		}
	}
	if len(terms) > 1 {
		terms = terms[1:]
	}
	slices.Sort(terms)
	return strings.Join(terms, " && ")
}
