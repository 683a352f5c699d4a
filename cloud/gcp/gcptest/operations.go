package gcptest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// operation is a change that the service works on.
type operation struct {
	op            *compute.Operation
	object        *object
	scope         string
	visible, done time.Time
	// apply is done in the end, or undo where it fails.
	apply, undo func()
	fails       *Fault
}

// begin answers a change with its operation. With c.mu held.
func (c *Cloud) begin(q *request, o *object, apply, undo func()) *compute.Operation {
	now := time.Now()
	c.serial++
	kind := q.verb
	if kind == "" {
		kind = map[string]string{"POST": "insert", "PATCH": "patch", "DELETE": "delete"}[q.method]
	}
	op := &operation{object: o, scope: q.scope, apply: apply, undo: undo, visible: now.Add(c.options.Slow / 2), done: now.Add(c.options.Slow),
		fails: c.faults.Strike(q.id(), "", faults.Late),
		op: &compute.Operation{Kind: "compute#operation", Name: fmt.Sprintf("operation-%d", c.serial), Id: c.serial, OperationType: kind,
			Status: "PENDING", TargetLink: host + o.path, InsertTime: now.UTC().Format(time.RFC3339), User: "test@" + Project}}
	op.op.SelfLink = host + q.scope + "/operations/" + op.op.Name
	switch scope, name, _ := strings.Cut(q.scope, "/"); scope {
	case "regions":
		op.op.Region = host + "regions/" + name
	case "zones":
		op.op.Zone = host + "zones/" + name
	}
	o.pending = op
	c.operations, c.unfinished = append(c.operations, op), append(c.unfinished, op)
	c.settle(now)
	return op.op
}

// settle does what is due. With c.mu held.
func (c *Cloud) settle(now time.Time) {
	for _, op := range c.unfinished {
		switch {
		case now.Before(op.visible):
		case now.Before(op.done):
			op.op.Status, op.op.Progress = "RUNNING", 50
		default:
			op.op.Status, op.op.Progress, op.op.EndTime = "DONE", 100, now.UTC().Format(time.RFC3339)
			c.note(op.done, op.object.path)
			op.object.pending = nil
			if op.fails == nil {
				op.apply()
				continue
			}
			op.undo()
			op.op.Error = &compute.OperationError{Errors: []*compute.OperationErrorErrors{{Code: op.fails.Err.Reason, Message: op.fails.Err.Message}}}
			op.op.HttpErrorStatusCode, op.op.HttpErrorMessage = int64(op.fails.Err.Status), http.StatusText(op.fails.Err.Status)
		}
	}
	c.unfinished = slices.DeleteFunc(c.unfinished, func(op *operation) bool { return op.op.Status == "DONE" })
}

// doOperations answers questions about operations.
func (c *Cloud) doOperations(q *request) (any, *Refusal) {
	if q.method != http.MethodGet || q.verb != "" {
		return nil, &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "Method not found: " + q.id()}
	}
	if q.name != "" {
		for _, op := range c.operations {
			if op.scope == q.scope && op.op.Name == q.name {
				return op.op, nil
			}
		}
		return nil, notFound(q.path)
	}
	matches, refusal := filterOf(q)
	if refusal != nil {
		return nil, refusal
	}
	byScope := map[string]any{}
	var all []any
	for _, op := range c.operations {
		if c.unreachable[op.scope] || !matches(map[string]any{"status": op.op.Status, "name": op.op.Name, "targetLink": op.op.TargetLink, "operationType": op.op.OperationType}) {
			continue
		}
		if q.scope == "aggregated" {
			list, _ := byScope[op.scope].(map[string]any)
			if list == nil {
				list = map[string]any{"operations": []any{}}
				byScope[op.scope] = list
			}
			list["operations"] = append(list["operations"].([]any), op.op)
		} else if op.scope == q.scope {
			all = append(all, op.op)
		}
	}
	if q.scope == "aggregated" {
		c.warn(byScope)
		return map[string]any{"kind": "compute#operationAggregatedList", "items": byScope}, nil
	}
	return map[string]any{"kind": "compute#operationList", "items": all}, nil
}

// isFilter is what is known here of filters, of their two kinds: with a regular expression, which is not combined with others, and as in AIP-160,
// of which only = and != are used. What : makes of a text is told nowhere, but for :*.
var isFilter = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9.-]*) (eq|ne|=|!=) "([^"]*)"$`)

// patterns of filters, by their text: a test asks for the same few again and again.
var patterns sync.Map

// filterOf reads a filter: a field, an operator and a text in quotation marks. Of eq and ne the text is a regular expression that the
// whole field has to match.
func filterOf(q *request) (func(map[string]any) bool, *Refusal) {
	texts := q.query["filter"]
	if len(texts) == 0 || texts[0] == "" {
		return func(map[string]any) bool { return true }, nil
	}
	text := texts[0]
	parts := isFilter.FindStringSubmatch(text)
	if parts == nil {
		return nil, invalid("Invalid value for field 'filter': '%s'. Invalid list filter expression.", text)
	}
	field, operator, value := parts[1], parts[2], parts[3]
	var pattern *regexp.Regexp
	if known, ok := patterns.Load(value); ok {
		pattern = known.(*regexp.Regexp)
	} else {
		var err error
		if pattern, err = regexp.Compile("^(?:" + value + ")$"); err != nil {
			return nil, invalid("Invalid value for field 'filter': '%s'. Invalid regular expression.", text)
		}
		patterns.Store(value, pattern)
	}
	return func(body map[string]any) bool {
		var text string
		if label, ok := strings.CutPrefix(field, "labels."); ok {
			labels, _ := body["labels"].(map[string]any)
			text, _ = labels[label].(string)
		} else {
			text, _ = body[field].(string)
		}
		switch operator {
		case "eq":
			return pattern.MatchString(text)
		case "ne":
			return !pattern.MatchString(text)
		case "=":
			return text == value
		}
		return text != value
	}, nil
}

// list answers a list, or one over all zones.
func (c *Cloud) list(q *request) (any, *Refusal) {
	matches, refusal := filterOf(q)
	if refusal != nil {
		return nil, refusal
	}
	var found []*object
	objects, when := c.seen()
	for _, o := range objects {
		if o.collection == q.collection && !c.unreachable[o.scope] && (q.scope == "aggregated" || o.scope == q.scope) && !o.hidden(when) && matches(o.body) {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b *object) int { return strings.Compare(a.path, b.path) })
	found, next, refusal := page(q, found)
	if refusal != nil {
		return nil, refusal
	}
	answer := map[string]any{"kind": schemas[q.collection].kind + "List"}
	if next != "" {
		answer["nextPageToken"] = next
	}
	if q.scope != "aggregated" {
		items := []any{}
		for _, o := range found {
			items = append(items, o.body)
		}
		answer["items"] = items
		return answer, nil
	}
	byScope := map[string][]any{}
	for _, o := range found {
		byScope[o.scope] = append(byScope[o.scope], o.body)
	}
	items := map[string]any{"global": map[string]any{"warning": map[string]any{"code": "NO_RESULTS_ON_PAGE"}}}
	for scope, list := range byScope {
		items[scope] = map[string]any{q.collection: list}
	}
	c.warn(items)
	answer["items"] = items
	return answer, nil
}

// warn says in a list over all scopes which were not reached.
func (c *Cloud) warn(items map[string]any) {
	for scope := range c.unreachable {
		items[scope] = map[string]any{"warning": map[string]any{"code": "UNREACHABLE", "message": "The scope '" + scope + "' is currently unreachable."}}
	}
}

// page cuts a list by maxResults and pageToken.
func page[T any](q *request, all []T) (part []T, next string, refusal *Refusal) {
	size, from := 500, 0
	for name, into := range map[string]*int{"maxResults": &size, "pageToken": &from} {
		if texts := q.query[name]; len(texts) > 0 {
			n, err := strconv.Atoi(texts[0])
			if err != nil || n < 0 || name == "maxResults" && n > 500 {
				return nil, "", invalid("Invalid value for field '%s': '%s'.", name, texts[0])
			}
			*into = n
		}
	}
	from = min(from, len(all))
	end := min(from+max(size, 1), len(all))
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[from:end], next, nil
}
