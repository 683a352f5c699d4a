package endpointslice

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

var secondary = endpoints.AddressFilter{Allowed: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd00:20::/64")}}

func expression(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

func matchLabels(pairs ...string) metav1.LabelSelector {
	s := metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		s.MatchLabels[pairs[i]] = pairs[i+1]
	}
	return s
}

// newSelector returns an EndpointSelector of Service web.
func newSelector(selector metav1.LabelSelector, change func(*v1alpha1.EndpointSelectorExtension)) *v1alpha1.EndpointSelector {
	es := &v1alpha1.EndpointSelector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       v1alpha1.EndpointSelectorSpec{Selector: selector, Fairlead: v1alpha1.EndpointSelectorExtension{ServiceName: "web"}},
	}
	if change != nil {
		change(&es.Spec.Fairlead)
	}
	return es
}

func onNetwork(name string) func(*v1alpha1.EndpointSelectorExtension) {
	return func(e *v1alpha1.EndpointSelectorExtension) { e.Network = name }
}

func inGroups(groups ...v1alpha1.EndpointGroup) func(*v1alpha1.EndpointSelectorExtension) {
	return func(e *v1alpha1.EndpointSelectorExtension) { e.Groups = groups }
}

// labelled are Pods by name, "app=web,role=active".
func labelled(pods map[string]string) []*corev1.Pod {
	var all []*corev1.Pod
	for name, text := range pods {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{}}}
		for pair := range strings.SplitSeq(text, ",") {
			key, value, _ := strings.Cut(pair, "=")
			pod.Labels[key] = value
		}
		all = append(all, pod)
	}
	return all
}

func TestCompile(t *testing.T) {
	pods := labelled(map[string]string{
		"blue": "app=web,track=blue", "green": "app=web,track=green", "canary": "app=web,track=canary", "db": "app=db,track=blue",
	})
	cases := map[string]struct {
		reason string
		es     *v1alpha1.EndpointSelector
		filter endpoints.AddressFilter
		// want are the Pods that any selector matches, with their ranks.
		want map[string]int
		// refused is the reason, and a word that the message must have.
		refused [2]string
	}{
		"Labels":      {reason: "all have to match", es: newSelector(matchLabels("app", "web", "track", "blue"), nil), want: map[string]int{"blue": 0}},
		"In":          {reason: "what a Service cannot say", es: newSelector(expression("track", "In", "blue", "green"), nil), want: map[string]int{"blue": 0, "green": 0, "db": 0}},
		"NotIn":       {reason: "with labels, both have to match", es: newSelector(metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}, MatchExpressions: expression("track", "NotIn", "canary").MatchExpressions}, nil), want: map[string]int{"blue": 0, "green": 0}},
		"Exists":      {reason: "any value", es: newSelector(expression("track", "Exists"), nil), want: map[string]int{"blue": 0, "green": 0, "canary": 0, "db": 0}},
		"DoesNot":     {reason: "none have it", es: newSelector(expression("track", "DoesNotExist"), nil), want: map[string]int{}},
		"EmptyBase":   {reason: "every Pod by mistake", es: newSelector(metav1.LabelSelector{}, nil), refused: [2]string{v1alpha1.ReasonInvalidSelector, "matchLabels"}},
		"Operator":    {reason: "operators are known", es: newSelector(expression("track", "Near", "blue"), nil), refused: [2]string{v1alpha1.ReasonInvalidSelector, "spec.selector"}},
		"NoValues":    {reason: "In nothing", es: newSelector(expression("track", "In"), nil), refused: [2]string{v1alpha1.ReasonInvalidSelector, "spec.selector"}},
		"BadKey":      {reason: "no label can have it", es: newSelector(expression("a b", "Exists"), nil), refused: [2]string{v1alpha1.ReasonInvalidSelector, "a b"}},
		"BadValue":    {reason: "no label can have it", es: newSelector(matchLabels("app", "a b"), nil), refused: [2]string{v1alpha1.ReasonInvalidSelector, "a b"}},
		"GroupsOrder": {reason: "the first that matches has the Pod", es: newSelector(matchLabels("app", "web"), inGroups(v1alpha1.EndpointGroup{Name: "b", Selector: expression("track", "In", "blue")}, v1alpha1.EndpointGroup{Name: "bg", Selector: expression("track", "In", "green", "blue")})), want: map[string]int{"blue": 0, "green": 1}},
		"GroupRest":   {reason: "an empty one takes what is left of spec.selector", es: newSelector(matchLabels("app", "web"), inGroups(v1alpha1.EndpointGroup{Name: "c", Selector: matchLabels("track", "canary")}, v1alpha1.EndpointGroup{Name: "rest"})), want: map[string]int{"canary": 0, "blue": 1, "green": 1}},
		"BadGroup":    {reason: "the group is named", es: newSelector(matchLabels("app", "web"), inGroups(v1alpha1.EndpointGroup{Name: "x", Selector: expression("track", "Exists", "v")})), refused: [2]string{v1alpha1.ReasonInvalidSelector, "groups[x]"}},
		"NotAllowed":  {reason: "the administrator decides", es: newSelector(matchLabels("app", "web"), onNetwork("fast")), refused: [2]string{v1alpha1.ReasonNetworksNotAllowed, "endpointSelector.allowedCIDRs"}},
		"Allowed":     {reason: "Pods are chosen all the same", es: newSelector(matchLabels("track", "canary"), onNetwork("fast")), filter: secondary, want: map[string]int{"canary": 0}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, refused := compile(tc.es, tc.filter)
			if refused != nil {
				if c != nil || refused.reason != tc.refused[0] || !strings.Contains(refused.message, tc.refused[1]) || strings.Contains(refused.message, "\n") {
					t.Errorf("refused with %q: %s", *refused, tc.reason)
				}
				return
			}
			if tc.refused[0] != "" {
				t.Fatalf("accepted: %s", tc.reason)
			}
			if diff := cmp.Diff(tc.want, ranks(c, pods)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// ranks are those of the Pods that any selector matches.
func ranks(c *choice, pods []*corev1.Pod) map[string]int {
	got := map[string]int{}
	for _, pod := range pods {
		for _, s := range c.selectors() {
			if s.Matches(labelsOf(pod)) {
				got[pod.Name] = c.rank(pod)
			}
		}
	}
	return got
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, ok := l[key]; return v, ok }
func labelsOf(pod *corev1.Pod) labelSet             { return pod.Labels }

func TestFind(t *testing.T) {
	status := `[{"name":"cbr0","ips":["10.244.1.2"],"default":true},
		{"name":"shop/fast","ips":["10.20.0.7","fd00:20::7"]},
		{"name":"other/fast","ips":["10.20.0.8"]},
		{"name":"shop/outside","ips":["192.0.2.1","10.20.0.9"]},
		{"name":"shop/l2"}]`
	cases := map[string]struct {
		reason  string
		network string
		status  string
		want    found
	}{
		"Bare":           {"a bare name is one of this namespace", "fast", status, found{addresses: []string{"10.20.0.7", "fd00:20::7"}, attached: true}},
		"Qualified":      {"the same in full", "shop/fast", status, found{addresses: []string{"10.20.0.7", "fd00:20::7"}, attached: true}},
		"OtherNamespace": {"a network of another namespace is another", "other/fast", status, found{addresses: []string{"10.20.0.8"}, attached: true}},
		"BareEntry":      {"an entry with a bare name", "shop/cbr0", status, found{attached: true, excluded: 1}},
		"BareBoth":       {"both bare", "cbr0", status, found{attached: true, excluded: 1}},
		"Outside":        {"what is allowed is served, the rest counted", "outside", status, found{addresses: []string{"10.20.0.9"}, attached: true, excluded: 1}},
		"NoAddresses":    {"layer 2 alone", "l2", status, found{attached: true}},
		"NotThere":       {"not on it", "slow", status, found{}},
		"NoAnnotation":   {"on no network", "fast", "", found{}},
		"Unreadable":     {"nothing is believed", "fast", "{", found{unreadable: true}},
		"TwoInterfaces": {"the first that may be served", "fast", `[{"name":"shop/fast","ips":["192.0.2.1"]},{"name":"shop/fast","ips":["10.20.0.7"]}]`,
			found{addresses: []string{"10.20.0.7"}, attached: true, excluded: 1}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, refused := compile(newSelector(matchLabels("app", "web"), onNetwork(tc.network)), secondary)
			if refused != nil {
				t.Fatal(*refused)
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", Annotations: map[string]string{endpoints.NetworkStatusAnnotation: tc.status}}}
			got := c.find(pod)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(found{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(got.addresses, c.options().Addresses(pod)); diff != "" {
				t.Errorf("the set gets other addresses: %s", diff)
			}
		})
	}
}

func TestByAge(t *testing.T) {
	at := func(name string, second int, deleted bool) v1alpha1.EndpointSelector {
		es := v1alpha1.EndpointSelector{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(second), 0))}}
		if deleted {
			es.DeletionTimestamp = new(metav1.NewTime(time.Unix(100, 0)))
		}
		return es
	}
	var got []string
	for _, es := range byAge([]v1alpha1.EndpointSelector{at("young", 9, false), at("b", 5, false), at("a", 5, false), at("gone", 1, true), at("old", 2, false)}) {
		got = append(got, es.Name)
	}
	if want := []string{"old", "a", "b", "young"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v: the oldest first, of one second the first by name, none that is going", got, want)
	}
}

func TestJudgeService(t *testing.T) {
	service := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
		change(s)
		return s
	}
	cases := map[string]struct {
		service *corev1.Service
		want    string
	}{
		"Selectorless":     {service(func(*corev1.Service) {}), ""},
		"Missing":          {nil, v1alpha1.ReasonServiceNotFound},
		"Selector":         {service(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a": "b"} }), v1alpha1.ReasonServiceHasSelector},
		"EmptySelector":    {service(func(s *corev1.Service) { s.Spec.Selector = map[string]string{} }), v1alpha1.ReasonServiceHasSelector},
		"ExternalName":     {service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), v1alpha1.ReasonServiceIsExternalName},
		"APIServer":        {service(func(s *corev1.Service) { s.Name = "kubernetes" }), v1alpha1.ReasonServiceReserved},
		"ItsNameElsewhere": {service(func(s *corev1.Service) { s.Name, s.Namespace = "kubernetes", "shop" }), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := ""
			if refused := judgeService(tc.service, "web"); refused != nil {
				got = refused.reason
			}
			if got != tc.want {
				t.Errorf("reason %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzCompile: whatever the API server lets through is read or refused in one line, and a Pod that a group's selector
// matches is matched by spec.selector.
func FuzzCompile(f *testing.F) {
	f.Add("app", "web", "track", "In", "blue,green", "fast")
	f.Add("", "", "a b", "Exists", "", "")
	f.Add("app", "", "app", "DoesNotExist", "", "shop/fast")
	f.Fuzz(func(t *testing.T, key, value, groupKey, operator, values, network string) {
		base := metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
		group := expression(groupKey, metav1.LabelSelectorOperator(operator), strings.Split(values, ",")...)
		es := newSelector(base, inGroups(v1alpha1.EndpointGroup{Name: "g", Selector: group}, v1alpha1.EndpointGroup{Name: "rest"}))
		es.Spec.Fairlead.Network = network
		c, refused := compile(es, secondary)
		if refused != nil {
			if refused.reason == "" || strings.ContainsAny(refused.message, "\n\r") || c != nil {
				t.Errorf("refused with %q", *refused)
			}
			return
		}
		for i, pod := range labelled(map[string]string{"a": fmt.Sprintf("%s=%s", key, value), "b": groupKey + "=" + values, "c": "x=y"}) {
			for rank, s := range c.selectors() {
				if s.Matches(labelsOf(pod)) && (pod.Labels[key] != value || c.rank(pod) > rank) {
					t.Errorf("Pod %d with %v is of group %d by its rank, and matches that of group %d", i, pod.Labels, c.rank(pod), rank)
				}
			}
		}
	})
}
