package secretbroker

import (
	"testing"
	"time"
)

func TestWaitsAreSpreadAndBounded(t *testing.T) {
	var waits backoff
	seen := make(map[time.Duration]bool)
	for range 50 {
		bound := max(waits.bound, firstBound)
		wait := waits.wait(nil)
		if wait > bound {
			t.Error(wait, bound)
		}
		seen[wait] = true
	}
	if len(seen) < 45 || waits.bound != lastBound {
		t.Error(len(seen), waits.bound)
	}
	if asked := waits.wait(&RefusedError{RetryAfter: 7 * time.Second}); asked != 7*time.Second {
		t.Error(asked)
	}
	if waits.reset(); waits.wait(nil) > firstBound {
		t.Error("it does not start over")
	}
}
