package io.secretbroker.client.sql;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/** The open connections of a data source by the generation of the login. */
final class Fleet {
  private static final long AGAIN_MILLIS = 200;

  private final Map<Long, Integer> open = new TreeMap<>();
  private final Map<CompletableFuture<Void>, Long> waiting = new LinkedHashMap<>();

  synchronized void add(long generation) {
    open.merge(generation, 1, Integer::sum);
  }

  void remove(long generation) {
    synchronized (this) {
      open.computeIfPresent(generation, (same, count) -> count == 1 ? null : count - 1);
    }
    settle();
  }

  /**
   * Completes once no connection of an earlier generation is open. Until then the pool retires what it has again and
   * again: a connection that was on its way may have come to it after the last time.
   */
  CompletableFuture<Void> noneBefore(long generation, Runnable retire, ScheduledExecutorService background) {
    CompletableFuture<Void> gone = new CompletableFuture<>();
    synchronized (this) {
      waiting.put(gone, generation);
    }
    settle();
    if (!gone.isDone()) {
      ScheduledFuture<?> retiring =
          background.scheduleWithFixedDelay(retire, 0, AGAIN_MILLIS, TimeUnit.MILLISECONDS);
      gone.thenRun(() -> retiring.cancel(false));
    }
    return gone;
  }

  private void settle() {
    List<CompletableFuture<Void>> settled = new ArrayList<>();
    synchronized (this) {
      waiting.entrySet().removeIf(entry -> {
        boolean gone = open.keySet().stream().noneMatch(generation -> generation < entry.getValue());
        return gone && settled.add(entry.getKey());
      });
    }
    settled.forEach(gone -> gone.complete(null));
  }
}
