package loadbalancer

import (
	"encoding/json"
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
	// madeFrom is what of its class the balancer was last made from, with the targets in force; nil: not known.
	madeFrom *v1alpha1.LoadBalancerClassSpec
	// policy that was last in force, as far as it is known, and after heed the one in force.
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
// not of the type is bound only by its record or by its finalizer: something of it may still stand in the cloud.
//
// Where the record is lost the Service's own annotation says who served it (v1alpha1.AnnotationServedBy). That counts for
// what is to go, since a look into the wrong cloud would find nothing there and let it go. It gives a Service no class, or
// whoever can annotate one could have any.
func bind(svc *corev1.Service, record *v1alpha1.LoadBalancerRecord, classes []v1alpha1.LoadBalancerClass, coexist bool, defaultProvider string) *binding {
	named := ""
	if svc.Spec.LoadBalancerClass != nil {
		named = *svc.Spec.LoadBalancerClass
	}
	isBalancer := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	if record != nil && record.Status.Provider != "" {
		b := bound(&record.Status, classes)
		if named != "" && named == record.Status.ServiceClass && b.class != nil && b.class.ClassName != named {
			b.refusal = fmt.Sprintf("LoadBalancerClass %q is for %q now: make one for %q; the balancer is left as it is",
				b.className, b.class.ClassName, named)
			b.releaseOnly = !isBalancer
			return b
		}
		// A class can be set anew when the type changes: then what the old one, or the configuration, made has to go
		// first. What was retained is left already, and in nobody's way, once the finalizer is gone.
		was := b.servedAs(&record.Status)
		other := named != "" && (b.className == "" || was != "" && was != named)
		if retained := b.policy == v1alpha1.PolicyRetain && !hasFinalizer(svc); !isBalancer || !other || !retained {
			b.releaseOnly = !isBalancer || other
			return b
		}
	}
	by := servedBy(svc, coexist)
	switch {
	case !isBalancer && !hasFinalizer(svc):
		return nil
	case by != nil && (!isBalancer || svc.DeletionTimestamp != nil):
		b := bound(by, classes)
		b.releaseOnly = true
		return b
	case !isBalancer && hasCondition(svc):
		return nil // nobody knows any more who served it
	}
	b := selected(svc, classes, coexist, defaultProvider)
	if b != nil && by != nil && (b.className != by.LoadBalancerClass || b.provider != by.Provider) {
		b.refusal = fmt.Sprintf("LoadBalancerClass %q (provider %q) served this Service, and the LoadBalancerRecord is gone: the balancer there follows "+
			"no nodes any more: have the Service served by that one again, or remove the annotation %s once nothing is left in that cloud",
			by.LoadBalancerClass, by.Provider, v1alpha1.AnnotationServedBy)
	}
	return b
}

// selected returns the binding of a Service that nobody has served yet; nil: none.
func selected(svc *corev1.Service, classes []v1alpha1.LoadBalancerClass, coexist bool, defaultProvider string) *binding {
	if c := cloud.SelectClass(svc, classes, coexist); c != nil {
		return &binding{className: c.Name, class: &c.Spec, provider: c.Spec.Provider, policy: c.Spec.Policy}
	}
	if svc.Spec.LoadBalancerClass == nil && !coexist && defaultProvider != "" {
		return &binding{provider: defaultProvider, policy: v1alpha1.PolicyApply}
	}
	return nil
}

// bound is the binding to what served a Service, by the record's status.
func bound(by *v1alpha1.LoadBalancerRecordStatus, classes []v1alpha1.LoadBalancerClass) *binding {
	b := &binding{className: by.LoadBalancerClass, provider: by.Provider, policy: by.Policy, madeFrom: madeFrom(by)}
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

// servedAs is the className of the class that served a Service, also where that class is gone; empty: not known.
func (b *binding) servedAs(by *v1alpha1.LoadBalancerRecordStatus) string {
	switch {
	case b.class != nil:
		return b.class.ClassName
	case b.madeFrom != nil:
		return b.madeFrom.ClassName
	}
	return by.ServiceClass
}

// targeted is the class by which the targets of a Service are made: of one that is refused that by which its balancer was.
func (b *binding) targeted() *v1alpha1.LoadBalancerClassSpec {
	if b.refusal != "" && b.madeFrom != nil {
		return b.madeFrom
	}
	return b.class
}

// heed has the policy be the one that the Service asks for, whatever else is wrong with it and whatever became of its class. Where it asks
// for none that can be read its class says. Where something is wrong, which may be the name of that very annotation, the safer of what the
// class says and what was last in force counts, since a typing mistake must not delete what was to be retained. Where the class is gone, or
// another one by now, what was last in force goes on. What was retained of a Service that needs no balancer any more, or goes, stays for
// good.
func (b *binding) heed(svc *corev1.Service) {
	if (b.releaseOnly || svc.DeletionTimestamp != nil) && b.policy == v1alpha1.PolicyRetain && !hasFinalizer(svc) {
		return
	}
	options, err := cloud.ParseOptions(svc, b.class)
	switch {
	case options.PolicyAsked, err == nil && b.refusal == "":
		b.policy = options.Policy
	case b.refusal == "":
		b.policy = safer(options.Policy, b.policy)
	}
}

// safer is that of two policies which takes less away. One that there is not is the least safe.
func safer(a, b v1alpha1.Policy) v1alpha1.Policy {
	order := []v1alpha1.Policy{v1alpha1.PolicyApply, v1alpha1.PolicyPlan, v1alpha1.PolicyRetain}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// remember notes what a balancer is made from.
func (b *binding) remember(options cloud.Options) {
	b.policy = options.Policy
	b.madeFrom = &v1alpha1.LoadBalancerClassSpec{Provider: b.provider, Targets: v1alpha1.TargetsNodes}
	if b.class != nil {
		b.madeFrom.ClassName, b.madeFrom.NodePorts, b.madeFrom.Parameters = b.class.ClassName, b.class.NodePorts, b.class.Parameters
	}
	if options.Pods {
		b.madeFrom.Targets = v1alpha1.TargetsPods
	}
}

// written is madeFrom as the record has it.
func (b *binding) written() string {
	text, err := json.Marshal(b.madeFrom)
	if err != nil {
		return "" // it is plain data
	}
	return string(text)
}

// madeFrom reads what written wrote; nil: nothing, or nothing that can be read.
func madeFrom(by *v1alpha1.LoadBalancerRecordStatus) *v1alpha1.LoadBalancerClassSpec {
	class := &v1alpha1.LoadBalancerClassSpec{}
	if by.MadeFrom == "" || json.Unmarshal([]byte(by.MadeFrom), class) != nil {
		return nil
	}
	return class
}

// mark is what a Service carries as long as something of it may stand in a cloud: the value of AnnotationServedBy.
func (b *binding) mark(svc *corev1.Service) string {
	return fmt.Sprintf("uid=%s,provider=%s,class=%s,policy=%s", svc.UID, b.provider, b.className, b.policy)
}

// servedBy reads the mark of a Service that the finalizer holds, as a record would say it; nil: there is none, or none that can
// be believed. Anyone can write it, or copy it from another Service, and every cloud's controller writes the finalizer; the
// condition is in the status, which is not for everyone. It may be missing only as long as there is a record.
func servedBy(svc *corev1.Service, coexist bool) *v1alpha1.LoadBalancerRecordStatus {
	var by map[string]string
	cloud.NewAnnotations(svc.Annotations).Map(v1alpha1.AnnotationServedBy, &by)
	if !hasFinalizer(svc) || !hasCondition(svc) || by["uid"] != string(svc.UID) || by["provider"] == "" {
		return nil
	}
	if coexist && by["class"] == "" {
		return nil // what has no class is another controller's
	}
	return &v1alpha1.LoadBalancerRecordStatus{Provider: by["provider"], LoadBalancerClass: by["class"], Policy: v1alpha1.Policy(by["policy"])}
}

func hasFinalizer(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, v1alpha1.FinalizerLoadBalancer)
}

func withoutFinalizer(finalizers []string) []string {
	return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == v1alpha1.FinalizerLoadBalancer })
}
