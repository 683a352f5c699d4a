package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
		has, err := hasAddress(name, ip)
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended meanwhile
		}
		if err != nil {
			return "", err
		}
		if has {
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

func hasAddress(name string, ip netip.Addr) (bool, error) {
	ns, err := netns.GetFromPath(filepath.Join(Dir, name))
	if err != nil {
		return false, fmt.Errorf("opening namespace %s: %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return false, fmt.Errorf("looking into namespace %s: %w", name, err)
	}
	defer handle.Close()
	addresses, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("listing addresses of namespace %s: %w", name, err)
	}
	for _, a := range addresses {
		if found, ok := netip.AddrFromSlice(a.IP); ok && found.Unmap() == ip {
			return true, nil
		}
	}
	return false, nil
}
