// Package wait waits for what only asking again can tell.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTimeout is of a wait that was in vain.
var ErrTimeout = errors.New("not in time")

// Poll calls done at once and then every interval until it says so, returns an error, or time runs out, which is an
// ErrTimeout; the last error of unfinished then says what was missing.
func Poll(ctx context.Context, interval, limit time.Duration, what string, done func() (ok bool, unfinished, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, unfinished, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waiting %s for %s: %w: %w", limit, what, ErrTimeout, unfinished)
			}
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(interval):
		}
	}
}
