package io.secretbroker.client;

import java.util.Optional;

/**
 * What happened to a watched secret, with its full state.
 *
 * @param type what happened
 * @param name the name of the secret
 * @param secret its state, where a value can be had: not for {@code REVOKED} and {@code UNAVAILABLE}
 * @param reason why, for {@code REVOKED}
 * @param error why, for {@code UNAVAILABLE}
 */
public record Event(
    Type type, String name, Optional<Secret> secret, Optional<Reason> reason, Optional<RefusedException> error) {
  /** What can happen to a watched secret. */
  public enum Type {
    /** The version that is current when the watch begins to see this secret. */
    CURRENT,
    /** A new version is served, also one that came while the connection was lost. */
    ROTATED,
    /** The same version ends later. */
    RENEWED,
    /** The version ends soon, and no successor could be had yet. */
    EXPIRING,
    /** The source could not confirm the version when it was due. */
    STALE,
    /** The source confirms the version again. */
    RECOVERED,
    /** The value must not be used any more. */
    REVOKED,
    /** No value can be had now; the next one comes as {@link #CURRENT}. */
    UNAVAILABLE
  }

  static Event of(Type type, Secret secret) {
    return new Event(type, secret.name(), Optional.of(secret), Optional.empty(), Optional.empty());
  }

  static Event revoked(String name, Reason reason) {
    return new Event(Type.REVOKED, name, Optional.empty(), Optional.of(reason), Optional.empty());
  }

  static Event unavailable(String name, RefusedException error) {
    return new Event(Type.UNAVAILABLE, name, Optional.empty(), Optional.empty(), Optional.of(error));
  }
}
