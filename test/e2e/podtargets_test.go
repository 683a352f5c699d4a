//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const gate = corev1.PodConditionType("target-health.fairlead.dev/direct")

// waits reports whether a Pod has the gate of its balancer, and has not passed it.
func waits(p *corev1.Pod) bool {
	has := slices.ContainsFunc(p.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == gate })
	return has && !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == gate && c.Status == corev1.ConditionTrue
	})
}

func condition(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// TestPacketsPodTargets: a balancer that sends to Pods, without node ports, loses none of 200 new connections a second while
// all Pods are replaced, twice; nor where the manager stands still in between: then no Pod passes its gate, and no old one
// goes.
func TestPacketsPodTargets(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "pod-targets.yaml")
	svc := ready(t, ns, "direct", 2)
	to := balancer(t, ns, svc.Name)
	if a := served(t, internet, to); clientAddr(t, a) != outside {
		t.Errorf("the Pod saw %s, want the client's own address", a.Client)
	}
	if port := service(t, ns, "direct").Spec.Ports[0].NodePort; port != 0 {
		t.Errorf("the Service has node port %d", port)
	}
	names := map[string]bool{}
	note := func() {
		for _, p := range pods(t, ns, "app", "direct") {
			names[p.Name] = true
			if c := condition(&p, gate); c.Status == corev1.ConditionTrue && c.Reason != "Healthy" {
				t.Errorf("%s passed with reason %s", p.Name, c.Reason)
			}
		}
	}
	note()
	all := []source{{internet, to}}
	before := retransmitted(t, all)
	l := begin(220, all...)
	for round := range 2 {
		if out, err := kubectl("rollout", "restart", "-n", ns, "deployment/direct"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if round == 1 {
			standStill(t, ns, l)
		}
		if out, err := kubectl("rollout", "status", "-n", ns, "deployment/direct", "--timeout=90s"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		note()
		eventually(t, "the end of the old Pods, and that the new ones serve", func() error {
			var list corev1.PodList
			if err := cluster.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
				return err
			}
			if len(list.Items) != 2 {
				return fmt.Errorf("%d Pods", len(list.Items))
			}
			for _, p := range list.Items {
				if !l.reached(p.Name) {
					return fmt.Errorf("%s has not served yet", p.Name)
				}
			}
			return nil
		})
	}
	lost(t, l, 200, before, all)
	if len(names) != 6 || len(l.pods) != 6 {
		t.Errorf("%d Pods there were, and %d of them served: want 6", len(names), len(l.pods))
	}
}

// standStill stops the manager while the first new Pod starts, for the time of 2,500 connections.
func standStill(t *testing.T, ns string, l *load) {
	t.Helper()
	eventually(t, "a new Pod", func() error {
		if n := len(pods(t, ns, "app", "direct")); n != 3 {
			return fmt.Errorf("%d Pods", n)
		}
		return nil
	})
	manager := process(t, "manager")
	if err := syscall.Kill(manager, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(manager, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "a Pod that lacks nothing but the balancer", func() error {
		for _, p := range pods(t, ns, "app", "direct") {
			if waits(&p) && condition(&p, corev1.ContainersReady).Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(pods(t, ns, "app", "direct")))
	})
	l.reach(t, l.soFar()+2500)
	waiting := 0
	list := pods(t, ns, "app", "direct")
	for _, p := range list {
		if waits(&p) {
			waiting++
			if c := condition(&p, corev1.PodReady); c.Status == corev1.ConditionTrue {
				t.Errorf("%s is ready and waits for its balancer", p.Name)
			}
		}
	}
	if waiting != 1 || len(list) != 3 {
		t.Errorf("while the manager stood still %d of %d Pods wait, want 1 of 3", waiting, len(list))
	}
}
