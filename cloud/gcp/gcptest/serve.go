package gcptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// request is a call that was taken apart.
type request struct {
	method     string // of HTTP
	path       string // of the collection, or of one thing in it, below the project
	scope      string // global, regions/R, zones/Z
	collection string
	name       string // empty: the collection
	verb       string // setLabels and so on
	query      map[string][]string
	body       []byte
}

// writes reports whether a request changes anything.
func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/listNetworkEndpoints")
}

// id is the API's name of the method, as in compute.forwardingRules.insert.
func (r *request) id() string {
	collection := r.collection
	if strings.HasPrefix(r.scope, "regions/") && (collection == "backendServices" || collection == "healthChecks" || collection == "operations") {
		collection = "region" + strings.ToUpper(collection[:1]) + collection[1:]
	}
	verb := r.verb
	if verb == "" {
		verb = map[string]string{"GET": "get", "POST": "insert", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[r.method]
		if r.name == "" && r.method == http.MethodGet {
			verb = "list"
		}
	}
	return "compute." + collection + "." + verb
}

// parse takes a path such as projects/P/regions/R/forwardingRules/NAME/setLabels apart.
func parse(r *http.Request) (*request, *Refusal) {
	unknown := &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "The requested URL " + r.URL.Path + " was not found on this server."}
	rest, ok := strings.CutPrefix(r.URL.Path, BasePath+"projects/")
	project, rest, more := strings.Cut(rest, "/")
	if !ok || !more {
		return nil, unknown
	}
	if project != Project {
		return nil, &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "The resource 'projects/" + project + "' was not found"}
	}
	parts := strings.Split(rest, "/")
	q := &request{method: r.Method, query: r.URL.Query()}
	switch parts[0] {
	case "global", "aggregated":
		q.scope, parts = parts[0], parts[1:]
	case "regions", "zones":
		if len(parts) < 3 {
			return nil, unknown
		}
		q.scope, parts = parts[0]+"/"+parts[1], parts[2:]
		if q.scope != "regions/"+Region && !strings.HasPrefix(q.scope, "zones/"+Region+"-") {
			return nil, invalid("Invalid value for field '%s': Unknown %s.", strings.TrimSuffix(parts[0], "s"), q.scope)
		}
	default:
		return nil, unknown
	}
	if len(parts) == 0 || len(parts) > 3 {
		return nil, unknown
	}
	q.collection = parts[0]
	q.path = q.scope + "/" + q.collection
	if len(parts) > 1 {
		q.name = parts[1]
		q.path += "/" + q.name
	}
	if len(parts) > 2 {
		q.verb = parts[2]
	}
	var err error
	if q.body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, 1<<20)); r.Body != nil && err != nil {
		return nil, invalid("Request body too large or unreadable.")
	}
	return q, nil
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	q, refusal := parse(r)
	var answer any
	if refusal == nil {
		c.mu.Lock()
		answer, refusal = c.do(q, writes(r))
		var buffer bytes.Buffer
		if refusal == nil {
			if err := json.NewEncoder(&buffer).Encode(answer); err != nil {
				refusal = &Refusal{Status: http.StatusInternalServerError, Reason: "backendError", Message: err.Error()}
			}
		}
		c.mu.Unlock()
		if refusal == nil {
			w.Header().Set("Content-Type", "application/json; charset=UTF-8")
			_, _ = w.Write(buffer.Bytes())
			return
		}
	}
	refusal.send(w)
}

// do does one call. With c.mu held.
func (c *Cloud) do(q *request, write bool) (any, *Refusal) {
	now := time.Now()
	c.settle(now)
	if c.allowance.Take(now, write) > 0 {
		return nil, Throttled(c.options.RetryAfter)
	}
	if c.unreachable[q.scope] {
		return nil, &Refusal{Status: http.StatusServiceUnavailable, Reason: "backendError", Message: "Backend Error"}
	}
	if refusal := c.allow(q); refusal != nil {
		return nil, refusal
	}
	if write {
		if f := c.faults.Strike(q.id(), "", faults.Before); f != nil {
			return nil, f.Err
		}
	}
	if q.collection == "operations" {
		return c.doOperations(q)
	}
	s := schemas[q.collection]
	if s == nil || !s.serves(q) {
		return nil, &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "The requested URL was not found on this server."}
	}
	switch {
	case q.method == http.MethodGet && q.name == "":
		return c.list(q)
	case q.method == http.MethodGet && q.verb == "":
		o, refusal := c.at(q.path)
		if refusal != nil {
			return nil, refusal
		}
		return o.body, nil
	case s.given:
	case q.method == http.MethodPost && q.name == "":
		return c.insert(q, s)
	case q.method == http.MethodPatch && q.name != "" && q.verb == "":
		return c.patch(q, s)
	case q.method == http.MethodDelete && q.name != "" && q.verb == "":
		return c.delete(q, s)
	case q.method == http.MethodPost && q.verb == "setLabels" && s.labels:
		return c.setLabels(q)
	case q.method == http.MethodPost && strings.HasSuffix(q.verb, "NetworkEndpoints") && q.collection == "networkEndpointGroups":
		return c.networkEndpoints(q)
	}
	return nil, &Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: fmt.Sprintf("Method not found: %s %s", q.method, q.id())}
}

// at returns what is at a path and can be seen.
func (c *Cloud) at(path string) (*object, *Refusal) { return visible(c.objects, path, time.Now()) }

func visible(objects map[string]*object, path string, when time.Time) (*object, *Refusal) {
	o := objects[path]
	if o == nil || o.hidden(when) {
		return nil, notFound(path)
	}
	return o, nil
}

// ready returns what is at a path and can be used or changed.
func (c *Cloud) ready(path string) (*object, *Refusal) {
	o, refusal := c.at(path)
	if refusal == nil && o.pending != nil {
		return nil, notReady(path)
	}
	return o, refusal
}

// strict reads a body of the service's schema: a field that it does not have is refused.
func strict(body []byte, into any) *Refusal {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return &Refusal{Status: http.StatusBadRequest, Reason: "badRequest", Message: "Invalid JSON payload received. " + err.Error()}
	}
	return nil
}

// plain is what has the service's schema as it is stored.
func plain(typed any) map[string]any {
	text, err := json.Marshal(typed)
	if err != nil {
		panic(err) // it came as JSON
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	return m
}
