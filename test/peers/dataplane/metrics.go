package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// syncMetrics are a peer's own figures of its writes for IPv4, by kube-proxy's names, which both have.
type syncMetrics struct {
	// Writes of all rules and of changes: how many there were, and how many seconds they took together.
	fullCount, fullSum, partialCount, partialSum float64
	// last is when rules were last written, in seconds since 1970; 0: never.
	last float64
}

// metrics asks the peer.
func (s *stage) metrics(ctx context.Context) (m syncMetrics, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	response, err := s.get(ctx, metricsPort, "/metrics")
	if err != nil {
		return m, fmt.Errorf("asking for metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return m, fmt.Errorf("asking for metrics: %s", response.Status)
	}
	return parseMetrics(response.Body)
}

func parseMetrics(text io.Reader) (m syncMetrics, err error) {
	const full, partial = "kubeproxy_sync_full_proxy_rules_duration_seconds", "kubeproxy_sync_partial_proxy_rules_duration_seconds"
	const labels = `{ip_family="IPv4"}`
	into := map[string]*float64{
		full + "_count" + labels: &m.fullCount, full + "_sum" + labels: &m.fullSum,
		partial + "_count" + labels: &m.partialCount, partial + "_sum" + labels: &m.partialSum,
		"kubeproxy_sync_proxy_rules_last_timestamp_seconds" + labels: &m.last,
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if target := into[name]; target != nil {
			if *target, err = strconv.ParseFloat(value, 64); err != nil {
				return m, fmt.Errorf("reading metric %s: %w", name, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return m, fmt.Errorf("reading metrics: %w", err)
	}
	return m, nil
}
