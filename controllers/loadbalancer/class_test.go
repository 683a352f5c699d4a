package loadbalancer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

func azureClass(p v1alpha1.AzureParameters) v1alpha1.LoadBalancerClassSpec {
	return v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "azure", Parameters: &v1alpha1.Parameters{Azure: &p}}
}

func TestClassesAreValidated(t *testing.T) {
	c := apiserver.New(t)
	cases := map[string]struct {
		reason string
		spec   v1alpha1.LoadBalancerClassSpec
		change func(*v1alpha1.LoadBalancerClassSpec)
		want   string // part of the refusal; empty: accepted
	}{
		"Fits": {reason: "the member of the provider", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "service.k8s.aws/nlb",
			Provider: "fake", Parameters: &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{Pool: "a"}}}},
		"Custom": {reason: "a plugin's parameters are custom", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a",
			Provider: "haproxy", Parameters: &v1alpha1.Parameters{Custom: map[string]string{"a": "b"}}}},
		"WrongMember": {reason: "another provider's parameters", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a",
			Provider: "fake", Parameters: &v1alpha1.Parameters{AWS: &v1alpha1.AWSParameters{}}}, want: "parameters must hold the member"},
		"CustomForKnown": {reason: "fake has parameters of its own", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a",
			Provider: "fake", Parameters: &v1alpha1.Parameters{Custom: map[string]string{"a": "b"}}}, want: "parameters must hold the member"},
		"TwoMembers": {reason: "one member only", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake",
			Parameters: &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{}, GCP: &v1alpha1.GCPParameters{}}}, want: "at most 1"},
		"ClassName": {reason: "what a Service could not name", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a b", Provider: "fake"},
			want: "spec.className"},
		"Policy": {reason: "one of three", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake", Policy: "Maybe"},
			want: "Unsupported value"},
		"Targets": {reason: "one of two", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake", Targets: "Machines"},
			want: "Unsupported value"},
		"TargetsChange": {reason: "mutable: the address stays", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake"},
			change: func(s *v1alpha1.LoadBalancerClassSpec) { s.Targets = v1alpha1.TargetsPods }},
		"ProviderChanges": {reason: "immutable", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake"},
			change: func(s *v1alpha1.LoadBalancerClassSpec) { s.Provider = "aws" }, want: "provider is immutable"},
		"ClassNameChanges": {reason: "immutable", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake"},
			change: func(s *v1alpha1.LoadBalancerClassSpec) { s.ClassName = "b" }, want: "className is immutable"},
		"AzureFits": {reason: "a value may have =, and 120 seconds are none too many", spec: azureClass(v1alpha1.AzureParameters{
			Tags: map[string]string{"a": "b=c"}, HealthProbe: &v1alpha1.AzureHealthProbe{IntervalSeconds: 60, Threshold: 2}})},
		"AzureOneTime": {reason: "the other one is the provider's", spec: azureClass(v1alpha1.AzureParameters{
			HealthProbe: &v1alpha1.AzureHealthProbe{IntervalSeconds: 30}})},
		"AzureTimes": {reason: "Azure has no more than 120 seconds", spec: azureClass(v1alpha1.AzureParameters{
			HealthProbe: &v1alpha1.AzureHealthProbe{IntervalSeconds: 60, Threshold: 3}}), want: "120 at most"},
		"AzureTagName": {reason: "tags are joined by commas", spec: azureClass(v1alpha1.AzureParameters{Tags: map[string]string{"a,b": "c"}}), want: "no comma"},
		"AzureTagSign": {reason: "and cut at =", spec: azureClass(v1alpha1.AzureParameters{Tags: map[string]string{"a=b": "c"}}), want: "no comma"},
		"PolicyChanges": {reason: "mutable", spec: v1alpha1.LoadBalancerClassSpec{ClassName: "a", Provider: "fake"},
			change: func(s *v1alpha1.LoadBalancerClassSpec) { s.Policy = v1alpha1.PolicyRetain }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "cel-"}, Spec: tc.spec}
			err := c.Create(t.Context(), class)
			if err == nil {
				t.Cleanup(func() { _ = c.Delete(context.Background(), class) })
				if s := class.Spec; s.NodePorts != v1alpha1.NodePortsNone || s.Targets != v1alpha1.TargetsNodes || s.Replacement != v1alpha1.ReplacementNever || s.Policy == "" {
					t.Errorf("defaults are missing: %+v", s)
				}
			}
			if err == nil && tc.change != nil {
				tc.change(&class.Spec)
				err = c.Update(t.Context(), class)
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestClassCondition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	accepted := func(class *v1alpha1.LoadBalancerClass, want string) {
		t.Helper()
		w.Eventually(func() error {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(class), class))
			c := meta.FindStatusCondition(class.Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || c.Reason != want {
				return fmt.Errorf("the condition is %+v, want %s", c, want)
			}
			return nil
		})
	}
	add := func(name string, spec v1alpha1.LoadBalancerClassSpec) *v1alpha1.LoadBalancerClass {
		class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-" + name}, Spec: spec}
		w.mine(class)
		w.Make(class)
		t.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), class))) })
		return class
	}
	accepted(w.class, v1alpha1.ReasonAccepted)
	accepted(add("unknown", v1alpha1.LoadBalancerClassSpec{ClassName: w.Namespace + "-x", Provider: "nobody"}), v1alpha1.ReasonProviderUnknown)
	accepted(add("lazy", v1alpha1.LoadBalancerClassSpec{ClassName: w.Namespace + "-y", Provider: lazy}), v1alpha1.ReasonProviderNotStarted)
	for pool, want := range map[string]string{"six": v1alpha1.ReasonAccepted, "default": v1alpha1.ReasonAccepted, "nowhere": v1alpha1.ReasonInvalidParameters} {
		accepted(add(pool, v1alpha1.LoadBalancerClassSpec{ClassName: w.Namespace + "-" + pool, Provider: fake.Name,
			Parameters: &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{Pool: pool}}}), want)
	}
	twin := add("z", v1alpha1.LoadBalancerClassSpec{ClassName: w.class.Spec.ClassName, Provider: "fake"})
	accepted(twin, v1alpha1.ReasonDuplicate)
}

// TestParametersAreRead: those of a class are read whichever protocol the provider names first, and whatever it sends to.
func TestParametersAreRead(t *testing.T) {
	for name, protocols := range map[string][]string{"TCPFirst": {"TCP", "UDP"}, "UDPFirst": {"UDP", "TCP"}, "UDPOnly": {"UDP"}} {
		p := fake.NewProvider(fake.New(fake.Options{Pools: pools}), func(caps *cloud.Capabilities) { caps.Protocols = protocols })
		for parameters, sound := range map[*v1alpha1.Parameters]bool{
			{Fake: &v1alpha1.FakeParameters{Pool: "default"}}: true,
			{Custom: map[string]string{"poool": "default"}}:   false,
		} {
			for _, targets := range []v1alpha1.Targets{v1alpha1.TargetsNodes, v1alpha1.TargetsPods} {
				wrong, err := mistaken(t.Context(), p, &v1alpha1.LoadBalancerClassSpec{Targets: targets, Parameters: parameters})
				if wrong != nil || (err == nil) != sound {
					t.Errorf("%s, targets %s, sound %t: %v, %v", name, targets, sound, wrong, err)
				}
			}
		}
	}
}
