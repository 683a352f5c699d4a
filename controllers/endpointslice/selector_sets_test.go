package endpointslice

import (
	"fmt"
	"math/rand/v2"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// TestInSets: looked up in sets, selectors match what they matched.
func TestInSets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	value := func() string { return fmt.Sprint("v", random.IntN(40)) }
	looked, matched := 0, 0
	for range 300 {
		s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
		if random.IntN(8) == 0 {
			s.MatchLabels["a"] = value()
		}
		for range 1 + random.IntN(3) {
			e := metav1.LabelSelectorRequirement{Key: string("abc"[random.IntN(3)]), Operator: metav1.LabelSelectorOpExists}
			if random.IntN(6) > 0 {
				e.Operator = metav1.LabelSelectorOpIn
				for range 1 + random.IntN(60) {
					e.Values = append(e.Values, value())
				}
				if random.IntN(2) == 0 {
					e.Operator = metav1.LabelSelectorOpNotIn
				}
			}
			s.MatchExpressions = append(s.MatchExpressions, e)
		}
		usual, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		quick := inSets(usual)
		if _, ok := quick.(*setSelector); ok {
			looked++
		}
		for range 50 {
			of := labels.Set{}
			for _, key := range []string{"a", "b", "c"} {
				if random.IntN(4) > 0 {
					of[key] = value()
				}
			}
			want := usual.Matches(of)
			if want {
				matched++
			}
			if got := quick.Matches(of); got != want {
				t.Fatalf("%s of %s: %v, want %v", usual, of, got, want)
			}
		}
	}
	if looked < 100 || matched < 1000 {
		t.Errorf("only %d selectors were looked up in sets, and only %d of 15000 Pods matched", looked, matched)
	}
}

// BenchmarkInSets is the largest selector that the API server lets through, on a Pod that all of it matches.
func BenchmarkInSets(b *testing.B) {
	s, of := &metav1.LabelSelector{}, labels.Set{}
	for i := range 64 {
		e := metav1.LabelSelectorRequirement{Key: fmt.Sprint("k", i), Operator: metav1.LabelSelectorOpNotIn}
		for j := range 256 {
			e.Values = append(e.Values, fmt.Sprintf("a-value-of-some-length-%03d", j))
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
		of[e.Key] = "a-value-of-some-length-256"
	}
	usual, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		b.Fatal(err)
	}
	for name, selector := range map[string]labels.Selector{"Usual": usual, "Sets": inSets(usual)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !selector.Matches(of) {
					b.Fatal("it does not match")
				}
			}
		})
	}
}
