package process

import (
	"context"
	"time"
)

// Supervise keeps a program running until ctx ends: start starts it (again). ended, which may be nil, hears of
// every end and of every failure to start. The wait before a new start doubles from 0.1 s to 5 s, and begins anew
// once the program has run for 10 s.
//
// The program is not ended with ctx; the process namespace does that.
func Supervise(ctx context.Context, start func() (*Process, error), ended func(*Process, error)) {
	const (
		shortest = 100 * time.Millisecond
		longest  = 5 * time.Second
		steady   = 10 * time.Second
	)
	wait := shortest
	for ctx.Err() == nil {
		begun := time.Now()
		p, err := start()
		if err == nil {
			select {
			case <-p.Done():
			case <-ctx.Done():
				return
			}
		}
		if ended != nil {
			ended(p, err)
		}
		if time.Since(begun) > steady {
			wait = shortest
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, longest)
	}
}
