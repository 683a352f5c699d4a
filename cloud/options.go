package cloud

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/topology"
)

// Options are what the core itself, rather than a provider, heeds for one Service.
type Options struct {
	Policy      v1alpha1.Policy
	Replacement v1alpha1.Replacement
	// PolicyAsked: the Service's own annotation says the Policy. It does whatever else is wrong.
	PolicyAsked bool
	// Adopt is the id of the balancer to adopt, or v1alpha1.AdoptNone; empty: none is asked for, and one that another
	// controller made for the Service is offered.
	Adopt string
	// Retained is the identity of an earlier Service of the same name, which left what has the id of Adopt behind under
	// PolicyRetain: this one takes it back, as it was. Empty: there is none.
	Retained OwnerID
	// Services are the names of the cluster's Services by UID, where Adopt is an id, for messages; nil: not known.
	Services map[string]string
	// Granted: the class lets the Service adopt the one with this id, whatever stands on it. TakeOver: it takes what is
	// offered.
	Granted, TakeOver bool
	// Unshown is for how much longer an answer of the cloud may lack what an earlier pass adopted (Capabilities.ReadLag). A
	// pass that finds something missing meanwhile changes nothing, whatever the Service asks for by then: what has a name of
	// its own choice, as opposed to what Name gives, would be made a second time. 0: what was adopted shows.
	Unshown time.Duration
	// New: nothing was ever made for the owner, so that a pass that builds it need not look first. Should there be something
	// all the same, creations find what is theirs, as after a crash, and the look at the end shows the rest.
	New bool
	// TargetsOnly has nothing changed but the targets of what is desired and exists: what else the Service wants is not known.
	TargetsOnly bool
	// Pods: the balancer sends to Pods rather than to nodes. PodsUnknown: the annotation that says which cannot be read, so
	// that it goes on with what it sent to before.
	Pods, PodsUnknown bool
}

// ParseOptions reads what a Service asks of the core from its annotations, or else from its class, or else Apply, Never,
// Nodes and no adoption. On an error, a UserError that names every mistake, what could be read is returned with it.
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
	var asks v1alpha1.Policy
	Enum(a, v1alpha1.AnnotationPolicy, &asks,
		v1alpha1.PolicyApply, v1alpha1.PolicyPlan, v1alpha1.PolicyRetain)
	if asks != "" {
		options.Policy, options.PolicyAsked = asks, true
	}
	Enum(a, v1alpha1.AnnotationReplacement, &options.Replacement,
		v1alpha1.ReplacementNever, v1alpha1.ReplacementRecreate)
	targets, asked := v1alpha1.TargetsNodes, "targets: Pods in the class"
	if class != nil && class.Targets != "" {
		targets = class.Targets
	}
	if _, ok := svc.Annotations[v1alpha1.AnnotationTargets]; ok {
		asked = "annotation " + v1alpha1.AnnotationTargets
	}
	wrong := len(a.errs)
	Enum(a, v1alpha1.AnnotationTargets, &targets, v1alpha1.TargetsNodes, v1alpha1.TargetsPods)
	options.Pods, options.PodsUnknown = targets == v1alpha1.TargetsPods, len(a.errs) > wrong
	var share string
	a.String(v1alpha1.AnnotationAdopt, &options.Adopt)
	if class != nil && class.Adoption != nil {
		options.Granted = grants(class.Adoption, svc, options.Adopt)
		options.TakeOver = class.Adoption.TakeOver == v1alpha1.TakeOverAutomatic
	}
	a.String(v1alpha1.AnnotationShare, &share)
	a.lookup(topology.AnnotationWeights) // known, and read there
	errs := a.errors()
	if options.Pods && !caps.PodTargets {
		errs = append(errs, fmt.Errorf("%s: the provider sends to nodes only: set %s or the class's targets to %s",
			asked, v1alpha1.AnnotationTargets, v1alpha1.TargetsNodes))
		options.Pods = false // What runs goes on to follow the nodes.
	}
	switch adopts := options.Adopt != "" && options.Adopt != v1alpha1.AdoptNone; {
	case adopts && !caps.Adopt:
		errs = append(errs, fmt.Errorf("annotation %s: the provider cannot adopt a balancer: remove it", v1alpha1.AnnotationAdopt))
	case adopts && share != "":
		errs = append(errs, fmt.Errorf("annotations %s and %s: an adopted balancer is not shared: remove one of them",
			v1alpha1.AnnotationAdopt, v1alpha1.AnnotationShare))
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

// grants reports whether the balancer with the id is granted to the Service.
func grants(adoption *v1alpha1.Adoption, svc *corev1.Service, id string) bool {
	return slices.ContainsFunc(adoption.Grants, func(g v1alpha1.AdoptionGrant) bool {
		return g.Namespace == svc.Namespace && g.Name == svc.Name && slices.Contains(g.IDs, id)
	})
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
