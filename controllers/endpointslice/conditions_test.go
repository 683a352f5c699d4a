package endpointslice

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func TestNextCondition(t *testing.T) {
	earlier := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	now := metav1.NewTime(earlier.Add(time.Hour))
	condition := func(status metav1.ConditionStatus, reason, message string, at metav1.Time) *metav1.Condition {
		return &metav1.Condition{
			Type: v1alpha1.ConditionPortsResolved, Status: status, Reason: reason, Message: message, LastTransitionTime: at, ObservedGeneration: 4,
		}
	}
	missing := condition(metav1.ConditionFalse, v1alpha1.ReasonTargetPortMissing, "a", earlier)
	resolved := condition(metav1.ConditionTrue, v1alpha1.ReasonResolved, "every Pod has every targetPort", earlier)
	cases := map[string]struct {
		reason  string
		current *metav1.Condition
		wanted  wantedCondition
		want    *metav1.Condition
	}{
		"NeverNeeded": {
			reason: "A Service whose ports always resolved has no condition.",
		},
		"Missing": {
			reason: "A missing port is said.",
			wanted: wantedCondition{message: "a"}, want: condition(metav1.ConditionFalse, v1alpha1.ReasonTargetPortMissing, "a", now),
		},
		"MissingOther": {
			reason:  "Another message is no transition.",
			current: missing, wanted: wantedCondition{message: "b"}, want: condition(metav1.ConditionFalse, v1alpha1.ReasonTargetPortMissing, "b", earlier),
		},
		"Resolved": {
			reason:  "What was said is taken back.",
			current: missing, want: condition(metav1.ConditionTrue, v1alpha1.ReasonResolved, "every Pod has every targetPort", now),
		},
		"StaysResolved": {
			reason:  "And stays so.",
			current: resolved, want: resolved,
		},
		"Unknown": {
			reason:  "Without Pods it stays as it is.",
			current: missing, wanted: wantedCondition{unknown: true}, want: missing,
		},
		"NoSelector": {
			reason:  "A Service without a selector has none.",
			current: missing, wanted: wantedCondition{none: true},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Generation: 4}}
			tc.wanted.kind = portsResolved
			got := nextCondition(service, tc.current, tc.wanted, now)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}
