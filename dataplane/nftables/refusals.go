package nftables

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// remedies say what to change where the kernel's answer does not say it to those who run a node.
var remedies = []struct {
	answers []error
	text    string
}{
	{[]error{unix.EPERM},
		"programming nftables takes root or CAP_NET_ADMIN, in the user namespace that the network namespace belongs to"},
	{[]error{unix.ENOMEM, unix.ENOBUFS},
		"the kernel has no memory for the rules: raise the agent's memory limit, which counts them, or free memory on the node"},
	{[]error{unix.EMSGSIZE},
		"the rules do not fit into the socket's buffer: raise net.core.wmem_max"},
	{[]error{unix.ENFILE, unix.ENOSPC, unix.E2BIG},
		"the kernel has no room for so many rules: have fewer Services and endpoints, or a newer kernel"},
}

// remedy is what to change about an error; empty: that is not known.
func remedy(err error) string {
	for _, r := range remedies {
		if slices.ContainsFunc(r.answers, func(answer error) bool { return errors.Is(err, answer) }) {
			return r.text
		}
	}
	return ""
}

// withRemedy puts what to change before an error, if that is known.
func withRemedy(err error) error {
	if text := remedy(err); text != "" {
		return fmt.Errorf("%s: %w", text, err)
	}
	return err
}
