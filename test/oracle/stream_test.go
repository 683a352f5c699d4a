package oracle

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// event lets one thing happen.
func (c *cluster) event() {
	c.now = c.now.Add(time.Duration(c.of(3)) * time.Second)
	switch kind := c.of(32); {
	case kind < 8:
		c.createPod()
	case kind < 20:
		c.changePod()
	case kind < 27:
		c.changeService()
	case kind < 29:
		c.changeNode()
	case kind < 30:
		c.note("collect garbage")
		c.collect()
	default:
		c.crowd()
	}
}

// crowd makes several Pods of one template, so that slices fill up, or ends several.
func (c *cluster) crowd() {
	if c.oneIn(3) {
		for _, key := range sortedKeys(c.pods) {
			if c.oneIn(2) {
				c.note("delete Pod %s", key)
				c.deletePod(key)
			}
		}
		return
	}
	template := c.newPod(types.NamespacedName{Namespace: "one", Name: "template"})
	for range c.of(12) {
		key := types.NamespacedName{Namespace: "one", Name: fmt.Sprint("crowd-", c.of(40))}
		if c.pods[key] == nil {
			pod := template.DeepCopy()
			pod.Name, pod.Status.PodIPs = key.Name, c.addresses()
			c.note("create Pod %s like the others", key)
			c.putPod(pod)
		}
	}
}

func (c *cluster) createPod() {
	key := types.NamespacedName{Namespace: pick(c.choices, "one", "one", "one", "two"), Name: fmt.Sprint("pod-", c.of(20))}
	if old := c.pods[key]; old != nil {
		c.recreatePod(old)
		return
	}
	pod := c.newPod(key)
	c.note("create Pod %s labels %v node %q ips %v ready %v", key, pod.Labels, pod.Spec.NodeName, pod.Status.PodIPs, ready(pod))
	c.putPod(pod)
}

// recreatePod replaces a Pod by another of its name, at times with its address, and at times so fast that nobody sees
// it gone.
func (c *cluster) recreatePod(old *corev1.Pod) {
	pod := c.newPod(keyOf(old))
	if c.oneIn(2) {
		pod = old.DeepCopy()
		pod.UID, pod.DeletionTimestamp, pod.Status.Phase = "", nil, corev1.PodRunning
	}
	unseen := c.oneIn(2)
	c.note("recreate Pod %s ips %v unseen %v", keyOf(old), pod.Status.PodIPs, unseen)
	if !unseen {
		c.deletePod(keyOf(old))
	}
	c.putPod(pod)
}

func (c *cluster) newPod(key types.NamespacedName) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: c.podLabels()},
		Spec:       corev1.PodSpec{NodeName: fmt.Sprint("node-", c.of(4)), Containers: []corev1.Container{{Name: "main"}, {Name: "second"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: c.addresses()},
	}
	if c.oneIn(4) {
		pod.Spec.Hostname, pod.Spec.Subdomain = key.Name, fmt.Sprint("service-", c.of(4))
	}
	port := func(name string, numbers ...int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: pick(c.choices, numbers...), Protocol: corev1.ProtocolTCP}
	}
	switch c.of(6) {
	case 0: // names no port
	case 1:
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{port("web", 8080, 8081), port("dns", 53)}
		pod.Spec.Containers[0].Ports[1].Protocol = corev1.ProtocolUDP
	case 2:
		pod.Spec.Containers[1].Ports = []corev1.ContainerPort{port("web", 8080)}
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{port("dns", 53)} // TCP: another port than UDP's
	case 3:
		pod.Spec.InitContainers = []corev1.Container{
			{Name: "once", Ports: []corev1.ContainerPort{port("web", 1)}},
			{Name: "sidecar", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{port("web", 9090)}},
		}
	default:
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{port("web", 8080)}
	}
	c.setReady(pod, c.of(4) != 3)
	return pod
}

func (c *cluster) podLabels() map[string]string {
	labels := map[string]string{"app": pick(c.choices, "a", "a", "b")}
	if c.oneIn(3) {
		labels["tier"] = pick(c.choices, "x", "y")
	}
	return labels
}

// addresses come from a small range, so that Pods have equal ones at times.
func (c *cluster) addresses() []corev1.PodIP {
	number := 1 + c.of(60)
	v4, v6 := corev1.PodIP{IP: fmt.Sprint("10.0.0.", number)}, corev1.PodIP{IP: fmt.Sprintf("fd00::%x", number)}
	switch c.of(10) {
	case 0:
		return nil
	case 5: // IPv4, whatever it looks like
		return []corev1.PodIP{{IP: fmt.Sprint("::ffff:10.0.0.", number)}}
	case 1:
		return []corev1.PodIP{v4}
	case 2:
		return []corev1.PodIP{v6}
	case 3:
		return []corev1.PodIP{v6, v4}
	case 4: // as somebody may have written them
		return []corev1.PodIP{{IP: fmt.Sprintf("010.00.000.%03d", number)}, {IP: fmt.Sprintf("FD00:0:0::%x", number)}}
	default:
		return []corev1.PodIP{v4, v6}
	}
}

func (c *cluster) setReady(pod *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	pod.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(c.now)},
	}
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (c *cluster) changePod() {
	if len(c.pods) == 0 {
		return
	}
	key := pick(c.choices, sortedKeys(c.pods)...)
	pod := c.pods[key].DeepCopy()
	switch kind := c.of(15); {
	case kind < 5:
		c.setReady(pod, !ready(pod))
		c.note("Pod %s ready %v", key, ready(pod))
	case kind < 7:
		pod.Labels = c.podLabels()
		c.note("Pod %s labels %v", key, pod.Labels)
	case kind < 9:
		if pod.DeletionTimestamp == nil {
			pod.DeletionTimestamp = new(metav1.NewTime(c.now))
		}
		c.note("Pod %s is terminating", key)
	case kind < 11:
		c.note("delete Pod %s", key)
		c.deletePod(key)
		return
	case kind < 12:
		pod.Status.Phase = pick(c.choices, corev1.PodFailed, corev1.PodSucceeded, corev1.PodRunning)
		if c.oneIn(2) && ready(pod) {
			c.setReady(pod, false)
		}
		c.note("Pod %s phase %s ready %v", key, pod.Status.Phase, ready(pod))
	case kind < 14:
		pod.Status.PodIPs = c.addresses()
		c.note("Pod %s ips %v", key, pod.Status.PodIPs)
	default:
		pod.Annotations = map[string]string{"note": fmt.Sprint(c.of(9))} // nothing that an endpoint shows
	}
	c.putPod(pod)
}

func (c *cluster) changeNode() {
	name := fmt.Sprint("node-", c.of(4))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if old := c.nodes[name]; old != nil {
		node = old.DeepCopy()
		if c.oneIn(5) && !c.used(name) { // else see difference LostNode
			c.note("delete Node %s", name)
			c.deleteNode(name)
			return
		}
	}
	if zone := pick(c.choices, "", "zone-a", "zone-b", "zone-c"); zone != "" {
		node.Labels[corev1.LabelTopologyZone] = zone
	} else {
		delete(node.Labels, corev1.LabelTopologyZone)
	}
	c.note("Node %s zone %q", name, node.Labels[corev1.LabelTopologyZone])
	c.putNode(node)
}

// used says whether there are Pods on a node.
func (c *cluster) used(node string) bool {
	for _, pod := range c.pods {
		if pod.Spec.NodeName == node {
			return true
		}
	}
	return false
}
