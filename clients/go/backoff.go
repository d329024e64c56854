package secretbroker

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstBound = 100 * time.Millisecond
	lastBound  = 5 * time.Second
)

// A backoff spreads attempts by full jitter over a bound that doubles from 0.1 to 5 seconds, or waits as long as the
// broker asks. The zero value starts at the first bound.
type backoff struct{ bound time.Duration }

// reset starts over, after something worked.
func (b *backoff) reset() { b.bound = 0 }

// wait is the time before the next attempt, after an error or nil.
func (b *backoff) wait(err error) time.Duration {
	bound := max(b.bound, firstBound)
	b.bound = min(2*bound, lastBound)
	if asked := RetryAfter(err); asked > 0 {
		return asked
	}
	return time.Duration(rand.Float64() * float64(bound))
}

// pause waits, or returns when the context ends.
func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
