package endpointslice

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// census counts what the Pods that a choice picks have on its network, Pod by Pod, so that an event costs the same
// however many there are.
type census struct {
	choice *choice
	pods   map[string]found
	// attached Pods are on the network, unreadable ones may be; bare ones are on it without any address, and excluding
	// ones with addresses of which at least one may not be served.
	attached, unreadable, bare, excluding int
	// excluded addresses may not be served.
	excluded int
}

func newCensus(c *choice) *census { return &census{choice: c, pods: map[string]found{}} }

// put counts a Pod as it is, in place of what it was. One that is not picked or can be no endpoint does not count.
func (c *census) put(pod *corev1.Pod) {
	c.delete(pod.Name)
	if !endpoints.Publishable(pod) || !c.choice.picks(pod) {
		return
	}
	f := found{attached: true}
	if c.choice.network != "" {
		f = c.choice.find(pod)
	}
	c.pods[pod.Name] = f
	c.add(f, 1)
}

// delete counts a Pod no more.
func (c *census) delete(name string) {
	if f, ok := c.pods[name]; ok {
		delete(c.pods, name)
		c.add(f, -1)
	}
}

func (c *census) add(f found, n int) {
	if f.attached {
		c.attached += n
	}
	if f.unreadable {
		c.unreadable += n
	}
	if c.choice.network != "" && f.attached && len(f.addresses) == 0 && f.excluded == 0 {
		c.bare += n
	}
	if f.excluded > 0 {
		c.excluding += n
	}
	c.excluded += n * f.excluded
}

// picks says whether any group has a Pod.
func (c *choice) picks(pod *corev1.Pod) bool {
	return c.rank(pod) < len(c.groups)
}

// refused says that none of the Pods is on the network: its name is wrong, or the Pods are. Without Pods there is
// nothing to judge by.
func (c *census) refused() *refusal {
	n := len(c.pods)
	if n == 0 || c.attached > 0 {
		return nil
	}
	r := &refusal{reason: v1alpha1.ReasonNetworkUnknown}
	if c.unreadable > 0 {
		r.message = fmt.Sprintf("none of %s is known to be on network %q, since the annotation %s of %d cannot be read: correct what writes it",
			plural(n, "Pod"), c.choice.network, endpoints.NetworkStatusAnnotation, c.unreadable)
		return r
	}
	r.message = fmt.Sprintf("none of %s is on network %q: correct spec.fairlead.network, or attach the Pods to that network",
		plural(n, "Pod"), c.choice.network)
	return r
}

// leftOut says in words why Pods that are picked are no endpoints; waiting is how many are so for want of their node.
func (c *census) leftOut(missing, waiting int) string {
	var why []string
	add := func(n int, text string) {
		if n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, text))
		}
	}
	add(len(c.pods)-c.attached-c.unreadable, "not on network "+c.choice.network)
	add(c.unreadable, "with an annotation "+endpoints.NetworkStatusAnnotation+" that cannot be read")
	add(c.bare, "on the network without an address")
	add(waiting, "on a node that is not known yet")
	if len(why) == 0 {
		why = []string{"without an address of the Service's families"}
	}
	return fmt.Sprintf("%d of %s left out: %s", missing, plural(len(c.pods), "Pod"), strings.Join(why, ", "))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
