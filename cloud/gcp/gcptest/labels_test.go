package gcptest_test

import (
	"testing"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestLabelsOfWhatIsMade: labels that a rule is to be made with are taken for nothing; filters find it by those it gets later, or by
// its description.
func TestLabelsOfWhatIsMade(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	svc := sdk(t, c)
	balancer(t, svc, "EXTERNAL", "UNSPECIFIED")
	if _, err := svc.ForwardingRules.Insert(project, region, rule(func(r *compute.ForwardingRule) {
		r.Description, r.Labels = "made by=a/b", map[string]string{"a": "b"}
	})).Do(); err != nil {
		t.Fatal(err)
	}
	found := func(filter string) bool {
		t.Helper()
		list, err := svc.ForwardingRules.List(project, region).Filter(filter).Do()
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 1
	}
	if found(`labels.a = "b"`) || found(`description eq ".*by=c.*"`) || found(`description eq "by=a/"`) || !found(`description eq ".*by=a/.*"`) {
		t.Error("it has labels, or is not found by its description")
	}
	r, err := svc.ForwardingRules.Get(project, region, "fr").Do()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.ForwardingRules.SetLabels(project, region, "fr", &compute.RegionSetLabelsRequest{Labels: map[string]string{"a": "b"}, LabelFingerprint: r.LabelFingerprint}).Do(); err != nil {
		t.Fatal(err)
	}
	if !found(`labels.a = "b"`) || found(`labels.a = "c"`) {
		t.Error("it is not found by its label")
	}
	for what, filter := range map[string]string{"of both kinds": `(labels.a = "b") OR (description eq ".*by=a.*")`, "for a part of a text": `description : "by=a"`} {
		_, err = svc.ForwardingRules.List(project, region).Filter(filter).Do()
		refusedAs(t, "a filter "+what, err, 400, "invalid", "filter")
	}
}
