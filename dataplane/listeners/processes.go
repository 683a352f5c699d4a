package listeners

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inodes lists the sockets that a process has open, by the links in its folder of file descriptors.
func inodes(fds string) []uint32 {
	entries, err := os.ReadDir(fds)
	if err != nil {
		return nil // gone, or not ours to see
	}
	var found []uint32
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(fds, e.Name()))
		if err != nil {
			continue
		}
		number, isSocket := strings.CutPrefix(target, "socket:[")
		if !isSocket {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32); err == nil {
			found = append(found, uint32(inode))
		}
	}
	return found
}

// own is the set of the agent's own sockets.
func own() map[uint32]bool {
	set := map[uint32]bool{}
	for _, inode := range inodes("/proc/self/fd") {
		set[inode] = true
	}
	return set
}

// processes names the process of each of the sockets, as far as it can be seen: in a Pod without hostPID only the Pod's
// own can. It looks at every process, which takes a while, so it is asked about new clashes alone.
func processes(sockets map[uint32]bool) map[uint32]string {
	found := map[uint32]string{}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return found // only a bad pattern is an error
	}
	for _, folder := range folders {
		for _, inode := range inodes(filepath.Join(folder, "fd")) {
			if !sockets[inode] || found[inode] != "" {
				continue
			}
			name, err := os.ReadFile(filepath.Join(folder, "comm"))
			if err != nil {
				continue
			}
			found[inode] = fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(folder))
		}
	}
	return found
}
