package aws

import (
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// TestCheckElastic: an elastic address is had where it is free, or where what is replaced has it.
func TestCheckElastic(t *testing.T) {
	p := testProvider(awstest.New(awstest.Options{}), unlimited)
	with := func(uid, allocation string) cloud.Spec {
		s := spec(uid, 1)
		s.Annotations = map[string]string{AnnotationPrefix + "scheme": "internet-facing", AnnotationPrefix + "subnets": "subnet-0a01",
			AnnotationPrefix + "eip-allocations": allocation}
		return s
	}
	one, two := with("uid-1", "eipalloc-01"), with("uid-2", "eipalloc-02")
	settled(t, p, one.Owner, &one)
	have := settled(t, p, two.Owner, &two).Observed
	for name, tc := range map[string]struct {
		allocation string
		want       cloud.Class
	}{
		"Free":    {"eipalloc-03", ""},
		"Own":     {"eipalloc-02", ""},
		"Others":  {"eipalloc-01", cloud.Conflict},
		"Missing": {"eipalloc-99", cloud.UserError},
	} {
		desired, err := p.Desired(with("uid-2", tc.allocation))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range desired {
			if r.Kind == KindLoadBalancer {
				err = p.Check(t.Context(), two.Owner, r, have)
			}
		}
		if (err == nil) != (tc.want == "") || err != nil && p.Classify(err).Class != tc.want {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}
