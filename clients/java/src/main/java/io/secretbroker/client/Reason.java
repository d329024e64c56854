package io.secretbroker.client;

/** The broker's machine-readable reason of an error or of staleness. */
public enum Reason {
  /** None was given. */
  UNSPECIFIED,
  /** The caller showed no identity that the broker accepts. */
  UNAUTHENTICATED,
  /** The secret does not exist, or the caller may not do this with it. */
  DENIED,
  /** The request is malformed. */
  INVALID_REQUEST,
  /** The source can't be reached. */
  SOURCE_UNAVAILABLE,
  /** The source is sealed or not ready to serve. */
  SOURCE_SEALED,
  /** The source, or the broker's budget of calls to it, asks to slow down. */
  SOURCE_THROTTLED,
  /** The source did not answer in time. */
  SOURCE_TIMEOUT,
  /** The source refuses the broker this secret. */
  SOURCE_FORBIDDEN,
  /** The source refuses the broker's own login. */
  SOURCE_UNAUTHENTICATED,
  /** The source has no such secret. */
  SOURCE_NOT_FOUND,
  /** The source's answer can't be understood. */
  SOURCE_INVALID,
  /** The version came to its end and no successor could be had. */
  EXPIRED,
  /** The version was revoked at its source. */
  REVOKED,
  /** The secret was taken out of the catalogue, or the caller's right to it was. */
  WITHDRAWN,
  /** The access could not be audited, so it was not given. */
  AUDIT_UNAVAILABLE,
  /** A limit on calls, streams or connections is reached. */
  LIMIT_EXCEEDED,
  /** The caller's deadline passed. */
  DEADLINE_EXCEEDED,
  /** The broker is shutting down. */
  SHUTTING_DOWN,
  /** The broker could not do its own work. */
  INTERNAL;

  /** Of the contract's name, with or without its prefix; {@link #UNSPECIFIED} for one that is not known here. */
  static Reason of(String name) {
    String bare = name.startsWith("ERROR_REASON_") ? name.substring("ERROR_REASON_".length()) : name;
    for (Reason reason : values()) {
      if (reason.name().equals(bare)) {
        return reason;
      }
    }
    return UNSPECIFIED;
  }
}
