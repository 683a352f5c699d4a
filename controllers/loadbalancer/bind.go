package loadbalancer

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// binding says who serves a Service.
type binding struct {
	// className is the name of the LoadBalancerClass; empty: the manager's configuration.
	className string
	// class is nil where the configuration serves the Service, or the class is gone.
	class    *v1alpha1.LoadBalancerClassSpec
	provider string
	// policy in force, as far as it is known.
	policy v1alpha1.Policy
	// refusal says why the class cannot be used; empty: it can.
	refusal string
	// releaseOnly: the Service is nobody's any more, and what it had from us is to go.
	releaseOnly bool
}

// bind decides who serves a Service; nil means that it is not ours. In order:
//
//  1. Who serves it already, by its record, goes on: another class that becomes the default changes nothing, and a
//     class that is gone leaves the balancer as it is.
//  2. The class that the Service names.
//  3. The default class.
//  4. The configuration's provider.
//
// In coexist mode another controller serves Services without a class, so that 3 and 4 are left out. A Service that is
// not of the type is bound only by its record or by its finalizer: something of it may still stand in the cloud. It names
// no class any more, so that where we served it and the record is lost it is bound only if there is no choice: what looked
// into the wrong cloud would find nothing there, and let it go.
func bind(svc *corev1.Service, record *v1alpha1.LoadBalancerRecord, classes []v1alpha1.LoadBalancerClass, coexist bool, defaultProvider string) *binding {
	named := ""
	if svc.Spec.LoadBalancerClass != nil {
		named = *svc.Spec.LoadBalancerClass
	}
	isBalancer := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	if record != nil && record.Status.Provider != "" {
		b := bound(record, classes)
		if named != "" && named == record.Status.ServiceClass && b.class != nil && b.class.ClassName != named {
			b.refusal = fmt.Sprintf("LoadBalancerClass %q is for %q now: make one for %q; the balancer is left as it is",
				b.className, b.class.ClassName, named)
			b.releaseOnly = !isBalancer
			return b
		}
		// A class can be set anew when the type changes: then what the old one, or the configuration, made has to go
		// first. What was retained is left already, and in nobody's way, once the finalizer is gone.
		other := named != "" && (b.className == "" || b.class != nil && b.class.ClassName != named)
		if retained := b.policy == v1alpha1.PolicyRetain && !hasFinalizer(svc); !isBalancer || !other || !retained {
			b.releaseOnly = !isBalancer || other
			return b
		}
	}
	switch {
	case !isBalancer && !hasFinalizer(svc):
		return nil
	case !isBalancer && hasCondition(svc):
		return onlyChoice(classes, coexist, defaultProvider)
	}
	if c := cloud.SelectClass(svc, classes, coexist); c != nil {
		return boundTo(c)
	}
	if named == "" && !coexist && defaultProvider != "" {
		return &binding{provider: defaultProvider, policy: v1alpha1.PolicyApply}
	}
	return nil
}

func boundTo(c *v1alpha1.LoadBalancerClass) *binding {
	return &binding{className: c.Name, class: &c.Spec, provider: c.Spec.Provider, policy: c.Spec.Policy}
}

// onlyChoice returns the only binding that a Service can have had; nil: there are several, or none.
func onlyChoice(classes []v1alpha1.LoadBalancerClass, coexist bool, defaultProvider string) *binding {
	var choices []*binding
	for i := range classes {
		choices = append(choices, boundTo(&classes[i]))
	}
	if !coexist && defaultProvider != "" {
		choices = append(choices, &binding{provider: defaultProvider, policy: v1alpha1.PolicyApply})
	}
	if len(choices) != 1 {
		return nil
	}
	return choices[0]
}

func bound(record *v1alpha1.LoadBalancerRecord, classes []v1alpha1.LoadBalancerClass) *binding {
	b := &binding{className: record.Status.LoadBalancerClass, provider: record.Status.Provider, policy: record.Status.Policy}
	if b.className == "" {
		return b
	}
	i := slices.IndexFunc(classes, func(c v1alpha1.LoadBalancerClass) bool { return c.Name == b.className })
	switch {
	case i < 0:
		b.refusal = fmt.Sprintf("LoadBalancerClass %q is gone: create it again; the balancer is left as it is", b.className)
	case classes[i].Spec.Provider != b.provider:
		// Deleted and made anew with another provider, which would not know what the first one made.
		b.refusal = fmt.Sprintf("LoadBalancerClass %q names provider %q, the balancer is of %q: it is left as it is",
			b.className, classes[i].Spec.Provider, b.provider)
	default:
		b.class = &classes[i].Spec
	}
	return b
}

func hasFinalizer(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, v1alpha1.FinalizerLoadBalancer)
}

func withoutFinalizer(finalizers []string) []string {
	return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == v1alpha1.FinalizerLoadBalancer })
}
