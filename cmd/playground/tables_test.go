package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/nftables"
)

// tables names the packet filter's tables in this process's network namespace.
func tables(t *testing.T) []string {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range list {
		names = append(names, fmt.Sprintf("%d %s", table.Family, table.Name))
	}
	slices.Sort(names)
	return names
}
