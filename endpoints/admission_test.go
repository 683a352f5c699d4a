package endpoints

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestAdmission: an admission webhook changes slices on their way, or takes a write back whole, so that it makes no new
// version; events have what it made, answers what was sent. The layout goes by what was sent, whichever it hears first,
// until somebody writes again, and stays in order: it plans what a fresh one would.
func TestAdmission(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			a := &admission{
				random: rand.New(rand.NewPCG(seed, 9)), layout: NewLayout(opts(4)), pods: map[int]*corev1.Pod{},
				sent: map[string]*discoveryv1.EndpointSlice{}, stored: map[string]*discoveryv1.EndpointSlice{},
			}
			for range 60 {
				a.step(t)
			}
		})
	}
}

type admission struct {
	random  *rand.Rand
	layout  *Layout
	pods    map[int]*corev1.Pod
	version int
	// sent are the slices as the layout has to believe them, stored as the API server has them.
	sent, stored map[string]*discoveryv1.EndpointSlice
}

func (a *admission) step(t *testing.T) {
	for range a.random.IntN(8) {
		i := a.random.IntN(20)
		if a.pods[i] = newPod(i, setReady(a.random.IntN(2) == 0)); a.random.IntN(2) == 0 {
			delete(a.pods, i)
		}
	}
	set := setOf(newService(), slices.Collect(maps.Values(a.pods)))
	fresh := NewLayout(opts(4))
	for _, slice := range a.sent {
		fresh.Observe(slice)
	}
	want, plan := fresh.Plan(set, Pass{}), a.layout.Plan(set, Pass{})
	if !reflect.DeepEqual(want, plan) {
		t.Fatalf("not what a fresh layout plans:\n%s", cmp.Diff(want, plan))
	}
	for _, write := range plan.Writes {
		a.write(write)
	}
	if names := slices.Sorted(maps.Keys(a.stored)); len(names) > 0 && a.random.IntN(4) == 0 {
		// Somebody writes without changing anything, which shows what there is.
		name := names[a.random.IntN(len(names))]
		a.version++
		a.stored[name].ResourceVersion = fmt.Sprint(a.version)
		a.sent[name] = a.stored[name].DeepCopy()
		a.layout.Observe(a.sent[name])
	}
}

func (a *admission) write(write Write) {
	name := write.Slice.Name
	if write.Verb == Delete {
		delete(a.sent, name)
		delete(a.stored, name)
		a.layout.Wrote(write, nil)
		return
	}
	a.version++
	made := write.Slice.DeepCopy()
	if made.ResourceVersion = fmt.Sprint(a.version); made.UID == "" {
		made.UID = types.UID("uid-" + made.ResourceVersion)
	}
	switch now := a.stored[name]; a.random.IntN(6) {
	case 0:
		made.Endpoints = made.Endpoints[:len(made.Endpoints)/2]
	case 1:
		made.Endpoints = append(made.Endpoints, made.Endpoints...)
	case 2:
		made.Labels = map[string]string{"of": "a webhook"}
	case 3:
		for i := range made.Endpoints {
			made.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}}
		}
	case 4:
		if now != nil {
			made = now.DeepCopy()
		}
	}
	a.stored[name] = made
	answer := write.Slice.DeepCopy()
	answer.ObjectMeta = *made.ObjectMeta.DeepCopy()
	a.sent[name] = answer
	a.layout.Wrote(write, answer)
	if a.random.IntN(2) == 0 {
		if made := made.DeepCopy(); a.layout.Observe(made) != Stale {
			panic("what our own write made is news")
		}
	}
}
