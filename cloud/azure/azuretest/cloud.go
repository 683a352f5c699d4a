package azuretest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// Subscription and resource groups that exist. Others do not. In OtherGroup there is what MoveAddress brings there.
const (
	Subscription  = "11111111-2222-3333-4444-555555555555"
	ResourceGroup = "cluster"
	OtherGroup    = "addresses"
	Location      = "westeurope"
)

// isGroup reports whether there is a resource group.
func isGroup(name string) bool {
	return strings.EqualFold(name, ResourceGroup) || strings.EqualFold(name, OtherGroup)
}

// Options of a Cloud. The zero value is one that does everything at once and without limits but Azure's own.
type Options struct {
	// Slow is how long a PUT or a DELETE goes on after it was accepted.
	Slow time.Duration
	// ReadLag is how far GET is behind. Writes know what is.
	ReadLag time.Duration
	// Limits of the subscription: what exceeds them is answered with 429, with Retry-After unless NoRetryAfter.
	Limits       cloud.Limits
	NoRetryAfter bool
	// Capitals has ids come back with the resource group in capitals, however it was written, as Azure's do in places.
	Capitals bool
	// MaxRules of a balancer; 0: 250.
	MaxRules int
	// MaxPublicIPs of the subscription; 0: 1000.
	MaxPublicIPs int
	// RulesPerMachine that balancers have for one network interface, all of them together; 0: 300; less: any number.
	RulesPerMachine int
	// MaxSecurityRules of a group; 0: 1000.
	MaxSecurityRules int
}

// Call is one request, as hooks see it.
type Call struct {
	// Method and Type of the resource, such as loadBalancers; of a child both, with a slash between.
	Method, Type string
	// Compute: it is of Microsoft.Compute, rather than of Microsoft.Network.
	Compute bool
	// Name of the resource, or of a child's parent; empty in a list.
	Name string
	// After: it is done, and its answer is on the way.
	After bool
}

// Write reports whether it changes anything.
func (c Call) Write() bool { return c.Method != http.MethodGet }

// Action is the permission that it needs.
func (c Call) Action() string {
	verb := map[string]string{http.MethodGet: "read", http.MethodPut: "write", http.MethodPatch: "write", http.MethodDelete: "delete"}[c.Method]
	namespace := networkNamespace
	if c.Compute {
		namespace = computeNamespace
	}
	return namespace + "/" + c.Type + "/" + verb
}

// Fault makes coming requests fail. Method is that of HTTP and Kind the type of the resource, such as loadBalancers. Late, the
// request is accepted, and its operation fails in the end.
type Fault = faults.Fault[*Refusal]

// Cloud is the network. For several goroutines.
type Cloud struct {
	options Options
	hook    faults.Hook[Call]

	mu          sync.Mutex
	things      map[string]*thing // by path in lower case; replaced, never changed
	working     map[string]bool   // what is Updating or Deleting, by the same
	past        faults.Past[thing]
	operations  map[string]*operation
	faults      faults.Script[*Refusal]
	actions     map[string]bool
	denied      []string
	allowance   faults.Allowance
	version     int
	nextAddress [2]int            // IPv4, IPv6
	given       map[string]string // addresses of machines of scale sets, by id in lower case
}

// New makes a network with nothing in it.
func New(options Options) *Cloud {
	if options.MaxRules == 0 {
		options.MaxRules = 250
	}
	if options.MaxPublicIPs == 0 {
		options.MaxPublicIPs = 1000
	}
	if options.RulesPerMachine == 0 {
		options.RulesPerMachine = 300
	}
	if options.MaxSecurityRules == 0 {
		options.MaxSecurityRules = 1000
	}
	return &Cloud{options: options, things: map[string]*thing{}, working: map[string]bool{}, operations: map[string]*operation{}, actions: map[string]bool{},
		given: map[string]string{}, past: faults.NewPast[thing](options.ReadLag), allowance: faults.NewAllowance(options.Limits)}
}

// SetHook has hook called before and after each request that comes by Transport. Its error is returned to the caller instead
// of the request being done, or instead of its answer. Nil takes it away.
func (c *Cloud) SetHook(hook func(Call) error) { c.hook.Set(hook) }

// Inject adds faults. They strike in the order in which they were added.
func (c *Cloud) Inject(script ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.Add(script...)
}

// Deny takes permissions away, such as Microsoft.Network/publicIPAddresses/write.
func (c *Cloud) Deny(actions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = append(c.denied, actions...)
}

// DenyOther takes permissions away in OtherGroup alone.
func (c *Cloud) DenyOther(actions ...string) {
	for _, action := range actions {
		c.Deny(OtherGroup + " " + action)
	}
}

// Actions are the permissions that were needed so far.
func (c *Cloud) Actions() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]bool{}
	for action := range c.actions {
		all[action] = true
	}
	return all
}

// Transport hands requests of the SDK's client to the network without a socket.
func (c *Cloud) Transport() policy.Transporter { return transport{c} }

type transport struct{ cloud *Cloud }

// Do implements policy.Transporter.
func (t transport) Do(request *http.Request) (*http.Response, error) {
	call := Call{Method: request.Method}
	if p, ok := parsePath(request.URL.Path); ok {
		call.Type, call.Name, call.Compute = p.typ(), p.name, p.compute
	}
	if err := t.cloud.hook.Tell(call); err != nil {
		return nil, err
	}
	recorder := httptest.NewRecorder()
	t.cloud.ServeHTTP(recorder, request)
	call.After = true
	if err := t.cloud.hook.Tell(call); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = request
	return response, nil
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	answer, refusal := c.answer(request)
	if refusal != nil {
		refusal.write(w)
		return
	}
	answer.write(w)
}

func (c *Cloud) answer(request *http.Request) (*answer, *Refusal) {
	if request.Header.Get("Authorization") == "" {
		return nil, refuse(http.StatusUnauthorized, "AuthenticationFailed", "the 'Authorization' header is missing")
	}
	if request.URL.Query().Get("api-version") == "" {
		return nil, refuse(http.StatusBadRequest, "MissingApiVersionParameter", "the api-version query parameter is required")
	}
	if id, ok := operationOf(request.URL.Path); ok && request.Method == http.MethodGet {
		return c.poll(id)
	}
	p, ok := parsePath(request.URL.Path)
	if !ok {
		return nil, refuse(http.StatusNotFound, "InvalidResourceType", "there is nothing at %s", request.URL.Path)
	}
	if !strings.EqualFold(p.subscription, Subscription) {
		return nil, refuse(http.StatusNotFound, "SubscriptionNotFound", "the subscription '%s' could not be found", p.subscription)
	}
	if !isGroup(p.group) {
		return nil, refuse(http.StatusNotFound, "ResourceGroupNotFound", "resource group '%s' could not be found", p.group)
	}
	if c.options.Capitals {
		p.group = strings.ToUpper(p.group)
	}
	call := Call{Method: request.Method, Type: p.typ(), Name: p.name, Compute: p.compute}
	if r := c.permit(call.Action(), "AuthorizationFailed"); r != nil {
		return nil, r
	}
	if strings.EqualFold(p.group, OtherGroup) && slices.Contains(c.denied, OtherGroup+" "+call.Action()) {
		return nil, notAllowed(call.Action(), "AuthorizationFailed")
	}
	if r := c.throttle(call.Write()); r != nil {
		return nil, r
	}
	if f := c.faults.Strike(call.Method, call.Type, faults.Before); f != nil {
		return nil, f.Err
	}
	answer, refusal := c.serve(p, request)
	if refusal == nil {
		if f := c.faults.Strike(call.Method, call.Type, faults.After); f != nil {
			return nil, f.Err
		}
	}
	return answer, refusal
}

// permit notes that an action is done, and refuses what the caller may not do. With c.mu held.
func (c *Cloud) permit(action, code string) *Refusal {
	c.actions[action] = true
	if slices.Contains(c.denied, action) {
		return notAllowed(action, code)
	}
	return nil
}

func notAllowed(action, code string) *Refusal {
	return refuse(http.StatusForbidden, code, "the client does not have authorization to perform action '%s'", action)
}

// linked is permit for what a request refers to.
func (c *Cloud) linked(action string) *Refusal {
	return c.permit(networkNamespace+"/"+action, "LinkedAuthorizationFailed")
}

// path is where a resource is.
type path struct {
	subscription, group, kind, name string
	child, childName                string
	compute                         bool // of Microsoft.Compute, rather than of Microsoft.Network
}

// Namespaces of resources. Of Microsoft.Compute there are only machines of uniform scale sets, whose name is the set's, a slash and a
// number, and the list of their network interfaces.
const (
	networkNamespace = "Microsoft.Network"
	computeNamespace = "Microsoft.Compute"
	scaleSets        = "virtualMachineScaleSets"
	setMachines      = scaleSets + "/virtualMachines"
	setInterfaces    = scaleSets + "/networkInterfaces"
)

// typ is the resource's type without the namespace.
func (p path) typ() string {
	if p.child != "" {
		return p.kind + "/" + p.child
	}
	return p.kind
}

// id of the resource, or of the parent of a child.
func (p path) id() string {
	if set, n, _ := strings.Cut(p.name, "/"); p.compute {
		return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s/%s/virtualMachines/%s", p.subscription, p.group, computeNamespace, scaleSets, set, n)
	}
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s/%s", p.subscription, p.group, networkNamespace, p.kind, p.name)
}

// parsePath reads /subscriptions/S/resourceGroups/G/providers/NAMESPACE/KIND[/NAME[/CHILD/NAME]].
func parsePath(text string) (path, bool) {
	parts := strings.Split(strings.Trim(text, "/"), "/")
	if len(parts) < 7 || len(parts) > 10 || !strings.EqualFold(parts[0], "subscriptions") ||
		!strings.EqualFold(parts[2], "resourceGroups") || !strings.EqualFold(parts[4], "providers") ||
		!strings.EqualFold(parts[5], networkNamespace) && !strings.EqualFold(parts[5], computeNamespace) {
		return path{}, false
	}
	p := path{subscription: parts[1], group: parts[3], kind: parts[6], compute: strings.EqualFold(parts[5], computeNamespace)}
	for _, k := range kinds {
		if strings.EqualFold(k.name, p.kind) && k.compute == p.compute {
			p.kind = k.name
		}
	}
	if len(parts) > 7 {
		p.name = parts[7]
	}
	if p.compute {
		switch {
		case !strings.EqualFold(p.kind, scaleSets):
		case len(parts) == 10 && strings.EqualFold(parts[8], "virtualMachines"):
			p.kind, p.name = setMachines, parts[7]+"/"+parts[9]
			return p, true
		case len(parts) == 9 && strings.EqualFold(parts[8], "networkInterfaces"):
			p.kind, p.name = setInterfaces, parts[7]
			return p, true
		}
		return path{}, false
	}
	if len(parts) == 9 {
		return path{}, false
	}
	if len(parts) == 10 {
		p.child, p.childName = parts[8], parts[9]
	}
	return p, true
}
