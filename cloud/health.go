package cloud

import (
	"context"
	"errors"
)

// Health is what a balancer makes of one of its targets.
type Health string

const (
	// HealthUnknown: it has the target, and no verdict yet.
	HealthUnknown Health = "Unknown"
	// HealthHealthy: it sends new connections there.
	HealthHealthy Health = "Healthy"
	// HealthUnhealthy: the target fails its health check.
	HealthUnhealthy Health = "Unhealthy"
)

// TargetHealth is the health of one target of one resource.
type TargetHealth struct {
	// Resource and Target are the IDs of both.
	Resource string `json:"resource"`
	Target   string `json:"target"`
	Health   Health `json:"health"`
}

// HealthReader is what a provider with Capabilities.TargetHealth is, too.
type HealthReader interface {
	// TargetHealth says how the targets of the owner's resources fare, all of those that the balancer has and no others: one
	// that is missing in the answer is not registered. The resources, which have targets, are as observed. It is asked again
	// and again while Pods wait for their balancer, and only then. Nothing is changed.
	TargetHealth(ctx context.Context, owner Owner, resources []Resource) ([]TargetHealth, error)
}

// HealthReaderOf returns the provider as a HealthReader; nil where it declares no TargetHealth.
func HealthReaderOf(p Provider) HealthReader {
	reader, ok := p.(HealthReader)
	if !ok || !p.Capabilities().TargetHealth {
		return nil
	}
	return reader
}

var errNoHealth = errors.New("the provider does not tell the health of targets")

// TargetHealth implements HealthReader, for a provider that is one.
func (l *limited) TargetHealth(ctx context.Context, owner Owner, resources []Resource) (healths []TargetHealth, err error) {
	reader, ok := l.Provider.(HealthReader)
	if !ok {
		return nil, errNoHealth
	}
	err = l.do(ctx, Read, "TargetHealth", func(ctx context.Context) error {
		healths, err = reader.TargetHealth(ctx, owner, resources)
		return err
	})
	return healths, err
}
