package nftables

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// remedies say what to change where the kernel's answer does not say it to those who run a node.
var remedies = []struct {
	answers []error
	text    string
}{
	{[]error{unix.EPERM}, "programming nftables takes root or CAP_NET_ADMIN, in the user namespace that the network namespace belongs to"},
	{[]error{unix.ENOMEM, unix.ENOBUFS}, "the kernel has no memory for the rules: raise the agent's memory limit, which counts them, or free memory on the node"},
	{[]error{unix.EMSGSIZE}, "the rules do not fit into the socket's buffer: raise net.core.wmem_max"},
	{[]error{unix.ENFILE, unix.ENOSPC, unix.E2BIG}, "the kernel has no room for so many rules: have fewer Services and endpoints, or a newer kernel"},
}

// withRemedy puts what to change before an error, if that is known.
func withRemedy(err error) error {
	for _, r := range remedies {
		for _, answer := range r.answers {
			if errors.Is(err, answer) {
				return fmt.Errorf("%s: %w", r.text, err)
			}
		}
	}
	return err
}
