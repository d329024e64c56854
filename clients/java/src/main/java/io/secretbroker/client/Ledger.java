package io.secretbroker.client;

import io.secretbroker.client.internal.proto.SecretResult;
import io.secretbroker.client.internal.proto.WatchEventType;
import io.secretbroker.client.internal.proto.WatchSecretsResponse;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;

/**
 * What a watcher has seen: turns the broker's messages into events, each version once. It survives reconnects and is
 * what a stream resumes from.
 */
final class Ledger {
  private final Map<String, Sighting> seen = new TreeMap<>();

  private record Sighting(long generation, String version) {}

  void note(Secret secret) {
    seen.put(secret.name(), new Sighting(secret.generation(), secret.version()));
  }

  void clear() {
    seen.clear();
  }

  Map<String, Long> generations() {
    Map<String, Long> all = new TreeMap<>();
    seen.forEach((name, sighting) -> all.put(name, sighting.generation()));
    return all;
  }

  /** The events of one message, in its order. */
  List<Event> take(WatchSecretsResponse message) {
    switch (message.getType()) {
      case WATCH_EVENT_TYPE_SNAPSHOT:
        return snapshot(message);
      case WATCH_EVENT_TYPE_REVOKED:
        seen.remove(message.getName());
        return List.of(Event.revoked(message.getName(), Reason.of(message.getReason().name())));
      default:
        return changes(message);
    }
  }

  private List<Event> changes(WatchSecretsResponse message) {
    List<Event> events = new ArrayList<>();
    message.getSecretsList()
        .forEach(secret -> changed(message.getType(), Secret.of(secret)).ifPresent(events::add));
    return events;
  }

  private List<Event> snapshot(WatchSecretsResponse message) {
    Set<String> named = new HashSet<>(message.getUnchangedList());
    message.getSecretsList().forEach(secret -> named.add(secret.getName()));
    List<Event> events = changes(message);
    for (SecretResult result : message.getUnavailableList()) {
      named.add(result.getName());
      seen.remove(result.getName());
      if (result.hasError()) {
        events.add(Event.unavailable(result.getName(), Errors.of(result.getError())));
      }
    }
    for (String name : List.copyOf(seen.keySet())) {
      if (!named.contains(name)) {
        seen.remove(name);
        events.add(Event.revoked(name, Reason.WITHDRAWN));
      }
    }
    return events;
  }

  /**
   * A version not seen before is a rotation whatever the message calls it: the broker may have left out the message that
   * lay between.
   */
  private Optional<Event> changed(WatchEventType kind, Secret secret) {
    Sighting before = seen.get(secret.name());
    note(secret);
    if (before == null) {
      return Optional.of(Event.of(Event.Type.CURRENT, secret));
    }
    if (!before.equals(seen.get(secret.name()))) {
      return Optional.of(Event.of(Event.Type.ROTATED, secret));
    }
    return unchanged(kind).map(type -> Event.of(type, secret));
  }

  /** What messages about a version that was seen already are told as. */
  private static Optional<Event.Type> unchanged(WatchEventType kind) {
    return switch (kind) {
      case WATCH_EVENT_TYPE_RENEWED -> Optional.of(Event.Type.RENEWED);
      case WATCH_EVENT_TYPE_EXPIRING -> Optional.of(Event.Type.EXPIRING);
      case WATCH_EVENT_TYPE_STALE -> Optional.of(Event.Type.STALE);
      case WATCH_EVENT_TYPE_RECOVERED -> Optional.of(Event.Type.RECOVERED);
      default -> Optional.empty();
    };
  }
}
