package io.secretbroker.client;

import java.util.Optional;

/**
 * What became of one name of {@link Client#getMany}: a secret, or why there is none.
 *
 * @param name the name that was asked for
 * @param secret the secret
 * @param error why there is none
 */
public record Result(String name, Optional<Secret> secret, Optional<SecretBrokerException> error) {
  /**
   * The secret.
   *
   * @return the secret
   * @throws SecretBrokerException why there is none
   */
  public Secret get() {
    return secret.orElseThrow(() -> error.orElseThrow());
  }
}
