package io.secretbroker.client;

import java.time.Duration;
import java.util.Optional;

/** The broker answered that it will not do what was asked. */
public final class RefusedException extends SecretBrokerException {
  private static final long serialVersionUID = 1;

  /** Why. */
  private final Reason reason;

  /** How long to wait; null when that won't help. */
  private final Duration retryAfter;

  RefusedException(Reason reason, String message, Duration retryAfter) {
    super(message + " (" + reason + ")", null);
    this.reason = reason;
    this.retryAfter = retryAfter;
  }

  /**
   * Why.
   *
   * @return the broker's reason
   */
  public Reason reason() {
    return reason;
  }

  /**
   * How long the broker asks to wait before asking again.
   *
   * @return empty when asking again won't help
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  @Override
  public boolean isTransient() {
    return switch (reason) {
      case DENIED, INVALID_REQUEST, UNAUTHENTICATED -> false;
      default -> true;
    };
  }
}
