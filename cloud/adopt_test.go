package cloud

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// lent is adopted with what has the id.
func lent(id string) func(*Resource) {
	return func(r *Resource) { r.Adopted, r.Lent = id, true }
}

func claimed(r *Resource) { r.Adopted = r.ID }

func foreign(r *Resource) { r.Owners = nil }

// TestDiffOfWhatIsLent: it is changed in place or let go, never replaced or deleted.
func TestDiffOfWhatIsLent(t *testing.T) {
	cases := map[string]struct {
		reason   string
		desired  []Resource
		observed []Resource
		want     []string
	}{
		"InPlace": {
			reason:   "what can change does",
			desired:  []Resource{want("A", "1", fixed, attribute("size", "2"))},
			observed: []Resource{have("A", "1", lent("a-1"))},
			want:     []string{"Update A/1 a-1: changing size"},
		},
		"NeverReplaced": {
			reason:   "not even where replacement is Recreate; what is not Fixed neither",
			desired:  []Resource{want("A", "1", fixed, attribute("shape", "square")), want("B", "1", attribute("shape", "square"))},
			observed: []Resource{have("A", "1", lent("a-1")), have("B", "1", lent("a-1"))},
			want:     []string{"blocked A/1 Replacement", "blocked B/1 Replacement"},
		},
		"NotReplacedBelow": {
			reason:   "what it stands on is not taken away from under it",
			desired:  []Resource{want("A", "1", fixed, attribute("shape", "square")), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1"), have("B", "1", on("A", "1", false), lent("b-1"))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"Failed": {
			reason:   "it is not deleted to be made anew",
			desired:  []Resource{want("A", "1")},
			observed: []Resource{have("A", "1", lent("a-1"), in(StateFailed))},
			want:     []string{"blocked A/1 Replacement"},
		},
		"FirstChoice": {
			reason:   "what was made before the adoption does not take the place of what was adopted",
			desired:  []Resource{want("A", "1", fixed), want("B", "1", on("A", "1", false))},
			observed: []Resource{have("A", "1", id("a-0")), have("A", "1", lent("b-1")), have("B", "1", on("A", "1", false), lent("b-1"))},
			want:     []string{"Delete A/1 a-0"},
		},
		"LetGo": {
			reason: "targets first, since the marks say what they were of; what it uses stays with it; what was made goes",
			observed: []Resource{have("A", "1", lent("a-1")), have("B", "1", lent("a-1"), on("A", "1", true), on("S", "1", false)), have("S", "1", targets("x")),
				have("C", "1", on("A", "1", true))},
			want: []string{"SyncTargets S/1: targets +0 -1", "Update B/1 b-1: letting it go: it was adopted", "Delete C/1 c-1",
				"Update A/1 a-1: letting it go: it was adopted", "Update S/1 s-1: letting it go: it was adopted"},
		},
		"Stray": {
			reason:   "an adoption that nobody finishes: its marks go, its targets, which are still those of before, stay",
			desired:  []Resource{want("A", "1"), want("S", "1", targets("y"))},
			observed: []Resource{have("A", "1", foreign, id("a-9"), func(r *Resource) { r.Key = "9" }), have("S", "1", lent("a-9"), targets("x"))},
			want: []string{"Create A/1", "Create S/1", "SyncTargets S/1: targets +1 -0",
				"Update S/1 s-1: letting it go: it was adopted"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			plan, err := Diff(us, tc.desired, tc.observed, v1alpha1.ReplacementRecreate)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, lines(plan)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestLetGoOfAllTargets: for a cloud that takes the whole list, what is let go has none left.
func TestLetGoOfAllTargets(t *testing.T) {
	plan, err := Diff(us, nil, []Resource{have("S", "1", lent("s-1"), targets("x"))}, v1alpha1.ReplacementRecreate)
	if err != nil {
		t.Fatal(err)
	}
	changes := plan.TargetChanges(us)
	if len(changes) != 1 || len(changes[0].Remove) != 1 || len(changes[0].Resource.Targets) != 0 {
		t.Errorf("let go, its targets are changed to %+v", changes)
	}
}

func TestPlanAdoption(t *testing.T) {
	desired := []Resource{want("A", "1"), want("L", "80", on("A", "1", true))}
	found := func(edit func(*Adoptable), edits ...func(*Resource)) []Adoptable {
		f := Adoptable{ID: "x", AdoptableBy: "c/shop/cart", Resources: []Resource{
			have("A", "1", append([]func(*Resource){foreign, id("x")}, edits...)...),
			have("L", "80", foreign, on("A", "1", true)), have("L", "9443", foreign, on("A", "1", true))}}
		if edit != nil {
			edit(&f)
		}
		return []Adoptable{f}
	}
	madeForUs := func(f *Adoptable) { f.AdoptableBy, f.MadeBy = "", "service-controller" }
	cases := map[string]struct {
		reason   string
		options  Options
		observed []Resource
		found    []Adoptable
		want     []string
	}{
		"Lent": {
			reason:  "the parts that are wanted, then the balancer",
			options: Options{Adopt: "x"}, found: found(nil),
			want: []string{"L/80 adopted x lent", "A/1 adopted x lent"},
		},
		"AnotherCase": {
			reason:  "some clouds take ids in any case",
			options: Options{Adopt: "X"}, found: found(nil),
			want: []string{"L/80 adopted x lent", "A/1 adopted x lent"},
		},
		"Resumed": {
			reason:  "what is marked already is not marked again",
			options: Options{Adopt: "x"}, observed: []Resource{have("L", "80", lent("x"))},
			found: found(func(f *Adoptable) { f.Resources[1] = have("L", "80", lent("x")) }),
			want:  []string{"A/1 adopted x lent"},
		},
		"TakenOver": {
			reason:  "the balancer first, then everything, then that everything is",
			options: Options{TakeOver: true}, found: found(madeForUs),
			want: []string{"A/1 adopted x", "L/80", "L/9443", "A/1"},
		},
		"TakingOver": {
			reason:   "what was begun is finished, whatever the options say now",
			observed: []Resource{have("A", "1", id("x"), claimed), have("L", "80")},
			found:    found(func(f *Adoptable) { f.Resources[1] = have("L", "80") }, of(us), claimed),
			want:     []string{"L/9443", "A/1"},
		},
		"Gone": {
			reason:   "what was begun and is gone is not waited for",
			observed: []Resource{have("A", "1", id("x"), claimed)},
		},
		"Offered": {
			reason: "nobody has decided", found: found(madeForUs),
			want: []string{"blocked Offered x"},
		},
		"Several": {
			reason:  "which one is not the core's to choose",
			options: Options{TakeOver: true}, found: append(found(madeForUs), found(func(f *Adoptable) {
				madeForUs(f)
				f.ID, f.Resources[0].ID = "y", "y"
			})...),
			want: []string{"blocked Offered x", "blocked Offered y"},
		},
		"OfferTaken": {
			reason: "another Service has it, so it is not offered", found: found(madeForUs, of(them)),
		},
		"NoConsent": {
			reason:  "a consent for another Service is none",
			options: Options{Adopt: "x"}, found: found(func(f *Adoptable) { f.AdoptableBy = "c/shop/cart2" }),
			want: []string{"blocked Adoption x"},
		},
		"Granted": {
			reason:  "the class consents in the owner's place",
			options: Options{Adopt: "x", Granted: true}, found: found(func(f *Adoptable) { f.AdoptableBy = "" }),
			want: []string{"L/80 adopted x lent", "A/1 adopted x lent"},
		},
		"OtherID": {
			reason:  "a provider that tells of another one than was asked for is not believed",
			options: Options{Adopt: "y"}, found: found(nil),
			want: []string{"blocked Adoption y"},
		},
		"NoBalancer": {
			reason:  "nor one that does not say what the balancer is",
			options: Options{Adopt: "x"}, found: found(func(f *Adoptable) { f.Resources = f.Resources[1:] }),
			want: []string{"blocked Adoption x"},
		},
		"Taken": {
			reason:  "consent or not, it is another Service's",
			options: Options{Adopt: "x", Granted: true}, found: found(nil, of(them)),
			want: []string{"blocked Adoption x"},
		},
		"TakenBack": {
			reason:  "what an earlier Service of the name left behind needs no consent, and is taken over as a whole",
			options: Options{Adopt: "x", Retained: them.ID()}, found: found(func(f *Adoptable) {
				f.AdoptableBy = ""
				f.Resources[1].Owners, f.Resources[2].Owners = ownerIDs([]Owner{them}), ownerIDs([]Owner{earlier})
			}, of(them)),
			want: []string{"A/1 adopted x", "L/80", "A/1"},
		},
		"LentBack": {
			reason:  "what was lent to it stays so",
			options: Options{Adopt: "x", Retained: them.ID()}, found: found(func(f *Adoptable) {
				f.AdoptableBy = ""
				f.Resources[1].Owners = ownerIDs([]Owner{them})
			}, of(them), lent("x")),
			want: []string{"L/80 adopted x lent", "A/1 adopted x lent"},
		},
		"TakingBack": {
			reason:   "what was begun is finished also where the Service goes",
			options:  Options{Retained: them.ID()},
			observed: []Resource{have("A", "1", id("x"), claimed)},
			found:    found(func(f *Adoptable) { f.Resources[1].Owners = ownerIDs([]Owner{them}) }, of(us), claimed),
			want:     []string{"L/80", "A/1"},
		},
		"PartsTakenBack": {
			reason:  "what stands on it and was not the earlier Service's stays whose it is",
			options: Options{Adopt: "x", Retained: them.ID()}, found: found(func(f *Adoptable) {
				f.Resources[1].Owners = ownerIDs([]Owner{them})
			}, of(them)),
			want: []string{"A/1 adopted x", "L/80", "A/1"},
		},
		"PartTaken": {
			reason:  "a part that is wanted is another Service's",
			options: Options{Adopt: "x"}, found: found(func(f *Adoptable) { f.Resources[1].Owners = ownerIDs([]Owner{them}) }),
			want: []string{"blocked Adoption x"},
		},
		"OtherPartTaken": {
			reason:  "a part that is not wanted may be",
			options: Options{Adopt: "x"}, found: found(func(f *Adoptable) { f.Resources[2].Owners = ownerIDs([]Owner{them}) }),
			want: []string{"L/80 adopted x lent", "A/1 adopted x lent"},
		},
		"InTheWay": {
			reason:  "a part that is in the way of what is wanted is marked, so that what comes of that is seen",
			options: Options{Adopt: "x"}, found: found(func(f *Adoptable) {
				f.Resources[1] = have("L", "any", foreign, on("A", "1", true), excludes("size"))
			}),
			want: []string{"L/any adopted x lent", "A/1 adopted x lent"},
		},
		"Second": {
			reason:  "the Service has a balancer",
			options: Options{Adopt: "x"}, observed: []Resource{have("A", "1")}, found: found(nil),
			want: []string{"blocked Adoption x"},
		},
		"Pending": {
			reason:  "nothing is marked while the cloud is still at it",
			options: Options{Adopt: "x"}, found: found(nil, in(StatePending)),
			want: []string{"waiting A/1"},
		},
		"Failed": {
			reason:  "what has failed is not adopted",
			options: Options{Adopt: "x"}, found: found(nil, in(StateFailed)),
			want: []string{"blocked Adoption x"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a := planAdoption(us, desired, tc.observed, tc.found, tc.options)
			var got []string
			for _, op := range a.operations {
				line := op.Resource.Name()
				if op.Resource.Adopted != "" {
					line += " adopted " + op.Resource.Adopted
				}
				if op.Resource.Lent {
					line += " lent"
				}
				got = append(got, line)
			}
			for _, b := range a.blocked {
				got = append(got, "blocked "+string(b.Reason)+" "+b.Resource)
			}
			for _, w := range a.waiting {
				got = append(got, "waiting "+w)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestTargetsOfWhatIsLent: where what else the Service wants is not known, what is not desired is not let go, nor what it sends to; what is
// desired follows the nodes.
func TestTargetsOfWhatIsLent(t *testing.T) {
	observed := []Resource{
		have("A", "1", lent("a-1")),
		have("S", "1", lent("a-1"), targets("x"), on("A", "1", true)),
		have("S", "2", lent("a-1"), targets("x"), on("A", "1", true)),
	}
	for name, tc := range map[string]struct {
		desired []Resource
		want    []string
	}{
		"Nothing":     {nil, nil},
		"AnotherPort": {[]Resource{want("A", "1"), want("S", "3", targets("x"), on("A", "1", true))}, nil},
		"OneOfTwo":    {[]Resource{want("A", "1"), want("S", "2", targets("x", "y"), on("A", "1", true))}, []string{"S/2 +1 -0"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := Compare(us, tc.desired, observed, Options{TargetsOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, op := range out.Left.Operations {
				got = append(got, fmt.Sprintf("%s +%d -%d", op.Resource.Name(), len(op.Add), len(op.Remove)))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("changes of targets (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTargetsOfWhatIsShared: nor where something Fixed was changed, too, and everything is held.
func TestTargetsOfWhatIsShared(t *testing.T) {
	desired := []Resource{want("A", "1", fixed, attribute("shape", "square"), on("S", "1", false)), want("S", "1", shared, targets("x"))}
	observed := []Resource{have("A", "1", on("S", "1", false), on("S", "2", false)), have("S", "1", shared, targets("x")), have("S", "2", shared, targets("x"))}
	for only, changes := range map[bool]int{true: 0, false: 1} {
		out, err := Compare(us, desired, observed, Options{TargetsOnly: only})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(out.Left.Operations); got != changes {
			t.Errorf("TargetsOnly %t: %d operations, want %d: %v", only, got, changes, out.Left.Operations)
		}
	}
}

// TestWhose: whoever may not adopt learns at once whose it is.
func TestWhose(t *testing.T) {
	found := []Adoptable{{ID: "x", Resources: []Resource{have("A", "1", id("x"), of(them))}}}
	for name, tc := range map[string]struct {
		owners   []OwnerID
		services map[string]string
		want     string
	}{
		"Named":   {ownerIDs([]Owner{them}), map[string]string{"v": "shop/basket"}, "it belongs to Service shop/basket: "},
		"Gone":    {ownerIDs([]Owner{them}), map[string]string{}, "it belongs to a Service that is gone (UID v): "},
		"Unknown": {ownerIDs([]Owner{them}), nil, "it belongs to another Service (UID v): "},
		"Cluster": {[]OwnerID{"d/v"}, map[string]string{"v": "shop/basket"}, "it belongs to a Service of another cluster (d): "},
		"Several": {ownerIDs([]Owner{earlier, us, them}), map[string]string{"a": "shop/a", "v": "shop/v"}, "it belongs to Service shop/a and Service shop/v: "},
	} {
		found[0].Resources[0].Owners = tc.owners
		a := planAdoption(us, []Resource{want("A", "1")}, nil, found, Options{Adopt: "x", Services: tc.services})
		if len(a.blocked) != 1 || !strings.Contains(a.blocked[0].Message, tc.want) || strings.Contains(a.blocked[0].Message, "consent") {
			t.Errorf("%s: got %+v, want %q", name, a.blocked, tc.want)
		}
	}
}

func TestAdoptionOptions(t *testing.T) {
	class := &v1alpha1.LoadBalancerClassSpec{Adoption: &v1alpha1.Adoption{TakeOver: v1alpha1.TakeOverAutomatic,
		Grants: []v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{"x", "y"}}, {Namespace: "shop", Name: "till", IDs: []string{"z"}}}}}
	for name, tc := range map[string]struct {
		annotations map[string]string
		class       *v1alpha1.LoadBalancerClassSpec
		want        Options
		wrong       string
	}{
		"Nothing":  {nil, nil, Options{}, ""},
		"Granted":  {map[string]string{v1alpha1.AnnotationAdopt: "y"}, class, Options{Adopt: "y", Granted: true, TakeOver: true}, ""},
		"Another":  {map[string]string{v1alpha1.AnnotationAdopt: "z"}, class, Options{Adopt: "z", TakeOver: true}, ""},
		"NoClass":  {map[string]string{v1alpha1.AnnotationAdopt: "y"}, nil, Options{Adopt: "y"}, ""},
		"None":     {map[string]string{v1alpha1.AnnotationAdopt: "None", v1alpha1.AnnotationShare: "web"}, nil, Options{Adopt: "None"}, ""},
		"Together": {map[string]string{v1alpha1.AnnotationAdopt: "y", v1alpha1.AnnotationShare: "web"}, nil, Options{Adopt: "y"}, "remove one of them"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := balancer(nil)
			svc.Namespace, svc.Name, svc.Annotations = "shop", "cart", tc.annotations
			got, err := ParseOptions(svc, tc.class)
			if (err != nil) != (tc.wrong != "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("error %v, want %q", err, tc.wrong)
			}
			tc.want.Policy, tc.want.Replacement = v1alpha1.PolicyApply, v1alpha1.ReplacementNever
			if !cmp.Equal(tc.want, got) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}
