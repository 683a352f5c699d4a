package loadbalancer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// sweeping runs a manager that sweeps all the time.
func (w *world) sweeping() {
	w.Helper()
	w.stop()
	r := &Reconciler{Providers: w.providers(), ClusterID: "test", Coexist: true, Resync: 200 * time.Millisecond}
	w.stop = w.Start(w.caches, r.SetupWithManager)
}

// drift polls for what a record says, without times.
func (w *world) drift(svc *corev1.Service, want v1alpha1.Drift) *v1alpha1.LoadBalancerRecord {
	w.Helper()
	record := &v1alpha1.LoadBalancerRecord{}
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), record); err != nil {
			return err
		}
		if record.Status.Drift == nil {
			return fmt.Errorf("the record knows of no drift")
		}
		got := *record.Status.Drift.DeepCopy()
		if got.FoundAt.IsZero() || (got.RepairedAt != nil) != (got.State == v1alpha1.DriftRepaired) {
			return fmt.Errorf("times do not fit: %+v", got)
		}
		got.FoundAt, got.RepairedAt = metav1.Time{}, nil
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("drift (-want +got):\n%s", diff)
		}
		return nil
	})
	return record
}

// object returns the only one of a kind.
func (w *world) object(kind string) fake.Object {
	w.Helper()
	objects := w.objects()
	i := slices.IndexFunc(objects, func(o fake.Object) bool { return o.Kind == kind })
	if i < 0 {
		w.Fatalf("there is no %s", kind)
	}
	return objects[i]
}

// lists waits for so many more sweeps.
func (w *world) lists(n int) {
	w.Helper()
	before := w.countReads()
	w.Eventually(func() error {
		if got := w.countReads() - before; got < n {
			return fmt.Errorf("%d reads of the cloud, want %d", got, n)
		}
		return nil
	})
}

// TestDriftIsShownAndRepaired changes and deletes what a Service has in the cloud.
func TestDriftIsShownAndRepaired(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	w.sweeping()
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	counted := apiserver.Metric(t, "fairlead_loadbalancer_drift_total", fake.KindListener)

	w.Must(w.cloud.Delete(t.Context(), w.object(fake.KindListener).ID))
	_, err := w.cloud.Update(t.Context(), fake.Object{ID: w.object(fake.KindHealthCheck).ID, Kind: fake.KindHealthCheck,
		Fields: map[string]string{"intervalSeconds": "99"}})
	w.Must(err)
	w.drift(svc, v1alpha1.Drift{State: v1alpha1.DriftRepaired, Resources: []v1alpha1.DriftedResource{
		{Kind: fake.KindHealthCheck, Key: "tcp-80", Difference: "intervalSeconds changed"},
		{Kind: fake.KindListener, Key: "tcp-80-ipv4", Difference: "gone"},
	}})
	if got := w.object(fake.KindHealthCheck).Fields["intervalSeconds"]; got != "1" {
		t.Errorf("the health check asks every %s s", got)
	}
	w.object(fake.KindListener)
	w.Eventually(func() error {
		if got := w.events("cart")[EventDrifted]; got != 1 {
			return fmt.Errorf("%d events of drift, want 1: %v", got, w.events("cart"))
		}
		return nil
	})
	if got := apiserver.Metric(t, "fairlead_loadbalancer_drift_total", fake.KindListener) - counted; got != 1 {
		t.Errorf("%v listeners were counted", got)
	}

	// Sweeps that find nothing write nothing.
	record, writes := w.record(svc), w.countWrites()
	w.lists(5)
	if got := w.record(svc); got.ResourceVersion != record.ResourceVersion {
		t.Errorf("the record was written again: %+v", got.Status)
	}
	if got := w.countWrites() - writes; got != 0 {
		t.Errorf("the cloud was written to %d times", got)
	}
}

// TestDriftUnderPlan is shown and left, until somebody puts it right.
func TestDriftUnderPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.sweeping()
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: string(v1alpha1.PolicyPlan)}
	})
	w.Eventually(func() error {
		if policy := w.record(svc).Status.Policy; policy != v1alpha1.PolicyPlan {
			return fmt.Errorf("the policy is %s", policy)
		}
		return nil
	})
	w.lists(3)
	if drift := w.record(svc).Status.Drift; drift != nil {
		t.Fatalf("drift before anything changed: %+v", drift)
	}

	check := w.object(fake.KindHealthCheck)
	set := func(seconds string) {
		_, err := w.cloud.Update(t.Context(), fake.Object{ID: check.ID, Kind: check.Kind, Fields: map[string]string{"intervalSeconds": seconds}})
		w.Must(err)
	}
	set("99")
	want := v1alpha1.Drift{State: v1alpha1.DriftFound, Resources: []v1alpha1.DriftedResource{
		{Kind: fake.KindHealthCheck, Key: "tcp-80", Difference: "intervalSeconds changed"}}}
	record := w.drift(svc, want)
	if len(record.Status.Plan) != 1 || record.Status.Plan[0].Action != "Update" {
		t.Errorf("the plan is %+v", record.Status.Plan)
	}
	w.lists(5)
	if got := w.object(fake.KindHealthCheck).Fields["intervalSeconds"]; got != "99" {
		t.Errorf("under Plan it was changed to %s", got)
	}
	if again := w.record(svc); again.ResourceVersion != record.ResourceVersion {
		t.Errorf("the record was written again: %+v", again.Status)
	}
	if got := w.events("cart")[EventDrifted]; got != 1 {
		t.Errorf("%d events of drift, want 1", got)
	}
	set("1")
	want.State = v1alpha1.DriftRepaired
	w.drift(svc, want)
}

// TestNoDriftOfOurs: what the manager changes itself is never drift, also where the cloud shows it late.
func TestNoDriftOfOurs(t *testing.T) {
	const services, lag = 10, 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, services, 1, fake.Options{}, func(c *cloud.Capabilities) { c.ReadLag = lag })
		sweep := func() {
			provider, err := m.Providers.Get(fake.Name)
			if err == nil {
				_, err = (&sweepReconciler{m.Reconciler}).list(t.Context(), fake.Name, provider)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		found := func() (count int) {
			for _, e := range m.ledger.all(fake.Name) {
				if e.found != nil {
					count++
				}
			}
			return count
		}
		time.Sleep(2 * lag)
		sweep() // the first one
		p, err := m.Providers.Get(fake.Name)
		if err != nil {
			t.Fatal(err)
		}
		old, err := p.List(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		if wait := m.syncNodes(t.Context(), fake.Name, machines(2)); wait != 0 {
			t.Fatal(wait)
		}
		seen := &snapshot{owners: map[cloud.OwnerID][]cloud.Resource{}}
		for _, r := range old {
			seen.owners[r.Owners[0]] = append(seen.owners[r.Owners[0]], r)
		}
		// A list that began a second later may still show what was before.
		time.Sleep(time.Second)
		m.findDrift(fake.Name, p, seen, time.Now())
		if got := found(); got != 0 || len(m.woken) != 0 {
			t.Errorf("%d Services drifted by our own change, woken: %v", got, m.woken)
		}
		// One that began after that shows what somebody undid.
		time.Sleep(lag)
		m.findDrift(fake.Name, p, seen, time.Now())
		if got := found(); got != services || len(m.woken) != services {
			t.Errorf("%d of %d Services drifted, woken: %v", got, services, m.woken)
		}
		for _, e := range m.ledger.all(fake.Name) {
			if got := e.found.Resources; len(got) != 1 || got[0].Difference != "1 targets missing, 0 too many" {
				t.Errorf("it says %+v", got)
			}
		}
	})
}

func TestDriftAfter(t *testing.T) {
	at := func(minute int) metav1.Time { return metav1.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	found := func(minute int) *v1alpha1.Drift {
		return &v1alpha1.Drift{State: v1alpha1.DriftFound, FoundAt: at(minute)}
	}
	repaired := func(minute int) *v1alpha1.Drift {
		d := found(minute)
		d.State = v1alpha1.DriftRepaired
		return d
	}
	cases := map[string]struct {
		reason string
		last   *v1alpha1.Drift
		res    result
		want   *v1alpha1.Drift
	}{
		"None":       {"nothing was ever found", nil, result{status: metav1.ConditionTrue, observed: true}, nil},
		"Repaired":   {"found and put right in one pass", nil, result{status: metav1.ConditionTrue, observed: true, drift: found(1)}, repaired(1)},
		"Plan":       {"found and left", nil, result{status: metav1.ConditionFalse, observed: true, drift: found(1)}, found(1)},
		"LaterRight": {"a later pass sees it right", found(1), result{status: metav1.ConditionTrue, observed: true}, repaired(1)},
		"Unseen":     {"a pass that could not look knows nothing", found(1), result{status: metav1.ConditionTrue}, found(1)},
		"Known":      {"what was told is not told again", repaired(2), result{status: metav1.ConditionFalse, observed: true, drift: found(2)}, repaired(2)},
		"ClockBack":  {"the clock was set back, or is another machine's", repaired(2), result{status: metav1.ConditionFalse, observed: true, drift: found(1)}, found(1)},
		"Again":      {"the next one takes its place", repaired(1), result{status: metav1.ConditionFalse, observed: true, drift: found(2)}, found(2)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := driftAfter(tc.last, tc.res)
			if got != nil && (got.RepairedAt != nil) != (got.State == v1alpha1.DriftRepaired) && got != tc.last {
				t.Errorf("repaired at %v in state %s", got.RepairedAt, got.State)
			}
			if got != nil {
				got = got.DeepCopy()
				got.RepairedAt = nil
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestDriftIsBounded(t *testing.T) {
	e := &entry{looked: true, provider: "none"}
	for i := range v1alpha1.MaxDriftedResources + 3 {
		e.observed = append(e.observed, cloud.Resource{Kind: "Listener", Key: fmt.Sprintf("%02d", i), ID: fmt.Sprint(i)})
	}
	e.note(nil, nil, time.Now())
	if len(e.found.Resources) != v1alpha1.MaxDriftedResources || e.found.More != 3 || !strings.HasPrefix(e.found.Resources[0].Key, "00") {
		t.Errorf("%d listed, %d more, the first %s", len(e.found.Resources), e.found.More, e.found.Resources[0].Key)
	}
}

// TestDriftWhileNobodyRan: what went and came meanwhile is told at the start, from what the record knows and the first list.
func TestDriftWhileNobodyRan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	changed := w.service("changed", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 })
	w.reason(changed, v1alpha1.ReasonEnsured)
	w.stop()
	for _, o := range w.objects() {
		if o.Kind == fake.KindListener {
			w.Must(w.cloud.Delete(t.Context(), o.ID))
		}
	}
	annotate(w, changed, "example.com/seen", "later") // the Service is another one than the record's
	reads := w.countReads()
	w.start()
	w.drift(svc, v1alpha1.Drift{State: v1alpha1.DriftRepaired, Resources: []v1alpha1.DriftedResource{
		{Kind: fake.KindListener, Key: "tcp-80-ipv4", Difference: "gone"}}})
	w.Eventually(func() error {
		if got := w.events(svc.Name)[EventDrifted]; got != 1 {
			return fmt.Errorf("%d events of drift, want 1", got)
		}
		if got := w.kinds()[fake.KindListener]; got != 2 {
			return fmt.Errorf("there are %d listeners", got)
		}
		return nil
	})
	w.reason(changed, v1alpha1.ReasonEnsured)
	if drift := w.record(changed).Status.Drift; drift != nil {
		t.Errorf("of a Service that changed meanwhile it says %+v", drift)
	}
	// One list, and for each Service a look before and one after the change.
	if got := w.countReads() - reads; got != 5 {
		t.Errorf("%d reads of the cloud, want 5", got)
	}
}

// TestNotToldAtTheStart: where the record may be older than the cloud, or the other way round, nothing is told.
func TestNotToldAtTheStart(t *testing.T) {
	const lag = 10 * time.Second
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	at := metav1.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		reason string
		edit   func(*v1alpha1.LoadBalancerRecord)
		after  time.Duration
		want   bool
	}{
		"Gone":     {"the record knows it, the cloud does not", nil, time.Hour, true},
		"NotReady": {"the last pass came to no end", func(r *v1alpha1.LoadBalancerRecord) { r.Status.Conditions[0].Status = metav1.ConditionFalse }, time.Hour, false},
		"Changed":  {"the Service is another one", func(r *v1alpha1.LoadBalancerRecord) { r.Status.ServiceFingerprint = "other" }, time.Hour, false},
		"Fresh":    {"the cloud may not show yet what was made last", nil, lag, false},
		"Seen":     {"it does by then", nil, lag + 2*time.Second, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			record := &v1alpha1.LoadBalancerRecord{Status: v1alpha1.LoadBalancerRecordStatus{ServiceFingerprint: cloud.Fingerprint(svc),
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
				Resources:  []v1alpha1.OwnedResource{{Kind: "Listener", Key: "tcp-80", ID: "listener-1"}}}}
			record.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "other", Time: &metav1.Time{Time: at.Add(time.Minute)}}, {Manager: FieldManager, Time: &at}}
			if tc.edit != nil {
				tc.edit(record)
			}
			e := &entry{provider: "none"}
			e.noteSince(&view{service: svc, record: record}, nil, at.Add(tc.after), lag)
			if got := e.found != nil; got != tc.want {
				t.Errorf("%s: told: %v", tc.reason, got)
			}
		})
	}
}
