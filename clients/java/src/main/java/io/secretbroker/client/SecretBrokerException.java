package io.secretbroker.client;

/** Why a call failed: ours, the network's, or the broker's answer. No message ever holds a value. */
public abstract sealed class SecretBrokerException extends RuntimeException
    permits ConfigurationException, TlsException, UnreachableException, DeadlineException, RefusedException {
  private static final long serialVersionUID = 1;

  SecretBrokerException(String message, Throwable cause) {
    super(message, cause);
  }

  /**
   * Whether the same call may succeed without anybody changing the request.
   *
   * @return false when it can't
   */
  public abstract boolean isTransient();
}
