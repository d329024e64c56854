package io.secretbroker.client;

import io.secretbroker.client.internal.proto.SecretMetadata;
import java.time.Instant;
import java.util.Optional;

/**
 * What is known of a secret without its value.
 *
 * @param name the name
 * @param category the category, such as {@code database}
 * @param state where it stands in its life: {@code FRESH}, {@code ABSENT}, …
 * @param version the current version; empty when none is held
 * @param generation the current generation; 0 when none is held
 * @param issuedAt when the version was issued
 * @param expiresAt when the version ends; empty when nothing ends it
 * @param reason why the state is not fresh
 */
public record Metadata(
    String name, String category, String state, String version, long generation,
    Optional<Instant> issuedAt, Optional<Instant> expiresAt, Reason reason) {
  static Metadata of(SecretMetadata from) {
    return new Metadata(
        from.getName(), from.getCategory(), from.getState().name().replace("SECRET_STATE_", ""),
        from.getVersion(), from.getGeneration(),
        from.hasIssueTime() ? Optional.of(Secret.instant(from.getIssueTime())) : Optional.empty(),
        from.hasExpireTime() ? Optional.of(Secret.instant(from.getExpireTime())) : Optional.empty(),
        Reason.of(from.getReason().name()));
  }
}
