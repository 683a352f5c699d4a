package aws

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// TestNodeLabels: nodes with all of the labels are targets. One that gets a label, or loses one, comes in or goes by the calls for
// targets alone.
func TestNodeLabels(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	labelled := func(annotation string, of ...map[string]string) cloud.Spec {
		s := spec("uid-1", len(of))
		s.Annotations = map[string]string{AnnotationPrefix + "target-node-labels": annotation}
		for i := range s.Nodes {
			s.Nodes[i].Labels = of[i]
		}
		return s
	}
	targetsOf := func(observed []cloud.Resource) string {
		var all []string
		for _, r := range observed {
			if r.Name() == "TargetGroup/80" {
				for _, target := range r.Targets {
					all = append(all, strings.TrimLeft(strings.TrimSuffix(target.ID, ":30080"), "i-0"))
				}
			}
		}
		return strings.Join(all, ",")
	}
	edge, other := map[string]string{"pool": "edge", "example.com/public": ""}, map[string]string{"pool": "edge"}
	const both = "pool=edge, example.com/public="
	begin := labelled(both, edge, other, nil)
	observed := settled(t, p, begin.Owner, &begin).Observed
	if got := targetsOf(observed); got != "1" {
		t.Errorf("targets are %s", got)
	}
	for _, step := range []struct {
		spec cloud.Spec
		want string
	}{{labelled(both, edge, edge, nil), "1,2"}, {labelled(both, other, edge, edge), "2,3"}, {labelled(both, nil, other, nil), ""}} {
		desired, err := p.Desired(step.spec)
		if err != nil {
			t.Fatal(err)
		}
		compared, err := cloud.Compare(begin.Owner, desired, observed, cloud.Options{})
		if err != nil || !compared.Left.TargetsOnly() {
			t.Fatalf("more than targets differs: %+v (%v)", compared.Left, err)
		}
		if errs := p.SyncTargets(t.Context(), compared.Left.TargetChanges(begin.Owner)); errs != nil {
			t.Fatal(errs)
		}
		if observed, err = p.Observe(t.Context(), begin.Owner); err != nil {
			t.Fatal(err)
		}
		if got := targetsOf(observed); got != step.want {
			t.Errorf("targets are %q, want %q", got, step.want)
		}
	}
	all := labelled("", edge, other, nil)
	all.Annotations = nil
	if got := targetsOf(settled(t, p, all.Owner, &all).Observed); got != "1,2,3" {
		t.Errorf("without the annotation targets are %s", got)
	}
}

// TestNodeLabelsUnread: where the labels cannot be read, nobody knows who is a target, and those that there are stay.
func TestNodeLabelsUnread(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 2)
	settled(t, p, s.Owner, &s)
	before := server.Snapshot()
	s = spec("uid-1", 4)
	for annotation, says := range map[string]string{"": "a list separated by commas", "pool": "a list of different names", "pool=a b": `"pool=a b" is no label`, "-=a": "is no label"} {
		s.Annotations = map[string]string{AnnotationPrefix + "target-node-labels": annotation}
		desired, err := p.Desired(s)
		if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error is %v", annotation, err)
		}
		if slices.ContainsFunc(desired, func(r cloud.Resource) bool { return r.HasTargets }) {
			t.Errorf("%q: targets are known", annotation)
		}
		if _, err := cloud.Converge(t.Context(), p, s.Owner, desired, cloud.Options{TargetsOnly: true}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, server.Snapshot()); diff != "" {
			t.Errorf("%q changes something (-before +after):\n%s", annotation, diff)
		}
	}
	s.Annotations = map[string]string{AnnotationPrefix + "target-node-labels": "pool=edge"}
	s.PodTargets, s.Nodes = true, nil
	if _, err := p.Desired(s); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "the Service sends to Pods") {
		t.Errorf("with Pods the error is %v", err)
	}
}
