package io.secretbroker.client;

/** The client was told something that can't work: an address, a file, a name. */
public final class ConfigurationException extends SecretBrokerException {
  private static final long serialVersionUID = 1;

  /**
   * Of a message.
   *
   * @param message what can't work, and what would
   */
  public ConfigurationException(String message) {
    super(message, null);
  }

  @Override
  public boolean isTransient() {
    return false;
  }
}
