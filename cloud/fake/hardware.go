package fake

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

var _ hardware.Cloud = (*Cloud)(nil)

// SetHardware implements hardware.Cloud.
func (c *Cloud) SetHardware(h hardware.Hardware) { c.hardware = h }

// OnChange implements hardware.Cloud.
func (c *Cloud) OnChange(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = f
}

// Health implements API.
func (c *Cloud) Health(context.Context) ([]hardware.TargetHealth, error) {
	if c.hardware == nil {
		return nil, nil
	}
	return hardware.Of(c.Balancers(), c.hardware.Health()), nil
}

// Balancers implements hardware.Cloud, without those that are being deleted.
func (c *Cloud) Balancers() []hardware.Balancer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var result []hardware.Balancer
	for _, o := range c.objects {
		if o.Kind != KindBalancer || o.State == StateDeleting || o.State == StateFailed {
			continue
		}
		b := hardware.Balancer{ID: o.ID, Name: o.Name}
		for _, l := range c.objects {
			if l.Kind == KindListener && l.State == StateReady && slices.Contains(l.Refs, o.ID) {
				if listener, ok := c.listener(o, l); ok {
					b.Listeners = append(b.Listeners, listener)
				}
			}
		}
		slices.SortFunc(b.Listeners, func(x, y hardware.Listener) int {
			return cmp.Or(cmp.Compare(x.Protocol, y.Protocol), x.Address.Compare(y.Address))
		})
		result = append(result, b)
	}
	slices.SortFunc(result, func(x, y hardware.Balancer) int { return cmp.Compare(x.ID, y.ID) })
	return result
}

func (c *Cloud) listener(balancer, l *Object) (hardware.Listener, bool) {
	address, err := netip.ParseAddr(c.addressOf(balancer, l.Fields["family"]))
	set := c.ofKind(l.Refs, KindTargetSet)
	if err != nil || set == nil {
		return hardware.Listener{}, false
	}
	result := hardware.Listener{ID: l.ID, Protocol: l.Fields["protocol"],
		Address:  netip.AddrPortFrom(address, uint16(number(l.Fields["port"]))),
		Affinity: time.Duration(number(l.Fields["affinitySeconds"])) * time.Second}
	if ranges := l.Fields["sourceRanges"]; ranges != "" {
		for text := range strings.SplitSeq(ranges, ",") {
			result.SourceRanges = append(result.SourceRanges, netip.MustParsePrefix(text))
		}
	}
	for _, t := range set.Targets {
		result.Targets = append(result.Targets, place(set, t))
	}
	if check := c.ofKind(set.Refs, KindHealthCheck); check != nil {
		result.HealthCheck = hardware.HealthCheck{Protocol: check.Fields["protocol"], Port: uint16(number(check.Fields["port"])),
			Path: check.Fields["path"], Interval: time.Duration(number(check.Fields["intervalSeconds"])) * time.Second,
			Threshold: number(check.Fields["threshold"])}
	}
	return result, true
}

// number reads a field that was checked when it was written.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
