package io.secretbroker.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Spreads attempts by full jitter over a bound that doubles from 0.1 to 5 seconds, or waits as long as the broker asks. Of
 * one thread at a time.
 */
final class Backoff {
  static final Duration FIRST_BOUND = Duration.ofMillis(100);
  static final Duration LAST_BOUND = Duration.ofSeconds(5);

  private Duration bound = FIRST_BOUND;

  /** Starts over, after something worked. */
  void reset() {
    bound = FIRST_BOUND;
  }

  /** The time before the next attempt; the error may be null. */
  Duration after(RuntimeException error) {
    Duration jittered = Duration.ofNanos(ThreadLocalRandom.current().nextLong(bound.toNanos()));
    Duration twice = bound.multipliedBy(2);
    bound = twice.compareTo(LAST_BOUND) < 0 ? twice : LAST_BOUND;
    Optional<Duration> asked = error instanceof RefusedException refused ? refused.retryAfter() : Optional.empty();
    return asked.orElse(jittered);
  }
}
