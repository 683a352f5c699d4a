package gcptest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"
)

// object is a thing in the project.
type object struct {
	path       string // below the project
	collection string
	scope      string
	name       string
	body       map[string]any
	instances  map[string]bool // of an endpoint group
	pending    *operation      // that works on it
	given      bool            // it was there before
}

// hidden reports whether at that time it was being made and could not be seen yet.
func (o *object) hidden(at time.Time) bool {
	return o.pending != nil && o.pending.op.OperationType == "insert" && at.Before(o.pending.visible)
}

// note keeps what is at a path for lists that lag, before it is changed.
func (c *Cloud) note(at time.Time, path string) {
	if c.options.ReadLag == 0 {
		return
	}
	was := c.objects[path]
	if was != nil {
		o := *was
		o.body, o.instances = clone(was.body), maps.Clone(was.instances)
		was = &o
	}
	c.past.Note(at, path, was)
}

// seen returns what lists show, and the time from which that is.
func (c *Cloud) seen() (map[string]*object, time.Time) {
	now := time.Now()
	return c.past.Seen(now, c.objects), now.Add(-c.options.ReadLag)
}

// schema is what the service knows of a collection.
type schema struct {
	scope string // global, regions, zones
	kind  string
	given bool // it can be looked at alone
	make  func() any
	// check completes what is to be stored, or refuses it. Old is what was there; nil: it is made.
	check func(c *Cloud, path string, typed any, old map[string]any) *Refusal
	// mutable members, by patch; nil: there is no patch.
	mutable []string
	// fingerprint: a patch needs it.
	fingerprint bool
	labels      bool
	quota       string
}

// serves reports whether the collection is where the request looks for it: in its scope, or listed over all zones.
func (s *schema) serves(q *request) bool {
	kind, _, _ := strings.Cut(q.scope, "/")
	return kind == s.scope || kind == "aggregated" && s.scope == "zones" && q.name == "" && q.method == http.MethodGet
}

// schemas by collection. Health checks exist in regions and globally; balancers of other controllers use the latter.
var schemas map[string]*schema

func init() {
	schemas = map[string]*schema{
		"networks":              {scope: "global", kind: "compute#network", given: true},
		"subnetworks":           {scope: "regions", kind: "compute#subnetwork", given: true},
		"instanceGroups":        {scope: "zones", kind: "compute#instanceGroup", given: true},
		"instanceGroupManagers": {scope: "zones", kind: "compute#instanceGroupManager", given: true},
		"addresses": {scope: "regions", kind: "compute#address", make: func() any { return &compute.Address{} },
			check: checkAddress, labels: true, quota: "STATIC_ADDRESSES"},
		"healthChecks": {scope: "regions", kind: "compute#healthCheck", make: func() any { return &compute.HealthCheck{} }, check: checkHealthCheck,
			mutable: []string{"description", "checkIntervalSec", "timeoutSec", "healthyThreshold", "unhealthyThreshold", "type", "httpHealthCheck", "tcpHealthCheck"},
			quota:   "HEALTH_CHECKS"},
		"networkEndpointGroups": {scope: "zones", kind: "compute#networkEndpointGroup", make: func() any { return &compute.NetworkEndpointGroup{} },
			check: checkEndpointGroup, quota: "NETWORK_ENDPOINT_GROUPS"},
		"backendServices": {scope: "regions", kind: "compute#backendService", make: func() any { return &compute.BackendService{} }, check: checkBackendService,
			mutable: []string{"description", "backends", "healthChecks", "sessionAffinity", "localityLbPolicy", "connectionDraining", "connectionTrackingPolicy"},
			quota:   "BACKEND_SERVICES", fingerprint: true},
		"forwardingRules": {scope: "regions", kind: "compute#forwardingRule", make: func() any { return &compute.ForwardingRule{} }, check: checkRule,
			mutable: []string{"allowGlobalAccess"}, labels: true, quota: "FORWARDING_RULES"},
		"firewalls": {scope: "global", kind: "compute#firewall", make: func() any { return &compute.Firewall{} }, check: checkFirewall,
			mutable: []string{"description", "allowed", "denied", "sourceRanges", "destinationRanges", "targetTags", "disabled", "priority",
				"sourceTags", "sourceServiceAccounts", "targetServiceAccounts"}, quota: "FIREWALLS"},
	}
}

var (
	isName  = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString
	isLabel = regexp.MustCompile(`^[a-z0-9_-]{0,63}$`).MatchString
)

const maxLabels, maxDescription = 64, 2048

// give puts something there as if it had always been. With c.mu held, or before anybody else has c.
func (c *Cloud) give(path string, body map[string]any) {
	i := strings.LastIndexByte(path, '/')
	scope, collection, _ := cutLast(path[:i])
	o := &object{path: path, scope: scope, collection: collection, name: path[i+1:], body: body, given: true}
	c.complete(o)
	c.objects[path] = o
}

func cutLast(path string) (before, after string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

const host = "https://www.googleapis.com" + BasePath + "projects/" + Project + "/"

// complete fills in what the service does.
func (c *Cloud) complete(o *object) {
	c.serial++
	o.body["name"], o.body["id"], o.body["selfLink"] = o.name, fmt.Sprint(c.serial+1000), host+o.path
	o.body["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	if s := schemas[o.collection]; s != nil {
		o.body["kind"] = s.kind
	}
	switch kind, name, _ := strings.Cut(o.scope, "/"); kind {
	case "regions":
		o.body["region"] = host + "regions/" + name
	case "zones":
		o.body["zone"] = host + "zones/" + name
	}
	c.fingerprint(o)
}

// fingerprint gives it new ones.
func (c *Cloud) fingerprint(o *object) {
	c.serial++
	s := schemas[o.collection]
	if s != nil && s.labels {
		o.body["labelFingerprint"] = fmt.Sprintf("l%dw=", c.serial)
	}
	if s != nil && s.fingerprint {
		o.body["fingerprint"] = fmt.Sprintf("f%dw=", c.serial)
	}
}

func (c *Cloud) insert(q *request, s *schema) (any, *Refusal) {
	typed := s.make()
	if refusal := strict(q.body, typed); refusal != nil {
		return nil, refusal
	}
	given := plain(typed)
	name, _ := given["name"].(string)
	if !isName(name) {
		return nil, invalidField("name", name, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'")
	}
	path := q.path + "/" + name
	if c.objects[path] != nil {
		return nil, &Refusal{Status: http.StatusConflict, Reason: "alreadyExists", Message: fmt.Sprintf("The resource 'projects/%s/%s' already exists", Project, path)}
	}
	if refusal := checkMeta(given, s); refusal != nil {
		return nil, refusal
	}
	if refusal := s.check(c, path, typed, nil); refusal != nil {
		return nil, refusal
	}
	made := plain(typed)
	delete(made, "labels") // only setLabels sets them (kubernetes/kops#15709, kubernetes-sigs/cluster-api-provider-gcp#1276)
	if limit, ok := c.options.Quotas[s.quota]; ok && c.count(q.collection) >= limit {
		return nil, &Refusal{Status: http.StatusForbidden, Reason: "quotaExceeded",
			Message: fmt.Sprintf("Quota '%s' exceeded.  Limit: %d.0 in region %s.", s.quota, limit, Region)}
	}
	o := &object{path: path, scope: q.scope, collection: q.collection, name: name, body: made, instances: map[string]bool{}}
	c.complete(o)
	c.note(time.Now(), path)
	c.objects[path] = o
	return c.begin(q, o, func() {}, func() { delete(c.objects, path) }), nil
}

func checkMeta(given map[string]any, s *schema) *Refusal {
	if text, _ := given["description"].(string); len(text) > maxDescription {
		return invalidField("description", text[:20]+"…", "Must be at most %d characters long.", maxDescription)
	}
	labels, _ := given["labels"].(map[string]any)
	if len(labels) > 0 && !s.labels {
		return invalid("Unknown field 'labels'.")
	}
	return checkLabels(labels)
}

func checkLabels(labels map[string]any) *Refusal {
	if len(labels) > maxLabels {
		return invalid("Too many labels: at most %d.", maxLabels)
	}
	for key, value := range labels {
		text, _ := value.(string)
		if !isLabel(text) || !isLabel(key) || key == "" || key[0] < 'a' || key[0] > 'z' {
			return invalidField("labels", key+"="+text, "Label keys and values must be at most 63 lower-case letters, digits, dashes and underscores.")
		}
	}
	return nil
}

func (c *Cloud) count(collection string) int {
	n := 0
	for _, o := range c.objects {
		if o.collection == collection && !o.given {
			n++
		}
	}
	return n
}

// clone is a deep copy.
func clone(body map[string]any) map[string]any { return plain(body) }

// merge is a JSON merge patch.
func merge(into, patch map[string]any) {
	for name, value := range patch {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[name].(map[string]any)
		switch {
		case value == nil:
			delete(into, name)
		case isMap && wasMap:
			merge(old, inner)
		default:
			into[name] = value
		}
	}
}

func (c *Cloud) patch(q *request, s *schema) (any, *Refusal) {
	o, refusal := c.ready(q.path)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := strict(q.body, s.make()); refusal != nil {
		return nil, refusal
	}
	var patch map[string]any
	if err := json.Unmarshal(q.body, &patch); err != nil {
		return nil, invalid("Invalid JSON payload received.")
	}
	if s.fingerprint && patch["fingerprint"] != o.body["fingerprint"] {
		return nil, conditionNotMet("Supplied")
	}
	body := clone(o.body)
	merge(body, patch)
	for name := range patch {
		if name != "fingerprint" && !slices.Contains(s.mutable, name) && !reflect.DeepEqual(body[name], o.body[name]) {
			return nil, invalidField(name, fmt.Sprint(patch[name]), "The field cannot be changed.")
		}
	}
	typed := s.make()
	text, _ := json.Marshal(body)
	if refusal := strict(text, typed); refusal != nil {
		return nil, refusal
	}
	if refusal := checkMeta(body, s); refusal != nil {
		return nil, refusal
	}
	if refusal := s.check(c, o.path, typed, o.body); refusal != nil {
		return nil, refusal
	}
	changed := plain(typed)
	return c.begin(q, o, func() {
		o.body = changed
		c.fingerprint(o)
	}, func() {}), nil
}

func (c *Cloud) setLabels(q *request) (any, *Refusal) {
	o, refusal := c.ready(q.path)
	if refusal != nil {
		return nil, refusal
	}
	var body compute.RegionSetLabelsRequest
	if refusal := strict(q.body, &body); refusal != nil {
		return nil, refusal
	}
	if body.LabelFingerprint != o.body["labelFingerprint"] {
		return nil, conditionNotMet("Labels")
	}
	labels := map[string]any{}
	for key, value := range body.Labels {
		labels[key] = value
	}
	if refusal := checkLabels(labels); refusal != nil {
		return nil, refusal
	}
	return c.begin(q, o, func() {
		o.body["labels"] = labels
		if len(labels) == 0 {
			delete(o.body, "labels")
		}
		c.fingerprint(o)
	}, func() {}), nil
}

func (c *Cloud) delete(q *request, _ *schema) (any, *Refusal) {
	o, refusal := c.ready(q.path)
	if refusal != nil {
		return nil, refusal
	}
	if user := c.userOf(o); user != "" {
		return nil, inUse(o.path, user)
	}
	return c.begin(q, o, func() { delete(c.objects, o.path) }, func() {}), nil
}

// userOf returns what uses an object; empty: nothing does.
func (c *Cloud) userOf(o *object) string {
	for _, path := range slices.Sorted(maps.Keys(c.objects)) {
		other := c.objects[path]
		for _, link := range links(other) {
			if below(link) == o.path {
				return path
			}
		}
		if o.collection == "addresses" && other.collection == "forwardingRules" && sameAddress(other.body["IPAddress"], o.body["address"]) {
			return path
		}
	}
	return ""
}

// links that an object has to others.
func links(o *object) []string {
	var all []string
	add := func(value any) {
		if text, ok := value.(string); ok {
			all = append(all, text)
		}
	}
	add(o.body["backendService"])
	checks, _ := o.body["healthChecks"].([]any)
	for _, check := range checks {
		add(check)
	}
	policies, _ := o.body["autoHealingPolicies"].([]any)
	for _, p := range policies {
		if policy, ok := p.(map[string]any); ok {
			add(policy["healthCheck"])
		}
	}
	backends, _ := o.body["backends"].([]any)
	for _, b := range backends {
		if backend, ok := b.(map[string]any); ok {
			add(backend["group"])
		}
	}
	return all
}

// below is the part of a link below the project; empty where it is no link into it.
func below(link string) string {
	_, path, ok := strings.Cut(link, "projects/"+Project+"/")
	if !ok {
		return ""
	}
	return path
}

func sameAddress(a, b any) bool {
	x, _ := a.(string)
	y, _ := b.(string)
	return x != "" && longForm(x) == longForm(y)
}
