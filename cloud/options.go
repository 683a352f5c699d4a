package cloud

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/topology"
)

// Options are what the core itself, rather than a provider, heeds for one Service.
type Options struct {
	Policy      v1alpha1.Policy
	Replacement v1alpha1.Replacement
	// TargetsOnly has nothing changed but the targets of what exists: what else the Service wants is not known.
	TargetsOnly bool
	// Pods: the balancer sends to Pods rather than to nodes.
	Pods bool
}

// ParseOptions reads policy, replacement and targets from the Service's annotations, or else from its class, or else
// Apply, Never and Nodes. On an error, a UserError that names every mistake, what could be read is returned with it.
func ParseOptions(svc *corev1.Service, class *v1alpha1.LoadBalancerClassSpec) (Options, error) {
	options, errs := parseOptions(svc, class, Capabilities{Adopt: true, Share: true, PodTargets: true})
	return options, joinUserErrors(errs)
}

func parseOptions(svc *corev1.Service, class *v1alpha1.LoadBalancerClassSpec, caps Capabilities) (Options, []error) {
	options := Options{Policy: v1alpha1.PolicyApply, Replacement: v1alpha1.ReplacementNever}
	if class != nil && class.Policy != "" {
		options.Policy = class.Policy
	}
	if class != nil && class.Replacement != "" {
		options.Replacement = class.Replacement
	}
	a := NewAnnotations(svc.Annotations, v1alpha1.AnnotationPrefix)
	Enum(a, v1alpha1.AnnotationPolicy, &options.Policy,
		v1alpha1.PolicyApply, v1alpha1.PolicyPlan, v1alpha1.PolicyRetain)
	Enum(a, v1alpha1.AnnotationReplacement, &options.Replacement,
		v1alpha1.ReplacementNever, v1alpha1.ReplacementRecreate)
	targets, asked := v1alpha1.TargetsNodes, "targets: Pods in the class"
	if class != nil && class.Targets != "" {
		targets = class.Targets
	}
	if _, ok := svc.Annotations[v1alpha1.AnnotationTargets]; ok {
		asked = "annotation " + v1alpha1.AnnotationTargets
	}
	Enum(a, v1alpha1.AnnotationTargets, &targets, v1alpha1.TargetsNodes, v1alpha1.TargetsPods)
	options.Pods = targets == v1alpha1.TargetsPods
	var adopt, share string
	a.String(v1alpha1.AnnotationAdopt, &adopt)
	a.String(v1alpha1.AnnotationShare, &share)
	var weights string // Not a balancer's, and read elsewhere.
	a.String(topology.AnnotationWeights, &weights)
	errs := a.errors()
	if options.Pods && !caps.PodTargets {
		errs = append(errs, fmt.Errorf("%s: the provider sends to nodes only: set %s or the class's targets to %s",
			asked, v1alpha1.AnnotationTargets, v1alpha1.TargetsNodes))
	}
	if adopt != "" && !caps.Adopt {
		errs = append(errs, fmt.Errorf("annotation %s: the provider cannot adopt a balancer: remove it", v1alpha1.AnnotationAdopt))
	}
	switch {
	case share != "" && !caps.Share:
		errs = append(errs, fmt.Errorf("annotation %s: the provider cannot share a balancer: remove it", v1alpha1.AnnotationShare))
	case share != "" && !isGroup(share):
		errs = append(errs, fmt.Errorf("annotation %s: %q is not a name of at most %d lower-case letters, digits and dashes",
			v1alpha1.AnnotationShare, share, maxGroup))
	}
	return options, errs
}

// maxGroup is the most bytes of a group's name.
const maxGroup = 40

// isGroup reports whether the name of a group can be part of names in any cloud.
func isGroup(name string) bool {
	return len(name) <= maxGroup && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && strings.Trim(name, "-") == name
}

// withPrefix returns the entries whose key begins with one of the prefixes; nil where there are none.
func withPrefix(annotations map[string]string, prefixes []string) map[string]string {
	var result map[string]string
	for key, value := range annotations {
		for _, prefix := range prefixes {
			if strings.HasPrefix(key, prefix) {
				if result == nil {
					result = map[string]string{}
				}
				result[key] = value
				break
			}
		}
	}
	return result
}

var errEmpty = errors.New("it is empty")
