package nodeport

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

const (
	// nearlyExhausted is the share of a pool, in percent, from which on it is said to be nearly exhausted.
	nearlyExhausted = 80
	// namedInMessages is how many ports a message names before it only counts.
	namedInMessages = 3
)

// census is what the ledger knows at one moment, with what is needed to judge it.
type census struct {
	shares []portalloc.Share
	usage  map[string]portalloc.Usage
	claims []portalloc.Claim
	holds  []portalloc.Hold
	// poolOf is the pool of a port, pools are those that a namespace draws from; nil: the namespace is not known (yet).
	poolOf map[int]string
	pools  map[string][]string
	// unenforced are the pools that say Enforce where nothing numbers Services.
	unenforced map[string]bool
}

// take counts. namespaces are all there are with their labels.
func (b *Book) take(namespaces map[string]labels.Set) *census {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.Keep(nil, b.now()) // what has run out is not counted
	c := &census{shares: b.ledger.Shares(), usage: map[string]portalloc.Usage{}, claims: b.ledger.Claims(), holds: b.ledger.Holds(),
		poolOf: map[int]string{}, pools: map[string][]string{}, unenforced: map[string]bool{}}
	for _, p := range b.pools {
		c.unenforced[p.name] = p.enforce && !b.numbers
	}
	for _, s := range c.shares {
		c.usage[s.Pool.Name] = b.ledger.Usage(s.Pool.Name)
	}
	for _, claim := range c.claims {
		c.poolOf[claim.Port] = b.ledger.PoolOf(claim.Port)
	}
	for name, set := range namespaces {
		c.pools[name] = append([]string{}, b.selecting(set)...)
	}
	return c
}

// statusOf is the status of a pool, given the one that it has.
func (c *census) statusOf(share portalloc.Share, generation int64, last *v1alpha1.NodePortPoolStatus, now metav1.Time) *v1alpha1.NodePortPoolStatus {
	u := c.usage[share.Pool.Name]
	status := &v1alpha1.NodePortPoolStatus{Size: new(int32(u.Size)), Used: new(int32(u.Used)), Reserved: new(int32(u.Kept)), Free: new(int32(u.Free))}
	for _, h := range c.holds {
		if share.Ranges.Contains(h.Port) {
			status.Reservations = append(status.Reservations, v1alpha1.PortReservation{Port: int32(h.Port), Namespace: h.Service.Namespace,
				Name: h.Service.Name, Uses: h.Uses, Until: metav1.NewTime(roundUp(h.Until))})
		}
	}
	for _, is := range []metav1.Condition{c.accepted(share), available(share, u), c.exclusive(share)} {
		is.ObservedGeneration, is.LastTransitionTime = generation, now
		if before := meta.FindStatusCondition(last.Conditions, is.Type); before != nil && before.Status == is.Status {
			is.LastTransitionTime = before.LastTransitionTime
		}
		status.Conditions = append(status.Conditions, is)
	}
	return status
}

// roundUp is the time as the API server stores it, in seconds, and not earlier.
func roundUp(t time.Time) time.Time { return t.Add(time.Second - 1).Truncate(time.Second) }

func (c *census) accepted(share portalloc.Share) metav1.Condition {
	if c.unenforced[share.Pool.Name] {
		return condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonNotEnforced,
			"enforcement is Enforce, and the API server asks no webhook that numbers Services: the pool is best effort until the "+
				"manager serves it and config/webhook is applied")
	}
	var wrong []string
	reason := v1alpha1.ReasonAccepted
	if len(share.Outside) > 0 {
		reason = v1alpha1.ReasonOutsideRange
		wrong = append(wrong, fmt.Sprintf("the API server does not hand out %s: take them out of spec.ranges, or set its "+
			"--service-node-port-range and the manager's nodePortRange", share.Outside))
	}
	for _, o := range share.Overlaps {
		reason = v1alpha1.ReasonOverlap
		wrong = append(wrong, fmt.Sprintf("NodePortPool %q is older and has %s: take them out of one of the two", o.With, o.Ranges))
	}
	switch {
	case len(wrong) == 0:
		return condition(v1alpha1.ConditionAccepted, true, reason, "the pool has every port of its ranges")
	case len(share.Ranges) == 0:
		return condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonNoPorts, "the pool has no ports: "+strings.Join(wrong, "; "))
	}
	return condition(v1alpha1.ConditionAccepted, false, reason, fmt.Sprintf("the pool has only %s: %s", share.Ranges, strings.Join(wrong, "; ")))
}

func available(share portalloc.Share, u portalloc.Usage) metav1.Condition {
	switch {
	case u.Size == 0:
		return condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonNoPorts, "the pool has no ports, see Accepted")
	case u.Free == 0:
		return condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonExhausted,
			(&portalloc.ExhaustedError{Ranges: share.Ranges, Pools: []string{share.Pool.Name}, Kept: u.Kept}).Error())
	case share.Pool.Named:
		return condition(v1alpha1.ConditionAvailable, true, v1alpha1.ReasonNamedOnly, "Services that name a free port of the pool get it")
	case u.Free*100 <= u.Size*(100-nearlyExhausted):
		// Without the figure, which stands beside it, or every Service would change the message.
		return condition(v1alpha1.ConditionAvailable, true, v1alpha1.ReasonNearlyExhausted,
			fmt.Sprintf("%d%% of the ports or more are taken or kept: widen spec.ranges before there is none left", nearlyExhausted))
	}
	return condition(v1alpha1.ConditionAvailable, true, v1alpha1.ReasonAvailable, "there are free ports")
}

// exclusive names what does not keep to the pool. None of it loses a port.
func (c *census) exclusive(share portalloc.Share) metav1.Condition {
	name := share.Pool.Name
	var foreign, elsewhere, duplicate []string
	for _, claim := range c.claims {
		if c.poolOf[claim.Port] == name && len(claim.Services) > 1 {
			duplicate = append(duplicate, fmt.Sprintf("%d (%s, before %s)", claim.Port, claim.Services[0], claim.Services[1]))
		}
		for _, svc := range claim.Services {
			pools := c.pools[svc.Namespace]
			drawsHere := slices.Contains(pools, name)
			switch mine := c.poolOf[claim.Port] == name; {
			case pools == nil: // a namespace whose event is still to come
			case mine && !drawsHere:
				foreign = append(foreign, fmt.Sprintf("%d (%s)", claim.Port, svc))
			case !mine && drawsHere && !slices.Contains(pools, c.poolOf[claim.Port]):
				elsewhere = append(elsewhere, fmt.Sprintf("%d (%s)", claim.Port, svc))
			}
		}
	}
	var wrong []string
	reason := v1alpha1.ReasonExclusive
	if len(elsewhere) > 0 {
		reason = v1alpha1.ReasonPortsElsewhere
		wrong = append(wrong, "Services of the pool's namespaces have ports that are in none of their pools: "+some(elsewhere)+
			"; put the ports into spec.ranges, or give the Services others")
	}
	if len(foreign) > 0 {
		reason = v1alpha1.ReasonForeignServices
		wrong = append(wrong, "Services of other namespaces have ports of the pool: "+some(foreign)+
			"; give them other node ports, select their namespaces, or set enforcement to Enforce before more come")
	}
	if len(duplicate) > 0 {
		reason = v1alpha1.ReasonDuplicates
		wrong = append(wrong, "two Services have the same port: "+some(duplicate)+
			"; the first keeps it, give the other another one or set duplicates to Move in its pool")
	}
	if len(wrong) == 0 {
		return condition(v1alpha1.ConditionExclusive, true, reason, "only Services of the pool's namespaces have its ports, and they have no others")
	}
	return condition(v1alpha1.ConditionExclusive, false, reason, strings.Join(wrong, "; "))
}

// some names the first of many, and counts the rest.
func some(all []string) string {
	if len(all) <= namedInMessages {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:namedInMessages], ", "), len(all)-namedInMessages)
}

func condition(name string, is bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}
