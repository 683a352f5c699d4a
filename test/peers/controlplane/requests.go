package controlplane

import (
	"context"
	"sync"
	"time"
)

// AtOnce is how many requests InParallel has in flight.
const AtOnce = 16

// Operation is one step of a load, as a rule one request.
type Operation func(context.Context) error

// InParallel does operations in their order, AtOnce at a time, as fast as the API server takes them.
func InParallel(ctx context.Context, operations []Operation) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan Operation)
	var wg sync.WaitGroup
	for range min(AtOnce, len(operations)) {
		wg.Go(func() {
			for op := range queue {
				if err := op(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, op := range operations {
		if ctx.Err() != nil {
			break
		}
		queue <- op
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// ByClock begins operations at even intervals, whether or not those before are done. It returns how far behind its clock
// it was at worst.
func ByClock(ctx context.Context, perSecond int, operations []Operation) (late time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	interval := time.Second / time.Duration(perSecond)
	begin := time.Now()
	var wg sync.WaitGroup
	for i, op := range operations {
		due := begin.Add(time.Duration(i) * interval)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
		if ctx.Err() != nil {
			break
		}
		late = max(late, time.Since(due))
		wg.Go(func() {
			if err := op(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return late, context.Cause(ctx)
}
