package sync

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// relist is the pause before the kernel is asked again when it refused, or when its messages were lost.
const relist = 2 * time.Second

// MachineAddresses reports the addresses of all interfaces of the network namespace it is called in: at once, and
// after each change, until the context ends. An error is logged and tried again. It fits Options.Addresses.
func MachineAddresses(ctx context.Context, log logr.Logger, set func([]netip.Addr)) {
	machineAddresses(ctx, log, netns.None(), set)
}

func machineAddresses(ctx context.Context, log logr.Logger, ns netns.NsHandle, set func([]netip.Addr)) {
	for ctx.Err() == nil {
		if err := followAddresses(ctx, ns, set); err != nil && ctx.Err() == nil {
			log.Error(err, "Lost sight of the machine's addresses, looking again", "in", relist)
		}
		select {
		case <-ctx.Done():
		case <-time.After(relist):
		}
	}
}

// followAddresses subscribes before it lists, so that no change falls between.
func followAddresses(ctx context.Context, ns netns.NsHandle, set func([]netip.Addr)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates := make(chan netlink.AddrUpdate, 256)
	options := netlink.AddrSubscribeOptions{ErrorCallback: func(error) {}}
	if ns.IsOpen() {
		options.Namespace = &ns
	}
	if err := netlink.AddrSubscribeWithOptions(updates, ctx.Done(), options); err != nil {
		return fmt.Errorf("subscribing to address changes: %w", err)
	}
	// The library closes the channel when its socket fails or is closed, and blocks until it is read.
	defer func() {
		cancel()
		for range updates {
		}
	}()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer handle.Close()
	for {
		addrs, err := listAddresses(handle)
		if err != nil {
			return err
		}
		set(addrs)
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-updates:
			if !ok {
				return fmt.Errorf("following address changes: the kernel's messages ended")
			}
		}
		for len(updates) > 0 {
			<-updates
		}
	}
}

func listAddresses(handle *netlink.Handle) ([]netip.Addr, error) {
	list, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}
