package io.secretbroker.client;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The live secrets of a client, by name: handles of one secret share what keeps it. */
final class Lives {
  private final Map<String, Kept> kept = new HashMap<>();

  synchronized Kept keep(Client client, String name, boolean reports) {
    Kept found = kept.computeIfAbsent(name, unknown -> new Kept(client, name, reports));
    found.handles++;
    return found;
  }

  void release(Kept released) {
    synchronized (this) {
      if (--released.handles > 0) {
        return;
      }
      kept.remove(released.name, released);
    }
    released.end();
  }

  void close() {
    List<Kept> all;
    synchronized (this) {
      all = new ArrayList<>(kept.values());
      kept.clear();
    }
    all.forEach(Kept::end);
  }
}
