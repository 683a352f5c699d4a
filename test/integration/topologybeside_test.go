package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// installWebhook applies the webhooks of a folder of config, which are reached at an address, until the test ends or the
// returned function is called.
//
// It may take as long as the API lets it: on a machine that stands still for a while too, no question goes unanswered.
func installWebhook(t *testing.T, folder, address string) (removeWebhook func()) {
	t.Helper()
	objects, err := kustomize(filepath.Join("config", folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() != "MutatingWebhookConfiguration" {
			continue
		}
		hooks := &admissionv1.MutatingWebhookConfiguration{}
		convert(t, object, hooks)
		for i := range hooks.Webhooks {
			c := &hooks.Webhooks[i].ClientConfig
			url := "https://" + address + *c.Service.Path
			c.Service, c.URL = nil, &url
			hooks.Webhooks[i].TimeoutSeconds = new(patientWebhook)
		}
		create(t, hooks)
		removeWebhook = func() { remove(t, hooks) }
		t.Cleanup(removeWebhook)
	}
	return removeWebhook
}

// ourWrites counts the updates of slices that the manager made so far.
func ourWrites(t *testing.T, ns string) int {
	t.Helper()
	n := 0
	for _, e := range asked(t, "fairlead-system:fairlead-manager") {
		if ref := e.ObjectRef; e.Verb == "update" && ref != nil && ref.Resource == "endpointslices" && ref.Namespace == ns && e.ResponseStatus.Code == http.StatusOK {
			n++
		}
	}
	return n
}

// besideUpstream is a Service whose slices the real kube-controller-manager writes, and whose hints the manager does.
type besideUpstream struct {
	*hinted
	upstream      *writer
	nodes         map[string]*corev1.Node
	removeWebhook func()
}

// TestTopologyBesideUpstream: the real kube-controller-manager writes the slices, at every sync without the hints, and
// they stay. Neither makes the other write without end.
func TestTopologyBesideUpstream(t *testing.T) {
	needsAPIServer(t)
	b := &besideUpstream{nodes: zoned(t)}
	address := freeAddress(t)
	b.removeWebhook = installWebhook(t, "overlays/coexist", address)
	b.upstream = startUpstream(t, "endpointslice-controller", "endpoint_slice")
	startManager(t, "--leader-elect=false", "--mode=Coexist", "--webhook-bind-address="+address)
	b.hinted = newHinted(t)
	b.expect(own)
	b.expectCondition(metav1.ConditionTrue, "BoundRaised")
	b.upstream.idle(t, 1)
	for _, step := range []struct {
		name string
		test func()
	}{
		{"Syncs", b.syncs}, {"Flap", b.flap}, {"Capacity", b.capacity}, {"DryRun", b.dryRun}, {"Strangers", b.strangers},
		{"WithoutLabel", b.withoutLabel}, {"WithoutWebhook", b.withoutWebhook},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			b.T = t
			step.test()
		}) {
			return // The next ones begin where this one was to end.
		}
	}
}

// syncs: each change of a label has every slice written, and nobody sees it without hints.
func (b *besideUpstream) syncs() {
	before := ourWrites(b.T, b.namespace)
	watch := b.watch()
	const syncs = 20
	for i := range syncs {
		b.sync(fmt.Sprint("n", i))
	}
	b.upstream.idle(b.T, 1)
	for _, seen := range watch() {
		if seen != own {
			b.Errorf("hints were %s for a while", seen)
		}
	}
	if n := ourWrites(b.T, b.namespace) - before; n > 0 {
		b.Errorf("we wrote %d times for %d syncs", n, syncs)
	}
}

// flap: an endpoint that goes costs one write of ours at most, one that comes back too.
func (b *besideUpstream) flap() {
	before := ourWrites(b.T, b.namespace)
	watch := b.watch()
	setReady(b.T, b.pods["z"][0], corev1.ConditionFalse)
	eventually(b.T, waitFor, "help for zone z", func() error {
		got, _, err := b.hints()
		if err == nil && !strings.Contains(got, "x>z 1") && !strings.Contains(got, "y>z 1") {
			err = fmt.Errorf("hints are %s", got)
		}
		return err
	})
	setReady(b.T, b.pods["z"][0], corev1.ConditionTrue)
	b.expect(own)
	b.upstream.idle(b.T, 1)
	if n := ourWrites(b.T, b.namespace) - before; n > 2 {
		b.Errorf("we wrote %d times for two changes", n)
	}
	// kube-controller-manager owns the list again with the first write after ours, which is one more version.
	versions := watch()
	if len(versions) > 6 {
		b.Errorf("two changes made %d versions: %v", len(versions), versions)
	}
	for _, seen := range versions {
		if strings.Contains(seen, ">-") {
			b.Errorf("endpoints were without hints for a while: %s", seen)
		}
	}
}

// capacity that goes is followed, too, and then there is peace.
func (b *besideUpstream) capacity() {
	setNode(b.T, b.nodes["z"], corev1.ConditionFalse, "4")
	b.expectNobodyServes("z")
	b.upstream.idle(b.T, 1)
	_, all, err := b.hints()
	if err != nil {
		b.Fatal(err)
	}
	b.upstream.idle(b.T, 1)
	_, later, err := b.hints()
	if err != nil || later[0].ResourceVersion != all[0].ResourceVersion {
		b.Errorf("the slice is written on and on (%v)", err)
	}
	setNode(b.T, b.nodes["z"], corev1.ConditionTrue, "4")
	b.expect(own)
}

// dryRun: a request that is to leave nothing behind is answered as if it were meant, and leaves nothing behind.
func (b *besideUpstream) dryRun() {
	b.upstream.idle(b.T, 1)
	before := b.expect(own)[0]
	stripped, fresh := before.DeepCopy(), before.DeepCopy()
	for i := range stripped.Endpoints {
		stripped.Endpoints[i].Hints = nil
	}
	if err := suite.admin.Update(b.Context(), stripped, client.DryRunAll); err != nil {
		b.Fatal(err)
	}
	if got := describeHints(*stripped); got != own {
		b.Errorf("an update would come to %s", got)
	}
	fresh.ObjectMeta = metav1.ObjectMeta{Namespace: b.namespace, Name: "dry", Labels: before.Labels}
	fresh.Endpoints = []discoveryv1.Endpoint{{
		Addresses: []string{"10.9.9.9"}, Zone: new("x"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
	}}
	if err := suite.admin.Create(b.Context(), fresh, client.DryRunAll); err != nil {
		b.Fatal(err)
	}
	if got := describeHints(*fresh); got != "x>x 1" {
		b.Errorf("a slice that is created would come to %s", got)
	}
	b.upstream.idle(b.T, 1)
	if after := b.expect(own); len(after) != 1 || after[0].ResourceVersion != before.ResourceVersion {
		b.Errorf("%d slices are left, the first as version %s, which was %s", len(after), after[0].ResourceVersion, before.ResourceVersion)
	}
}

// strangers write hints: the webhook has them replaced at once, and where somebody writes in our name, the leader does.
func (b *besideUpstream) strangers() {
	b.upstream.idle(b.T, 1)
	slice := b.expect(own)[0]
	swap := func() {
		for i := range slice.Endpoints {
			slice.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "nowhere"}}}
		}
	}
	swap()
	if err := suite.admin.Update(b.Context(), &slice); err != nil {
		b.Fatal(err)
	}
	if got := describeHints(slice); got != own {
		b.Errorf("a stranger's hints were made %s", got)
	}
	b.upstream.idle(b.T, 1)
	slice = b.expect(own)[0]
	swap()
	if err := suite.admin.Update(b.Context(), &slice, client.FieldOwner("fairlead-topology")); err != nil {
		b.Fatal(err)
	}
	if got := describeHints(slice); got == own {
		b.Error("the webhook does not let the leader's writes pass")
	}
	b.expect(own)
}

// withoutLabel: values of ours need the label, and the condition says so.
func (b *besideUpstream) withoutLabel() {
	b.change(func(s *corev1.Service) {
		delete(s.Labels, fairleadv1alpha1.LabelTopologyHints)
		s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/auto"
	})
	b.expect(none)
	if c := b.expectCondition(metav1.ConditionFalse, "NotLabelled"); !strings.Contains(c.Message, fairleadv1alpha1.LabelTopologyHints) {
		b.Errorf("the message %q does not say what to do", c.Message)
	}
	b.change(func(s *corev1.Service) { s.Labels[fairleadv1alpha1.LabelTopologyHints] = "true" })
	b.expect(own)
	b.expectCondition(metav1.ConditionTrue, "BoundRaised")
}

// withoutWebhook: we give up, for a while, and say so.
func (b *besideUpstream) withoutWebhook() {
	b.upstream.idle(b.T, 1)
	b.removeWebhook()
	before := ourWrites(b.T, b.namespace)
	b.change(func(s *corev1.Service) { s.Labels["sync"] = "end" })
	b.expectCondition(metav1.ConditionFalse, "HintsRemoved")
	b.expectEvent("TopologyHintsOff", "webhook")
	b.upstream.idle(b.T, 1)
	if n := ourWrites(b.T, b.namespace) - before; n > 12 {
		b.Errorf("we wrote %d times against kube-controller-manager", n)
	}
}

// TestTopologyReplicas: a replica that does not lead answers the API server just as well, and leads when the leader is
// dead. While nobody answers, slices are written without hints, which come back with the next replica.
func TestTopologyReplicas(t *testing.T) {
	needsAPIServer(t)
	zoned(t)
	address := freeAddress(t)
	installWebhook(t, "overlays/coexist", address)
	upstream := startUpstream(t, "endpointslice-controller", "endpoint_slice")
	first := startManager(t, "--mode=Coexist")
	leader := newHolder(t)
	second := startManager(t, "--mode=Coexist", "--webhook-bind-address="+address)
	h := newHinted(t)
	h.expect(own)
	kept := func(what string) {
		t.Helper()
		upstream.idle(t, 1)
		watch := h.watch()
		h.sync(what)
		upstream.idle(t, 1)
		for _, seen := range watch() {
			if seen != own {
				t.Errorf("%s: hints were %s for a while", what, seen)
			}
		}
	}
	kept("standby")
	if holder(t) != leader {
		t.Fatal("the replica that answers leads: this shows nothing")
	}
	first.kill(t)
	kept("leaderless")
	expire(t)
	newHolder(t, leader)
	setReady(t, h.pods["x"][0], corev1.ConditionFalse)
	h.expect("x>x 3, y>y 4, z>z 3")
	setReady(t, h.pods["x"][0], corev1.ConditionTrue)
	h.expect(own)

	second.kill(t)
	expire(t)
	h.sync("alone")
	h.expect(none)
	startManager(t, "--mode=Coexist", "--webhook-bind-address="+address)
	h.expect(own)
	kept("again")
}
