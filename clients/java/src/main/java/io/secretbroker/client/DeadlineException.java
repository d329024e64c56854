package io.secretbroker.client;

import java.time.Duration;

/** No answer came in time. */
public final class DeadlineException extends SecretBrokerException {
  private static final long serialVersionUID = 1;

  DeadlineException(String address, Duration deadline) {
    super("no answer from " + address + " within " + deadline.toMillis() / 1000.0 + " s", null);
  }

  @Override
  public boolean isTransient() {
    return true;
  }
}
