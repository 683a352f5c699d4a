package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/test/apiserver"
)

// balancer is a Service of the type, and its record as of before edit changed the Service.
func balancer(edit func(*corev1.Service, *v1alpha1.LoadBalancerRecord)) (*corev1.Service, *v1alpha1.LoadBalancerRecord) {
	svc := service("web", 0)
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	record := &v1alpha1.LoadBalancerRecord{Status: v1alpha1.LoadBalancerRecordStatus{ServiceUID: svc.UID, Provider: "fake", LoadBalancerClass: "blue",
		Policy: v1alpha1.PolicyApply, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue,
			Reason: v1alpha1.ReasonEnsured, Message: "The cloud has what the Service asks for"}}}}
	record.Status.ServiceFingerprint = cloud.Fingerprint(svc)
	if edit != nil {
		edit(svc, record)
	}
	return svc, record
}

func unready(record *v1alpha1.LoadBalancerRecord, reason, message string) {
	c := &record.Status.Conditions[0]
	c.Status, c.Reason, c.Message = metav1.ConditionFalse, reason, message
}

func TestPlanText(t *testing.T) {
	steps := []v1alpha1.PlannedOperation{
		{Action: "Create", Kind: "Listener", Key: "tcp-443-ipv4", Reason: "missing"},
		{Action: "Update", Kind: "TargetSet", Key: "tcp-80-ipv4", Reason: "targets +1 -0"},
		{Action: "Delete", Kind: "HealthCheck", Key: "tcp-80", Reason: "no longer wanted"},
		{Action: "Adopt", Kind: "Listener", Key: "tcp-443", Reason: "asked for by id"},
	}
	cases := map[string]struct {
		reason string
		edit   func(*corev1.Service, *v1alpha1.LoadBalancerRecord)
		state  string
		want   string
	}{
		"Done": {"a Service that needs nothing says so", nil, stateDone,
			"svc/web in shop (provider fake, class blue, policy Apply): nothing to do, the cloud has what the Service asks for\n"},
		"Planned": {"the steps in their order", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			r.Status.Policy, r.Status.Plan, r.Status.LoadBalancerClass = v1alpha1.PolicyPlan, steps, ""
			unready(r, v1alpha1.ReasonPlanned, "3 operations are planned")
		}, statePlanned, `
svc/web in shop (provider fake, class -, policy Plan): 4 steps would be taken; none is, because the policy is Plan
  + Create  Listener/tcp-443-ipv4  missing
  ~ Update  TargetSet/tcp-80-ipv4  targets +1 -0
  - Delete  HealthCheck/tcp-80     no longer wanted
  = Adopt   Listener/tcp-443       asked for by id
`},
		"Outdated": {"whoever asks at once is not told the old plan as if it were the new one", func(svc *corev1.Service, _ *v1alpha1.LoadBalancerRecord) {
			svc.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Plan"}
		}, stateOutdated, `
svc/web in shop (provider fake, class blue, policy Apply): OUT OF DATE, the manager has not looked at the Service since it was changed: ask again
  Ensured: The cloud has what the Service asks for
`},
		"HeldUp": {"what is in the way is said", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			r.Status.Plan = steps[:1]
			unready(r, v1alpha1.ReasonReplacementNeeded, "Address/ipv4 (pool) cannot change in place")
		}, stateHeldUp, `
svc/web in shop (provider fake, class blue, policy Apply): something is in the way
  ReplacementNeeded: Address/ipv4 (pool) cannot change in place
  + Create  Listener/tcp-443-ipv4  missing
`},
		"IfReplaced": {"what allowing it would do is known before it is allowed", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			r.Status.ReplacementPlan = steps[2:3]
			unready(r, v1alpha1.ReasonReplacementNeeded, "Address/ipv4 (pool) cannot change in place")
		}, stateHeldUp, `
svc/web in shop (provider fake, class blue, policy Apply): something is in the way
  ReplacementNeeded: Address/ipv4 (pool) cannot change in place
  With the annotation fairlead.dev/replacement=Recreate:
  - Delete  HealthCheck/tcp-80  no longer wanted
`},
		"Retained": {"what is left in the cloud is nothing to do", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			unready(r, v1alpha1.ReasonRetained, "it stays")
		}, stateDone, `
svc/web in shop (provider fake, class blue, policy Apply): nothing to do, what it had is retained in the cloud
  Retained: it stays
`},
		"UnderWay": {"Apply is at it", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			r.Status.Plan = steps[:1]
			unready(r, v1alpha1.ReasonPending, "Waiting for the cloud")
		}, stateUnderWay, `
svc/web in shop (provider fake, class blue, policy Apply): 1 step is being taken
  + Create  Listener/tcp-443-ipv4  missing
`},
		"Drift": {"what others changed", func(_ *corev1.Service, r *v1alpha1.LoadBalancerRecord) {
			r.Status.Policy, r.Status.Plan = v1alpha1.PolicyPlan, steps[1:2]
			r.Status.Drift = &v1alpha1.Drift{State: v1alpha1.DriftFound, FoundAt: metav1.NewTime(now), More: 2,
				Resources: []v1alpha1.DriftedResource{{Kind: "TargetSet", Key: "tcp-80-ipv4", Difference: "1 targets missing, 0 too many"}}}
			unready(r, v1alpha1.ReasonPlanned, "1 operations are planned")
		}, statePlanned, `
svc/web in shop (provider fake, class blue, policy Plan): 1 step would be taken; none is, because the policy is Plan
  ~ Update  TargetSet/tcp-80-ipv4  targets +1 -0
  Changed by somebody else, found 2026-01-02T03:04:05Z:
  !  TargetSet/tcp-80-ipv4  1 targets missing, 0 too many
  !  and 2 more
`},
		"Earlier": {"the record is of a Service of this name that is gone", func(svc *corev1.Service, _ *v1alpha1.LoadBalancerRecord) {
			svc.UID = "another"
		}, stateUnserved, "svc/web in shop: no LoadBalancerRecord: it is not served by Fairlead, or the manager has not seen it yet\n"},
		"Refused": {"the Service says why, where nothing was begun", func(svc *corev1.Service, _ *v1alpha1.LoadBalancerRecord) {
			svc.UID = "another"
			svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionLoadBalancerReady, Reason: v1alpha1.ReasonInvalidService, Message: "SCTP is not known"}}
		}, stateHeldUp, "svc/web in shop: something is in the way\n  InvalidService: SCTP is not known\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			svc, record := balancer(tc.edit)
			entry := planOf(svc, record, nil)
			if entry.State != tc.state {
				t.Errorf("state %s, want %s", entry.State, tc.state)
			}
			var out bytes.Buffer
			if err := printPlans(&out, []planEntry{entry}, "text"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), out.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestUnserved: a Service that nobody looks at is told why, as far as its class tells.
func TestUnserved(t *testing.T) {
	accepted := func(className string, isDefault bool, status metav1.ConditionStatus) v1alpha1.LoadBalancerClass {
		c := v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "blue"}, Spec: v1alpha1.LoadBalancerClassSpec{ClassName: className, Default: isDefault}}
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: status, Reason: "ProviderUnknown", Message: "choose one of fake"}}
		return c
	}
	for name, tc := range map[string]struct {
		class   string
		classes []v1alpha1.LoadBalancerClass
		want    string
	}{
		"NoSuchClass":  {"fairlead.dev/bleu", []v1alpha1.LoadBalancerClass{accepted("fairlead.dev/blue", false, metav1.ConditionTrue)}, `"fairlead.dev/bleu"`},
		"NotAccepted":  {"fairlead.dev/blue", []v1alpha1.LoadBalancerClass{accepted("fairlead.dev/blue", false, metav1.ConditionFalse)}, "not accepted (ProviderUnknown): choose one of fake"},
		"Accepted":     {"fairlead.dev/blue", []v1alpha1.LoadBalancerClass{accepted("fairlead.dev/blue", false, metav1.ConditionTrue)}, ""},
		"NoDefault":    {"", []v1alpha1.LoadBalancerClass{accepted("fairlead.dev/blue", false, metav1.ConditionTrue)}, "no LoadBalancerClass is the default"},
		"NotReadable":  {"fairlead.dev/bleu", nil, ""},
		"NoneAtAll":    {"fairlead.dev/bleu", []v1alpha1.LoadBalancerClass{}, `"fairlead.dev/bleu"`},
		"DefaultFails": {"", []v1alpha1.LoadBalancerClass{accepted("fairlead.dev/blue", true, metav1.ConditionFalse)}, "not accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			svc, _ := balancer(func(svc *corev1.Service, _ *v1alpha1.LoadBalancerRecord) {
				if tc.class != "" {
					svc.Spec.LoadBalancerClass = &tc.class
				}
			})
			entry := planOf(svc, nil, tc.classes)
			var out bytes.Buffer
			if err := printPlans(&out, []planEntry{entry}, "text"); err != nil {
				t.Fatal(err)
			}
			if entry.State != stateUnserved || (tc.want == "") != (entry.Message == "") || !strings.Contains(out.String(), tc.want) {
				t.Errorf("got %+v and %q, want %q", entry, out.String(), tc.want)
			}
		})
	}
}

func TestPlanMistakes(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"Help":      {[]string{"plan", "-h"}, exitFine, "fairlead.dev/policy=Plan"},
		"Format":    {[]string{"plan", "svc/web", "-o", "yaml"}, exitFailed, "neither text nor json"},
		"Kind":      {[]string{"plan", "pod/web"}, exitFailed, "write svc/NAME"},
		"NoName":    {[]string{"plan", "svc/"}, exitFailed, "write svc/NAME"},
		"AllAndOne": {[]string{"plan", "web", "-A"}, exitFailed, "neither names nor a namespace"},
		"Flag":      {[]string{"plan", "web", "--wide"}, exitFailed, "-wide"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &out); code != tc.code || !strings.Contains(out.String(), tc.want) {
				t.Errorf("exit code %d and %q, want %d and %q", code, out.String(), tc.code, tc.want)
			}
		})
	}
}

// TestPlan asks a real API server, by way of a kubeconfig: by name, for a namespace, and for all.
func TestPlan(t *testing.T) {
	w := apiserver.New(t)
	file := kubeconfig(t, w.Config)
	ask := func(code int, args ...string) []planEntry {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := run(t.Context(), append([]string{"plan", "-kubeconfig", file, "-o", "json"}, args...), &stdout, &stderr); got != code {
			t.Fatalf("%v: exit code %d, want %d: %s", args, got, code, stderr.String())
		}
		var entries []planEntry
		if code != exitFailed {
			w.Must(json.Unmarshal(stdout.Bytes(), &entries))
		}
		return entries
	}
	made := map[string]*corev1.Service{}
	for name, serviceType := range map[string]corev1.ServiceType{"a": corev1.ServiceTypeLoadBalancer, "b": corev1.ServiceTypeLoadBalancer, "c": corev1.ServiceTypeClusterIP} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
			Spec: corev1.ServiceSpec{Type: serviceType, Ports: []corev1.ServicePort{{Port: 80}}}}
		w.Make(svc)
		t.Cleanup(func() { w.Must(w.Delete(context.Background(), svc)) })
		made[name] = svc
	}
	record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "a"}}
	record.Status = v1alpha1.LoadBalancerRecordStatus{ServiceUID: made["a"].UID, ServiceFingerprint: cloud.Fingerprint(made["a"]), Provider: "fake", Policy: v1alpha1.PolicyApply,
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEnsured,
			LastTransitionTime: metav1.Now()}}}
	w.Make(record)

	ask(exitFailed, "-n", w.Namespace, "svc/c")
	ask(exitFailed, "-n", w.Namespace, "svc/d")
	if got := ask(exitFine, "svc/a", "-n", w.Namespace); len(got) != 1 || got[0].State != stateDone {
		t.Errorf("a is %+v", got)
	}
	got := ask(exitFindings, "b", "service/a", "--namespace", w.Namespace)
	if len(got) != 2 || got[0].Name != "b" || got[0].State != stateUnserved || got[1].Name != "a" {
		t.Errorf("in the order of their names: %+v", got)
	}
	for _, args := range [][]string{{"-n", w.Namespace}, {"--all-namespaces"}} {
		if got := ask(exitFindings, args...); len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
			t.Errorf("%v: %+v", args, got)
		}
	}
	// A change of the spec that the manager has not seen.
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(made["a"]), made["a"]))
	made["a"].Spec.Ports[0].Port = 81
	w.Must(w.Update(t.Context(), made["a"]))
	if got := ask(exitFindings, "a", "-n", w.Namespace); got[0].State != stateOutdated {
		t.Errorf("after a change: %+v", got[0])
	}
}
