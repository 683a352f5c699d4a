package cloudproviders

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The world that the balancers stand in: one VPC with two public subnets, a security group of the nodes, four machines.
const (
	region    = "eu-north-1"
	vpc       = "vpc-0001"
	nodeGroup = "sg-nodes"
	cluster   = "blue"
)

var zones = []string{"eu-north-1a", "eu-north-1b"}

var machines = []string{"i-00000000000000001", "i-00000000000000002", "i-00000000000000003", "i-00000000000000004"}

// amazon answers the query APIs of EC2 and Elastic Load Balancing v2 from state that it keeps.
type amazon struct {
	server *httptest.Server

	mu sync.Mutex
	// hook is called before and after each request is done. True: the manager is gone, and what it asked for last is not
	// done any more.
	hook      func(after bool) bool
	actions   []string
	unknown   []string // actions that it cannot answer
	balancers map[string]*loadBalancer
	listeners map[string]*listener
	groups    map[string]*targetGroup
	rules     map[rule]bool // of nodeGroup
}

// rule lets traffic in.
type rule struct{ Protocol, From, To, CIDR, Description string }

// failure is an error of the API.
type failure struct{ code, message string }

func newAmazon(t *testing.T) *amazon {
	a := &amazon{balancers: map[string]*loadBalancer{}, listeners: map[string]*listener{}, groups: map[string]*targetGroup{}, rules: map[rule]bool{}}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	return a
}

// ServeHTTP does one call.
func (a *amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.PostForm.Get("Action")
	if a.call(action, false) {
		panic(http.ErrAbortHandler)
	}
	status, body := a.answer(action, query{r.PostForm})
	a.call(action, true)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (a *amazon) call(action string, after bool) (gone bool) {
	a.mu.Lock()
	hook := a.hook
	if !after {
		a.actions = append(a.actions, action)
	}
	a.mu.Unlock()
	return hook != nil && hook(after)
}

func (a *amazon) answer(action string, q query) (int, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	isEC2 := q.Get("Version") == "2016-11-15"
	known := balancing
	if isEC2 {
		known = compute
	}
	do, ok := known[action]
	if !ok {
		a.unknown = append(a.unknown, action)
		return failed(isEC2, failure{"InvalidAction", action + " is not known here"})
	}
	result, wrong := do(a, q)
	if wrong != nil {
		return failed(isEC2, *wrong)
	}
	body, err := xml.Marshal(result)
	if err != nil {
		panic(err)
	}
	if isEC2 {
		return http.StatusOK, fmt.Appendf(nil, "<%sResponse><requestId>r</requestId>%s</%[1]sResponse>", action, unwrap(body))
	}
	return http.StatusOK, fmt.Appendf(nil, "<%sResponse><%[1]sResult>%s</%[1]sResult></%[1]sResponse>", action, unwrap(body))
}

// unwrap takes the element around an answer away.
func unwrap(body []byte) string {
	text := string(body)
	text = text[strings.Index(text, ">")+1:]
	return text[:strings.LastIndex(text, "<")]
}

func failed(isEC2 bool, f failure) (int, []byte) {
	if isEC2 {
		return http.StatusBadRequest, fmt.Appendf(nil, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors></Response>", f.code, f.message)
	}
	return http.StatusBadRequest, fmt.Appendf(nil, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", f.code, f.message)
}

// query reads parameters.
type query struct{ url.Values }

// list returns the values of prefix + ".member.N" + suffix, or of prefix + ".N" + suffix.
func (q query) list(prefix, suffix string) []string {
	var values []string
	for _, format := range []string{prefix + ".member.%d" + suffix, prefix + ".%d" + suffix} {
		for n := 1; q.Has(fmt.Sprintf(format, n)); n++ {
			values = append(values, q.Get(fmt.Sprintf(format, n)))
		}
	}
	return values
}

func (q query) number(name string) int {
	n, _ := strconv.Atoi(q.Get(name)) // what is not there is 0
	return n
}

// things describes everything that was made, sorted.
func (a *amazon) things() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, b := range a.balancers {
		all = append(all, "balancer "+b.Name)
	}
	for _, l := range a.listeners {
		all = append(all, fmt.Sprintf("listener %s %d to %s", l.Protocol, l.Port, a.groups[l.Actions[0].TargetGroup].Name))
	}
	for _, g := range a.groups {
		all = append(all, fmt.Sprintf("group %s %s %d with %s", g.Name, g.Protocol, g.Port, strings.Join(slices.Sorted(maps.Keys(g.targets)), ",")))
	}
	for r := range a.rules {
		all = append(all, fmt.Sprintf("rule %s %s-%s from %s", r.Protocol, r.From, r.To, r.CIDR))
	}
	slices.Sort(all)
	return all
}

// takeActions returns the calls since the last time, without those that only read.
func (a *amazon) takeActions() (writes []string, reads int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, action := range a.actions {
		if strings.HasPrefix(action, "Describe") {
			reads++
		} else {
			writes = append(writes, action)
		}
	}
	a.actions = nil
	return writes, reads
}

func (a *amazon) setHook(hook func(after bool) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = hook
}
