package loadbalancer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	fairleadac "github.com/fairlead/fairlead/applyconfiguration/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// classReconciler says of each LoadBalancerClass whether it can be used.
type classReconciler struct {
	client    client.Client
	providers Providers
	// sweep has a provider swept from now on, and at once if so asked.
	sweep func(provider string, now bool)
}

// Reconcile writes the condition Accepted of all classes, where it differs: one that goes can make room for another.
func (r *classReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var classes v1alpha1.LoadBalancerClassList
	if err := r.client.List(ctx, &classes); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	for i := range classes.Items {
		// Also where no Service has the class any more: what they had may be there still. First of all, since a cloud that is asked about
		// parameters can take its time.
		class := &classes.Items[i]
		if _, err := r.providers.Get(class.Spec.Provider); err == nil || cloud.IsClass(err, cloud.RetryAfter) {
			r.sweep(class.Spec.Provider, class.Annotations[v1alpha1.AnnotationDeleteOrphans] != "")
		}
	}
	taken, isDefault := map[string]string{}, ""
	var result ctrl.Result
	for _, class := range cloud.ClassesByAge(classes.Items) {
		verdict, again := r.verdict(ctx, &class, taken, isDefault)
		if again > 0 && (result.RequeueAfter == 0 || again < result.RequeueAfter) {
			result.RequeueAfter = again
		}
		if verdict.Reason != v1alpha1.ReasonDuplicate {
			taken[class.Spec.ClassName] = class.Name
			if class.Spec.Default {
				isDefault = class.Name
			}
		}
		if err := r.write(ctx, &class, verdict); err != nil {
			return ctrl.Result{}, err
		}
	}
	return result, nil
}

// verdict is the condition Accepted of a class, and after how long to look again; 0: when something changes.
func (r *classReconciler) verdict(ctx context.Context, class *v1alpha1.LoadBalancerClass, taken map[string]string, isDefault string) (metav1.Condition, time.Duration) {
	c := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse,
		ObservedGeneration: class.Generation, LastTransitionTime: metav1.Now().Rfc3339Copy()}
	provider, err := r.providers.Get(class.Spec.Provider)
	var again time.Duration
	switch {
	case taken[class.Spec.ClassName] != "":
		c.Reason = v1alpha1.ReasonDuplicate
		c.Message = fmt.Sprintf("LoadBalancerClass %q has className %q already: delete one of them", taken[class.Spec.ClassName], class.Spec.ClassName)
	case class.Spec.Default && isDefault != "":
		c.Reason = v1alpha1.ReasonDuplicate
		c.Message = fmt.Sprintf("LoadBalancerClass %q is the default already: set default to false in one of them", isDefault)
	case cloud.IsClass(err, cloud.RetryAfter):
		c.Reason, c.Message, again = v1alpha1.ReasonProviderUnavailable, err.Error(), untilStart(err)
	case errors.Is(err, cloud.ErrNoProvider):
		c.Reason, c.Message = v1alpha1.ReasonProviderUnknown, err.Error()
	case err != nil:
		c.Reason, c.Message, again = v1alpha1.ReasonProviderNotStarted, err.Error(), untilStart(err)
	case class.Spec.Targets == v1alpha1.TargetsPods && !provider.Capabilities().PodTargets:
		c.Reason = v1alpha1.ReasonInvalidParameters
		c.Message = fmt.Sprintf("provider %q sends to nodes only: set targets to Nodes", class.Spec.Provider)
	default:
		soon, cancel := context.WithTimeout(ctx, mistakenWithin)
		defer cancel()
		switch wrong, err := mistaken(soon, provider, &class.Spec); {
		case unasked(provider, err):
			c.Reason, c.Message, again = v1alpha1.ReasonProviderUnavailable, err.Error(), waitPlugin
		case wrong != nil:
			// What the cloud lacks may come, and nobody tells.
			c.Reason, c.Message, again = v1alpha1.ReasonInvalidParameters, wrong.Error(), waitBlocked
		case err != nil:
			c.Reason, c.Message = v1alpha1.ReasonInvalidParameters, err.Error()
		default:
			c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonAccepted, "Services can use this class"
		}
	}
	return c, again
}

// mistakenWithin bounds how long the clouds are asked about a class, for which all others wait.
const mistakenWithin = 10 * time.Second

// mistaken has the provider read the class's parameters, whose error it returns, and its cloud say whether it would make for a
// simple Service what they ask for, such as an address of a pool: wrong where it would not in any family, by the user's mistake.
// What the cloud does not tell, or refuses for now, is no mistake of the class.
func mistaken(ctx context.Context, p cloud.Provider, class *v1alpha1.LoadBalancerClassSpec) (wrong, err error) {
	for _, family := range p.Capabilities().Families {
		desired, err := p.Desired(sampleSpec(class, p.Capabilities(), family))
		switch {
		case err != nil && wrong != nil:
			return wrong, nil
		case err != nil, class.Parameters == nil:
			return nil, err
		}
		var refusal error
		for _, r := range desired {
			if !r.Fixed || refusal != nil {
				continue
			}
			if err := cloud.CheckCreate(ctx, p, cloud.Owner{}, r, nil); err != nil && p.Classify(err).Class == cloud.UserError {
				refusal = fmt.Errorf("%s cannot be had: %w", r.Name(), err)
			}
		}
		if refusal == nil {
			return nil, nil
		}
		wrong = cmp.Or(wrong, refusal)
	}
	return wrong, nil
}

// sampleSpec is what a simple Service of a family would ask of the class, to have the provider read the parameters.
func sampleSpec(class *v1alpha1.LoadBalancerClassSpec, caps cloud.Capabilities, family cloud.Family) cloud.Spec {
	protocol := corev1.ProtocolTCP
	if !slices.Contains(caps.Protocols, string(protocol)) {
		protocol = corev1.Protocol(caps.Protocols[0])
	}
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
		IPFamilies: []corev1.IPFamily{corev1.IPFamily(family)},
		Ports:      []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: protocol}}}}
	// A mistake can only be of the sample, such as Pods of UDP alone, which nothing shows to be ready: the parameters are there all the same.
	spec, _, _ := cloud.BuildSpec(cloud.Input{Service: svc, Class: class, Capabilities: caps})
	return spec
}

func (r *classReconciler) write(ctx context.Context, class *v1alpha1.LoadBalancerClass, want metav1.Condition) error {
	have := meta.FindStatusCondition(class.Status.Conditions, want.Type)
	if have != nil && have.Status == want.Status {
		want.LastTransitionTime = have.LastTransitionTime
		if have.Reason == want.Reason && have.Message == want.Message && have.ObservedGeneration == want.ObservedGeneration {
			return nil
		}
	}
	apply := fairleadac.LoadBalancerClass(class.Name).WithUID(class.UID).
		WithStatus(fairleadac.LoadBalancerClassStatus().WithConditions(applyCondition(want)))
	err := r.client.Status().Apply(ctx, apply, client.FieldOwner(FieldManager), client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("applying the status of LoadBalancerClass %q: %w", class.Name, err)
	}
	return nil
}

// writeOrphans has the class list these orphans, where it does not. A merge patch rather than an apply: a status that holds
// nothing else would be left as null by an apply that takes the last field away, which the API server refuses.
func (r *sweepReconciler) writeOrphans(ctx context.Context, class *v1alpha1.LoadBalancerClass, want []v1alpha1.Orphan) error {
	if equality.Semantic.DeepEqual(class.Status.Orphans, want) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": class.UID},
		"status":   map[string]any{"orphans": want},
	})
	if err != nil {
		return fmt.Errorf("writing orphans: %w", err)
	}
	err = r.Client.Status().Patch(ctx, class.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("listing orphans in LoadBalancerClass %q: %w", class.Name, err)
	}
	return nil
}
