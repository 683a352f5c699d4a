package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// PodNamespace finds the network namespace of the Pod with an address. Names of Pods' namespaces are their container
// runtimes', which say nothing about the Pod.
func PodNamespace(ip netip.Addr) (string, error) {
	names, err := Names()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, PodPrefix) {
			continue
		}
		addresses, err := Addresses(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended meanwhile
		}
		if err != nil {
			return "", err
		}
		if slices.Contains(addresses, ip) {
			return name, nil
		}
	}
	return "", fmt.Errorf("no Pod's namespace has the address %s", ip)
}

// Names returns the names of all namespaces, sorted.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Addresses returns the addresses of a namespace.
func Addresses(name string) ([]netip.Addr, error) {
	ns, err := netns.GetFromPath(filepath.Join(Dir, name))
	if err != nil {
		return nil, fmt.Errorf("opening namespace %s: %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("looking into namespace %s: %w", name, err)
	}
	defer handle.Close()
	list, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing addresses of namespace %s: %w", name, err)
	}
	var addresses []netip.Addr
	for _, a := range list {
		if address, ok := netip.AddrFromSlice(a.IP); ok {
			addresses = append(addresses, address.Unmap())
		}
	}
	return addresses, nil
}
