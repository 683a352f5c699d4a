package balancer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addressLabel marks IPv4 addresses of ours on the loopback link. IPv6 addresses have no labels: ours are those of
// global scope.
const addressLabel = "lo:fairlead"

// addAddresses gives the router the balancers' addresses, on its loopback link: it answers pings to them, and refuses
// connections to ports without a listener.
func addAddresses(forwards []forward) error {
	link, have, err := addresses()
	if err != nil {
		return err
	}
	for _, f := range forwards {
		address := f.address.Addr()
		if _, ok := have[address]; ok {
			continue
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}}
		if address.Is4() {
			a.Label = addressLabel
		} else {
			a.Flags = unix.IFA_F_NODAD // nobody else is on this link
		}
		if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("adding address %s: %w", address, err)
		}
		have[address] = *a
	}
	return nil
}

// removeAddresses takes away the addresses of ours that no balancer has any more.
func removeAddresses(forwards []forward) error {
	link, have, err := addresses()
	if err != nil {
		return err
	}
	for _, f := range forwards {
		delete(have, f.address.Addr())
	}
	var errs []error
	for address, a := range have {
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("removing address %s: %w", address, err))
		}
	}
	return errors.Join(errs...)
}

// addresses returns the loopback link and the addresses of ours on it.
func addresses() (netlink.Link, map[netip.Addr]netlink.Addr, error) {
	link, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, nil, fmt.Errorf("finding the loopback link: %w", err)
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("listing addresses: %w", err)
	}
	ours := map[netip.Addr]netlink.Addr{}
	for _, a := range list {
		address, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		address = address.Unmap()
		if address.Is4() && a.Label == addressLabel || address.Is6() && a.Scope == unix.RT_SCOPE_UNIVERSE {
			ours[address] = a
		}
	}
	return link, ours, nil
}
