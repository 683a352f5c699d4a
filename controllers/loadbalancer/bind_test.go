package loadbalancer

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestMarkIsNoOption: a manager from before the mark refuses Services with an option that it does not know.
func TestMarkIsNoOption(t *testing.T) {
	if strings.HasPrefix(v1alpha1.AnnotationServedBy, v1alpha1.AnnotationPrefix) {
		t.Errorf("%s begins with %s", v1alpha1.AnnotationServedBy, v1alpha1.AnnotationPrefix)
	}
}

func TestBind(t *testing.T) {
	class := func(name, className string, isDefault bool, minute int) v1alpha1.LoadBalancerClass {
		return v1alpha1.LoadBalancerClass{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(60*minute), 0))},
			Spec:       v1alpha1.LoadBalancerClassSpec{ClassName: className, Provider: "fake", Default: isDefault},
		}
	}
	classes := []v1alpha1.LoadBalancerClass{
		class("young", "example.com/a", true, 3), class("old", "example.com/a", false, 1), class("base", "example.com/b", true, 2),
	}
	balancer := func(className *string, finalizers ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Finalizers: finalizers},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: className}}
	}
	plain := func(finalizers ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Finalizers: finalizers}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	}
	served := func() *corev1.Service {
		svc := plain(v1alpha1.FinalizerLoadBalancer)
		svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionLoadBalancerReady}}
		return svc
	}
	annotated := func(svc *corev1.Service, class, provider string) *corev1.Service {
		svc.UID = "u"
		svc.Annotations = map[string]string{v1alpha1.AnnotationServedBy: (&binding{className: class, provider: provider, policy: v1alpha1.PolicyApply}).mark(svc)}
		return svc
	}
	marked := func(svc *corev1.Service, class, provider string) *corev1.Service {
		svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionLoadBalancerReady}}
		return annotated(svc, class, provider)
	}
	copied := func(svc *corev1.Service) *corev1.Service {
		svc.UID = "another"
		return svc
	}
	deleted := func(svc *corev1.Service) *corev1.Service {
		svc.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
		return svc
	}
	record := func(className string) *v1alpha1.LoadBalancerRecord {
		return &v1alpha1.LoadBalancerRecord{Status: v1alpha1.LoadBalancerRecordStatus{LoadBalancerClass: className, Provider: "fake"}}
	}
	namedRecord := func(className, serviceClass string) *v1alpha1.LoadBalancerRecord {
		r := record(className)
		r.Status.ServiceClass = serviceClass
		return r
	}
	madeRecord := func(className, from string) *v1alpha1.LoadBalancerRecord {
		r := record(className)
		r.Status.MadeFrom = (&binding{madeFrom: &v1alpha1.LoadBalancerClassSpec{ClassName: from}}).written()
		return r
	}
	retained := func(className string) *v1alpha1.LoadBalancerRecord {
		r := record(className)
		r.Status.Policy = v1alpha1.PolicyRetain
		return r
	}
	type want struct {
		Class       string
		Provider    string
		ReleaseOnly bool
		Refused     bool
	}
	cases := map[string]struct {
		reason          string
		service         *corev1.Service
		record          *v1alpha1.LoadBalancerRecord
		classes         []v1alpha1.LoadBalancerClass
		coexist         bool
		defaultProvider string
		want            *want
	}{
		"Named":        {reason: "of two with one className the older", service: balancer(ptr.To("example.com/a")), classes: classes, want: &want{Class: "old", Provider: "fake"}},
		"NamedCoexist": {reason: "classes of ours are ours in every mode", service: balancer(ptr.To("example.com/b")), classes: classes, coexist: true, want: &want{Class: "base", Provider: "fake"}},
		"Foreign":      {reason: "somebody else's class", service: balancer(ptr.To("example.com/other")), classes: classes, defaultProvider: "fake"},
		"Default":      {reason: "of two defaults the older", service: balancer(nil), classes: classes, defaultProvider: "aws", want: &want{Class: "base", Provider: "fake"}},
		"Configured":   {reason: "without a default class the configuration serves", service: balancer(nil), defaultProvider: "fake", want: &want{Provider: "fake"}},
		"Nobody":       {reason: "nothing is configured", service: balancer(nil)},
		"Coexist":      {reason: "without a class it is the other controller's", service: balancer(nil), classes: classes, coexist: true, defaultProvider: "fake"},
		"KeepsItsClass": {reason: "another default changes nothing", service: balancer(nil), classes: classes, record: record("young"),
			want: &want{Class: "young", Provider: "fake"}},
		"ClassGone": {reason: "the balancer is left as it is", service: balancer(nil), record: record("gone"),
			want: &want{Class: "gone", Provider: "fake", Refused: true}},
		"ClassGoneOther": {reason: "as where the class is there", service: balancer(ptr.To("example.com/b")), classes: classes,
			record: namedRecord("gone", "example.com/gone"), want: &want{Class: "gone", Provider: "fake", ReleaseOnly: true, Refused: true}},
		"DefaultGoneOther": {reason: "the Service named none then", service: balancer(ptr.To("example.com/b")), classes: classes,
			record: madeRecord("gone", "example.com/gone"), want: &want{Class: "gone", Provider: "fake", ReleaseOnly: true, Refused: true}},
		"DefaultGone": {reason: "the Service names now what served it", service: balancer(ptr.To("example.com/gone")), classes: classes,
			record: madeRecord("gone", "example.com/gone"), want: &want{Class: "gone", Provider: "fake", Refused: true}},
		"OtherClass": {reason: "what the old class made goes first", service: balancer(ptr.To("example.com/b")), classes: classes, record: record("old"),
			want: &want{Class: "old", Provider: "fake", ReleaseOnly: true}},
		"ClassMadeAnew": {reason: "for another className; the Service is the same", service: balancer(ptr.To("example.com/c")), classes: classes,
			record: namedRecord("old", "example.com/c"), want: &want{Class: "old", Provider: "fake", Refused: true}},
		"NamesItsClassNow": {reason: "the class that served it as the default", service: balancer(ptr.To("example.com/b")), classes: classes, record: record("base"),
			want: &want{Class: "base", Provider: "fake"}},
		"Retained": {reason: "what another class made was left already", service: balancer(ptr.To("example.com/b")), classes: classes, record: retained("old"),
			want: &want{Class: "base", Provider: "fake"}},
		"NotLeftYet": {reason: "the finalizer says that it was not left yet", service: balancer(ptr.To("example.com/b"), v1alpha1.FinalizerLoadBalancer),
			classes: classes, record: retained("old"), want: &want{Class: "old", Provider: "fake", ReleaseOnly: true}},
		"ClassAfterConfiguration": {reason: "what was made without a class goes first", service: balancer(ptr.To("example.com/b")), classes: classes, record: record(""),
			defaultProvider: "fake", want: &want{Provider: "fake", ReleaseOnly: true}},
		"ForeignClassAfterConfiguration": {reason: "somebody else serves it now", service: balancer(ptr.To("example.com/other")), classes: classes, record: record(""),
			defaultProvider: "fake", want: &want{Provider: "fake", ReleaseOnly: true}},
		"TypeChanged": {reason: "what the record knows is released", service: plain(v1alpha1.FinalizerLoadBalancer), classes: classes, record: record("old"),
			want: &want{Class: "old", Provider: "fake", ReleaseOnly: true}},
		"FinalizerOnly":    {reason: "left by whoever we took over from", service: plain(v1alpha1.FinalizerLoadBalancer), defaultProvider: "fake", want: &want{Provider: "fake"}},
		"FinalizerCoexist": {reason: "the other controller's finalizer", service: plain(v1alpha1.FinalizerLoadBalancer), classes: classes, coexist: true, defaultProvider: "fake"},
		"RecordLost": {reason: "the Service says who served it", service: marked(served(), "young", "fake"), classes: classes, defaultProvider: "aws",
			want: &want{Class: "young", Provider: "fake", ReleaseOnly: true}},
		"RecordAndClassLost": {reason: "the provider can be asked all the same", service: marked(served(), "gone", "fake"), classes: classes,
			want: &want{Class: "gone", Provider: "fake", ReleaseOnly: true, Refused: true}},
		"RecordLostDeleted": {reason: "the Service says who served it", service: marked(deleted(balancer(nil, v1alpha1.FinalizerLoadBalancer)), "", "aws"), classes: classes,
			want: &want{Provider: "aws", ReleaseOnly: true}},
		"RecordLostServed": {reason: "the class that it names served it", service: marked(balancer(ptr.To("example.com/b"), v1alpha1.FinalizerLoadBalancer), "base", "fake"),
			classes: classes, want: &want{Class: "base", Provider: "fake"}},
		"RecordLostOtherDefault": {reason: "what another class made is neither left nor taken away", service: marked(balancer(nil, v1alpha1.FinalizerLoadBalancer), "old", "fake"),
			classes: classes, want: &want{Class: "base", Provider: "fake", Refused: true}},
		"MarkOfItsOwn": {reason: "a mark without the finalizer is not ours", service: marked(balancer(nil), "old", "fake"), classes: classes,
			want: &want{Class: "base", Provider: "fake"}},
		"MarkGivesNoClass":  {reason: "somebody else's class", service: marked(balancer(ptr.To("example.com/other"), v1alpha1.FinalizerLoadBalancer), "old", "fake"), classes: classes},
		"MarkUnread":        {reason: "as without", service: marked(served(), "gone", ""), classes: classes},
		"RecordAndMarkLost": {reason: "anything may have served it", service: served(), classes: classes[1:2], defaultProvider: "fake"},
		"MarkCopied": {reason: "with the finalizer, into a Service of another class", service: copied(marked(balancer(ptr.To("example.com/b"), v1alpha1.FinalizerLoadBalancer), "old", "fake")),
			classes: classes, want: &want{Class: "base", Provider: "fake"}},
		"MarkCopiedCoexist": {reason: "the finalizer is the other controller's", service: copied(marked(deleted(balancer(nil, v1alpha1.FinalizerLoadBalancer)), "old", "fake")),
			classes: classes, coexist: true},
		"MarkNeverServed": {reason: "written by hand, with its own UID", service: annotated(plain(v1alpha1.FinalizerLoadBalancer), "", "aws"),
			defaultProvider: "fake", want: &want{Provider: "fake"}},
		"MarkNeverServedCoexist": {reason: "written by hand; the finalizer is the other controller's",
			service: annotated(deleted(balancer(nil, v1alpha1.FinalizerLoadBalancer)), "old", "fake"), classes: classes, coexist: true},
		"MarkWithoutClassCoexist": {reason: "Services without a class are the other controller's", service: marked(deleted(balancer(nil, v1alpha1.FinalizerLoadBalancer)), "", "fake"),
			classes: classes, coexist: true},
		"MarkCoexist": {reason: "what a class of ours made goes in every mode", service: marked(plain(v1alpha1.FinalizerLoadBalancer), "old", "fake"), classes: classes, coexist: true,
			want: &want{Class: "old", Provider: "fake", ReleaseOnly: true}},
		"MarkAfterRecord": {reason: "the record says what is so", service: marked(plain(v1alpha1.FinalizerLoadBalancer), "young", "aws"), classes: classes, record: record("old"),
			want: &want{Class: "old", Provider: "fake", ReleaseOnly: true}},
		"Plain": {reason: "nothing to do with balancers", service: plain(), classes: classes, defaultProvider: "fake"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := bind(tc.service, tc.record, tc.classes, tc.coexist, tc.defaultProvider)
			var got *want
			if b != nil {
				got = &want{Class: b.className, Provider: b.provider, ReleaseOnly: b.releaseOnly, Refused: b.refusal != ""}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestPolicyInForce(t *testing.T) {
	plans := []v1alpha1.LoadBalancerClass{{ObjectMeta: metav1.ObjectMeta{Name: "here"},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/here", Provider: "fake", Policy: v1alpha1.PolicyPlan}}}
	asks := func(policy string) map[string]string { return map[string]string{v1alpha1.AnnotationPolicy: policy} }
	mistaken := func(annotations map[string]string) map[string]string {
		all := map[string]string{"fairlead.dev/nobody-knows-this": "true"}
		maps.Copy(all, annotations)
		return all
	}
	cases := map[string]struct {
		reason      string
		annotations map[string]string
		class, last string
		want        v1alpha1.Policy
	}{
		"Class":                {"nothing is asked for", nil, "here", "Retain", v1alpha1.PolicyPlan},
		"Configuration":        {"nothing is asked for, and there is no class", nil, "", "Retain", v1alpha1.PolicyApply},
		"ClassGone":            {"what it says is not known any more", nil, "gone", "Retain", v1alpha1.PolicyRetain},
		"Mistaken":             {"the mistake may be in the name of the annotation", mistaken(nil), "here", "Retain", v1alpha1.PolicyRetain},
		"MistakenSince":        {"the class was changed, which a mistake does not undo", mistaken(nil), "here", "Apply", v1alpha1.PolicyPlan},
		"MistakenAtFirst":      {"nothing was in force yet", mistaken(nil), "here", "", v1alpha1.PolicyPlan},
		"MistakenClassGone":    {"what it says is not known any more", mistaken(nil), "gone", "Apply", v1alpha1.PolicyApply},
		"Asked":                {"rather than the class's", asks("Apply"), "here", "Retain", v1alpha1.PolicyApply},
		"AskedClassGone":       {"the class does not matter", asks("Retain"), "gone", "Apply", v1alpha1.PolicyRetain},
		"AskedAndMistaken":     {"the mistake is in something else", mistaken(asks("Retain")), "here", "Apply", v1alpha1.PolicyRetain},
		"AskedMistakenly":      {"it cannot be read", asks("Sometimes"), "here", "Retain", v1alpha1.PolicyRetain},
		"AskedMistakenlySince": {"and the class was changed", asks("Sometimes"), "here", "Apply", v1alpha1.PolicyPlan},
		"AskedAndGoneAndBad":   {"neither matters", mistaken(asks("Plan")), "gone", "Apply", v1alpha1.PolicyPlan},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}}
			b := bound(&v1alpha1.LoadBalancerRecordStatus{Provider: "fake", LoadBalancerClass: tc.class, Policy: v1alpha1.Policy(tc.last)}, plans)
			if b.heed(svc); b.policy != tc.want {
				t.Errorf("%s: the policy is %s, want %s", tc.reason, b.policy, tc.want)
			}
		})
	}
}
