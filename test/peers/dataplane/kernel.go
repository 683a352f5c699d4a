package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"

	"github.com/fairlead/fairlead/test/peers/wait"
)

// kernelMemory is what the whole kernel has taken for good, in bytes: rules are in slabs, their hash tables in memory
// of their own.
func kernelMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("reading the kernel's memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parseMeminfo(f)
}

func parseMeminfo(text io.Reader) (int64, error) {
	found, sum := 0, int64(0)
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "SUnreclaim" && name != "VmallocUsed" && name != "Percpu" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", name, err)
		}
		found, sum = found+1, sum+kib<<10
	}
	if found != 3 {
		return 0, errors.New("reading the kernel's memory: /proc/meminfo lacks SUnreclaim, VmallocUsed or Percpu")
	}
	return sum, lines.Err()
}

// settledMemory is kernelMemory once it has stopped falling: what was freed goes back some time later.
func settledMemory(ctx context.Context) (int64, error) {
	const steps, step, noise = 5, 200 * time.Millisecond, 64 << 10
	least, calm := int64(-1), 0
	err := wait.Poll(ctx, step, 30*time.Second, "the kernel's memory to settle", func() (bool, error, error) {
		now, err := kernelMemory()
		if err != nil {
			return false, nil, err
		}
		if calm++; least < 0 || now < least-noise {
			least, calm = now, 0
		}
		return calm >= steps, errors.New("it falls"), nil
	})
	return least, err
}

// unload deletes all rules of the node and returns how much memory that set free.
func (s *stage) unload(ctx context.Context) (int64, error) {
	if err := s.forgetConnections(); err != nil {
		return 0, err
	}
	before, err := settledMemory(ctx)
	if err != nil {
		return 0, err
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(s.node.fd)))
	if err != nil {
		return 0, fmt.Errorf("opening the kernel's nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return 0, fmt.Errorf("listing tables: %w", err)
	}
	for _, t := range tables {
		conn.DelTable(t)
	}
	if err := conn.Flush(); err != nil {
		return 0, fmt.Errorf("deleting tables: %w", err)
	}
	after, err := settledMemory(ctx)
	return before - after, err
}
