package endpoints

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// truncate cuts subsets down to a number of addresses and says whether it had to. Ready addresses go first; what is
// left of the room goes to those that are not. Each subset gets room in proportion to its size, and what rounding
// leaves goes to the first that can use it.
func truncate(subsets []corev1.EndpointSubset, capacity int) bool {
	ready := make([]int, len(subsets))
	notReady := make([]int, len(subsets))
	for i := range subsets {
		ready[i], notReady[i] = len(subsets[i].Addresses), len(subsets[i].NotReadyAddresses)
	}
	if total(ready)+total(notReady) <= capacity {
		return false
	}
	ready, left := share(ready, capacity)
	notReady, _ = share(notReady, left)
	for i := range subsets {
		subsets[i].Addresses = subsets[i].Addresses[:ready[i]]
		subsets[i].NotReadyAddresses = subsets[i].NotReadyAddresses[:notReady[i]]
	}
	return true
}

// share gives everyone what it wants, or its part of the room where that is too little, and returns what is left.
func share(wants []int, room int) (gets []int, left int) {
	sum := total(wants)
	if sum <= room {
		return wants, room - sum
	}
	gets = make([]int, len(wants))
	left = room
	for i, want := range wants {
		gets[i] = want * room / sum
		left -= gets[i]
	}
	for i := range gets {
		more := min(left, wants[i]-gets[i])
		gets[i] += more
		left -= more
	}
	return gets, left
}

// truncates says whether some subsets are all of the others cut down to a capacity as truncate could have done it:
// each holds the first of its addresses, ready ones went first, and its share is fair but for rounding. Upstream leaves
// to a hash which subset rounding favours, so that its choice is seldom ours and just as good. Both are sorted; all are
// more than the capacity.
func truncates(some, all []corev1.EndpointSubset, capacity int) bool {
	ready, notReady := make([]int, len(all)), make([]int, len(all))
	kept, keptNotReady := make([]int, len(all)), make([]int, len(all))
	matched := 0
	for i := range all {
		ready[i], notReady[i] = len(all[i].Addresses), len(all[i].NotReadyAddresses)
		at := slices.IndexFunc(some, func(s corev1.EndpointSubset) bool { return compareSubsets(s, all[i]) == 0 })
		if at < 0 {
			continue
		}
		matched++
		kept[i], keptNotReady[i] = len(some[at].Addresses), len(some[at].NotReadyAddresses)
		if kept[i] > ready[i] || keptNotReady[i] > notReady[i] || !equalSubsets(some[at], corev1.EndpointSubset{
			Addresses: all[i].Addresses[:kept[i]], NotReadyAddresses: all[i].NotReadyAddresses[:keptNotReady[i]], Ports: all[i].Ports,
		}) {
			return false
		}
	}
	room := capacity - min(total(ready), capacity)
	return matched == len(some) && fair(kept, ready, capacity) && fair(keptNotReady, notReady, room)
}

// fair says whether everyone got all that they want, or together all of the room, each in proportion but for what
// rounding moves.
func fair(gets, wants []int, room int) bool {
	if total(wants) <= room {
		return slices.Equal(gets, wants)
	}
	for i, want := range wants {
		if share := want * room / total(wants); gets[i] < share-len(wants) || gets[i] > share+len(wants) {
			return false
		}
	}
	return total(gets) == room
}

func total(numbers []int) int {
	sum := 0
	for _, n := range numbers {
		sum += n
	}
	return sum
}
