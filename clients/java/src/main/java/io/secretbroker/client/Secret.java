package io.secretbroker.client;

import com.google.protobuf.Timestamp;
import io.secretbroker.client.internal.proto.PreviousSecret;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.SortedSet;

/**
 * A version of a secret with all that says how far it can be trusted.
 *
 * <p>It may be shared between threads. Its values are wiped when it is closed, or else when it is found unreachable. It
 * prints without them.
 */
public final class Secret implements AutoCloseable {
  private final String name;
  private final Values values;
  private final String version;
  private final long generation;
  private final Instant issuedAt;
  private final Instant expiresAt;
  private final Long ends;
  private final Freshness freshness;
  private final Previous previous;

  private Secret(io.secretbroker.client.internal.proto.Secret from, long now) {
    name = from.getName();
    values = Values.taking(from.getFieldsMap());
    version = from.getVersion();
    generation = from.getGeneration();
    issuedAt = from.hasIssueTime() ? instant(from.getIssueTime()) : null;
    expiresAt = from.hasExpireTime() ? instant(from.getExpireTime()) : null;
    ends = from.hasTimeLeft() ? now + duration(from.getTimeLeft()).toNanos() : null;
    freshness = freshness(from);
    previous = from.hasPrevious() ? new Previous(from.getPrevious(), now, brokerNow(now)) : null;
  }

  static Secret of(io.secretbroker.client.internal.proto.Secret from) {
    return new Secret(from, System.nanoTime());
  }

  /** A secret of which nothing is held. */
  static Secret empty(String name) {
    return of(io.secretbroker.client.internal.proto.Secret.newBuilder().setName(name).build());
  }

  /**
   * The name in the broker's catalogue.
   *
   * @return the name
   */
  public String name() {
    return name;
  }

  /**
   * A copy of the bytes of a field, the caller's to wipe.
   *
   * @param field the field's name
   * @return empty when there is no such field
   */
  public Optional<byte[]> field(String field) {
    return values.field(field);
  }

  /**
   * A field as text. A string can't be wiped.
   *
   * @param field the field's name
   * @return empty when there is no such field, or it is not UTF-8
   */
  public Optional<String> text(String field) {
    return values.text(field);
  }

  /**
   * The names of the fields.
   *
   * @return the names, sorted
   */
  public SortedSet<String> fieldNames() {
    return values.names();
  }

  /**
   * The version at the source; equal versions have equal values.
   *
   * @return the version
   */
  public String version() {
    return version;
  }

  /**
   * Grows with each new version that the broker serves.
   *
   * @return the generation
   */
  public long generation() {
    return generation;
  }

  /**
   * When the version was issued, by the broker's clock.
   *
   * @return empty when that is not known
   */
  public Optional<Instant> issuedAt() {
    return Optional.ofNullable(issuedAt);
  }

  /**
   * When the version ends, by the broker's clock.
   *
   * @return empty when nothing ends it
   */
  public Optional<Instant> expiresAt() {
    return Optional.ofNullable(expiresAt);
  }

  /**
   * The time left now, by this machine's monotonic clock.
   *
   * @return empty when nothing ends the version
   */
  public Optional<Duration> timeLeft() {
    return Optional.ofNullable(ends).map(end -> Duration.ofNanos(Math.max(0, end - System.nanoTime())));
  }

  /**
   * Whether the source still confirms the version.
   *
   * @return what the broker said in this reply
   */
  public Freshness freshness() {
    return freshness;
  }

  /**
   * The version before, while it overlaps this one.
   *
   * @return empty when there is none, or its time is over
   */
  public Optional<Previous> previous() {
    return Optional.ofNullable(previous).filter(Previous::isValid);
  }

  boolean sameVersion(Secret other) {
    return generation == other.generation && version.equals(other.version);
  }

  /**
   * Wipes the values, also those of the version before. No other thread may be reading them; a secret of a live handle is
   * shared and not to be closed.
   */
  @Override
  public void close() {
    values.wipe();
    if (previous != null) {
      previous.wipe();
    }
  }

  @Override
  public String toString() {
    return "Secret(" + name + " generation " + generation + " fields " + fieldNames() + " " + freshness
        + (previous == null ? "" : " " + previous) + ")";
  }

  /** The broker's clock at the time of the reply, as far as it can be told; by ours where nothing ends the version. */
  private Instant brokerNow(long now) {
    return ends == null || expiresAt == null ? Instant.now() : expiresAt.minusNanos(ends - now);
  }

  private static Freshness freshness(io.secretbroker.client.internal.proto.Secret from) {
    if (from.getFreshness() != io.secretbroker.client.internal.proto.Freshness.FRESHNESS_STALE) {
      return Freshness.FRESH;
    }
    return new Freshness(true, Reason.of(from.getStaleReason().name()), duration(from.getStaleFor()));
  }

  static Instant instant(Timestamp from) {
    return Instant.ofEpochSecond(from.getSeconds(), from.getNanos());
  }

  static Duration duration(com.google.protobuf.Duration from) {
    return Duration.ofSeconds(from.getSeconds(), from.getNanos());
  }

  /**
   * Whether the source of a secret still confirms it.
   *
   * @param isStale true when the source could not be asked or did not answer; the value is within its limit
   * @param reason why it is stale
   * @param since how long it had been stale at the time of the reply
   */
  public record Freshness(boolean isStale, Reason reason, Duration since) {
    static final Freshness FRESH = new Freshness(false, Reason.UNSPECIFIED, Duration.ZERO);

    @Override
    public String toString() {
      return isStale ? "stale: " + reason : "fresh";
    }
  }

  /** The version before, while it is still accepted. It prints without its values. */
  public static final class Previous {
    private final Values values;
    private final String version;
    private final long generation;
    private final Instant validUntil;
    private final Long ends;

    private Previous(PreviousSecret from, long now, Instant brokerNow) {
      values = Values.taking(from.getFieldsMap());
      version = from.getVersion();
      generation = from.getGeneration();
      validUntil = from.hasValidUntil() ? instant(from.getValidUntil()) : null;
      // The time left was rounded down by up to a second.
      ends = validUntil == null ? null : now + Duration.between(brokerNow, validUntil).plusSeconds(1).toNanos();
    }

    private boolean isValid() {
      return ends == null || ends - System.nanoTime() > 0;
    }

    private void wipe() {
      values.wipe();
    }

    /**
     * A copy of the bytes of a field, the caller's to wipe.
     *
     * @param field the field's name
     * @return empty when there is no such field
     */
    public Optional<byte[]> field(String field) {
      return values.field(field);
    }

    /**
     * A field as text. A string can't be wiped.
     *
     * @param field the field's name
     * @return empty when there is no such field, or it is not UTF-8
     */
    public Optional<String> text(String field) {
      return values.text(field);
    }

    /**
     * The names of the fields.
     *
     * @return the names, sorted
     */
    public SortedSet<String> fieldNames() {
      return values.names();
    }

    /**
     * The version at the source.
     *
     * @return the version
     */
    public String version() {
      return version;
    }

    /**
     * Its generation.
     *
     * @return the generation
     */
    public long generation() {
      return generation;
    }

    /**
     * Until when it is accepted at the latest, by the broker's clock.
     *
     * @return empty when that is not known
     */
    public Optional<Instant> validUntil() {
      return Optional.ofNullable(validUntil);
    }

    @Override
    public String toString() {
      return "Previous(generation " + generation + " fields " + fieldNames() + ")";
    }
  }
}
