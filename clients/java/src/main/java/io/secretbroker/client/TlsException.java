package io.secretbroker.client;

/** The broker and this client do not accept each other's certificates. */
public final class TlsException extends SecretBrokerException {
  private static final long serialVersionUID = 1;

  TlsException(String address, Throwable cause) {
    super("TLS with " + address + " failed: " + cause.getMessage(), cause);
  }

  @Override
  public boolean isTransient() {
    return true;
  }
}
