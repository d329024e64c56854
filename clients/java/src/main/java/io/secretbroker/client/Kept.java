package io.secretbroker.client;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** What all handles of one secret share: one thread follows the broker, others call hooks and report. */
final class Kept {
  final String name;
  final Client client;
  int handles; // guarded by Lives
  volatile Secret current;

  private final boolean reports;
  private final Watch watch;
  private final Map<Object, Subscribed> hooks = new ConcurrentHashMap<>();
  private final ScheduledExecutorService background;
  private final ExecutorService threads;
  private SecretBrokerException standing; // this and all below guarded by this
  private boolean hasValue;
  private boolean fatal;
  private boolean ended;

  /** A hook, the version that was current when it was set, of which it is not told, and what ends waiting for it. */
  private record Subscribed(Hook hook, Secret since, CompletableFuture<Void> removed) {}

  Kept(Client client, String name, boolean reports) {
    this.client = client;
    this.name = name;
    this.reports = reports;
    this.current = Secret.empty(name);
    this.watch = client.watch(name);
    this.background = Executors.newScheduledThreadPool(2, task -> daemon(task, "background"));
    this.threads = Executors.newCachedThreadPool(task -> daemon(task, "hook"));
    daemon(this::follow, "watch").start();
  }

  private Thread daemon(Runnable task, String what) {
    Thread thread = new Thread(task, "secret-broker-" + what + "-" + name);
    thread.setDaemon(true);
    return thread;
  }

  synchronized void end() {
    watch.close();
    background.shutdownNow();
    threads.shutdown();
    hooks.clear();
    ended = true;
    current = Secret.empty(name);
    notifyAll();
  }

  synchronized Optional<SecretBrokerException> standing() {
    return Optional.ofNullable(standing);
  }

  synchronized void subscribe(Object key, Hook hook) {
    hooks.put(key, new Subscribed(hook, current, new CompletableFuture<>()));
  }

  void unsubscribe(Object key) {
    Subscribed subscribed = hooks.remove(key);
    if (subscribed != null) {
      subscribed.removed().complete(null);
    }
  }

  ScheduledExecutorService background() {
    return background;
  }

  /** Runs hooks that block. */
  Executor threads() {
    return threads;
  }

  /** Waits for the first value, and says why there is none. */
  synchronized void settle(Duration deadline) {
    long end = System.nanoTime() + deadline.toNanos();
    while (!hasValue && !fatal && !ended && await(end)) {
      continue;
    }
    if (hasValue) {
      return;
    }
    throw Optional.ofNullable(standing).or(watch::failure)
        .orElseGet(() -> new DeadlineException(client.address(), deadline));
  }

  /** Waits for a later generation; false when none came in time. */
  synchronized boolean awaitAfter(long generation, Duration within) {
    long end = System.nanoTime() + within.toNanos();
    while (current.generation() <= generation && !ended && await(end)) {
      continue;
    }
    return current.generation() > generation;
  }

  /** Waits for a change; false when the time is over or the thread was interrupted. */
  private boolean await(long end) {
    try {
      long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
      if (left <= 0) {
        return false;
      }
      wait(left);
      return true;
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return false;
    }
  }

  private void follow() {
    while (!isEnded()) {
      try {
        while (watch.hasNext()) {
          show(watch.next());
        }
      } catch (SecretBrokerException error) { // trying again is of no use now, but the right may come back
        lose(error, true);
        watch.forget(); // so that it tells of the version that is held when that is served again
        watch.pause(Backoff.LAST_BOUND);
      }
    }
  }

  private synchronized boolean isEnded() {
    return ended;
  }

  private synchronized void lose(SecretBrokerException error, boolean forGood) {
    standing = error;
    fatal = forGood;
    notifyAll();
  }

  private void show(Event event) {
    if (event.secret().isEmpty()) {
      lose(event.error().orElseGet(() -> new RefusedException(
          event.reason().orElse(Reason.UNSPECIFIED), name + " must not be used any more", null)), false);
      return;
    }
    Secret secret = event.secret().get();
    boolean isNew;
    synchronized (this) {
      if (ended) {
        return;
      }
      isNew = hasValue && !secret.sameVersion(current);
      current = secret;
      standing = null;
      hasValue = true;
      fatal = false;
      notifyAll();
    }
    if (isNew) {
      tell(secret);
    }
  }

  private void tell(Secret secret) {
    List<CompletableFuture<?>> taken = hooks.values().stream()
        .filter(subscribed -> !secret.sameVersion(subscribed.since()))
        .<CompletableFuture<?>>map(
            subscribed -> CompletableFuture.anyOf(call(subscribed.hook(), secret), subscribed.removed())).toList();
    if (reports) {
      long generation = secret.generation(); // a version is not to be kept for a hook that is slow
      CompletableFuture.allOf(taken.toArray(CompletableFuture<?>[]::new))
          .thenRun(() -> later(() -> report(generation, new Backoff()), Duration.ZERO));
    }
  }

  /** A hook that fails has not taken the version over. */
  private static CompletableFuture<?> call(Hook hook, Secret secret) {
    try {
      return hook.changed(secret).toCompletableFuture();
    } catch (Throwable error) { // whatever it is, the handle goes on
      return CompletableFuture.failedFuture(error);
    }
  }

  private void later(Runnable task, Duration wait) {
    synchronized (this) {
      if (!ended) {
        background.schedule(task, wait.toNanos(), TimeUnit.NANOSECONDS);
      }
    }
  }

  private void report(long generation, Backoff backoff) {
    Secret secret = current;
    if (secret.generation() != generation) {
      return; // what is reported of a later version speaks for this one
    }
    try {
      client.report(secret, Outcome.APPLIED);
    } catch (SecretBrokerException error) {
      if (error.isTransient()) {
        later(() -> report(generation, backoff), backoff.after(error));
      }
    } catch (java.util.concurrent.CancellationException closed) {
      // The handle was closed.
    }
  }
}
