package cloud

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// SelectClass returns the class that a Service is to be served by when nobody serves it yet: the one that it names, or,
// unless another controller serves Services without a class (coexist), the default. Nil: none. Of several that fit the
// oldest counts, then the first by name.
func SelectClass(svc *corev1.Service, classes []v1alpha1.LoadBalancerClass, coexist bool) *v1alpha1.LoadBalancerClass {
	for _, c := range ClassesByAge(classes) {
		if named := svc.Spec.LoadBalancerClass; named != nil {
			if c.Spec.ClassName == *named {
				return &c
			}
		} else if c.Spec.Default && !coexist {
			return &c
		}
	}
	return nil
}

// ClassesByAge sorts classes by age, the oldest first, then by name. The argument is not changed.
func ClassesByAge(classes []v1alpha1.LoadBalancerClass) []v1alpha1.LoadBalancerClass {
	sorted := slices.Clone(classes)
	slices.SortFunc(sorted, func(a, b v1alpha1.LoadBalancerClass) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return sorted
}

// OrphanIDs returns the ids of the orphans that a class asks to have deleted, by v1alpha1.AnnotationDeleteOrphans. What cannot
// be read asks for nothing, and is a UserError.
func OrphanIDs(class *v1alpha1.LoadBalancerClass) ([]string, error) {
	var ids []string
	a := NewAnnotations(class.Annotations)
	a.List(v1alpha1.AnnotationDeleteOrphans, &ids)
	return ids, a.Err()
}
