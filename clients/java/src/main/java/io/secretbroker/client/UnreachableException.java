package io.secretbroker.client;

/** The broker can't be reached, or the connection broke. */
public final class UnreachableException extends SecretBrokerException {
  private static final long serialVersionUID = 1;

  UnreachableException(String address, String detail, Throwable cause) {
    super(address + " can't be reached: " + detail + "; is the broker running there?", cause);
  }

  @Override
  public boolean isTransient() {
    return true;
  }
}
