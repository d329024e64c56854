package io.secretbroker.client;

import java.time.Duration;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;

/**
 * A handle that always has the current version of a secret, without a call: reading it is reading a field.
 *
 * <p>Handles of one client for one secret share a watch, which ends with the last of them. What was held last stays when
 * the broker goes away, and when it can give none: {@link #standing} says so. Once all hooks took a version over, it is
 * reported as applied, so that the broker can revoke the ones before.
 */
public final class Live implements AutoCloseable {
  private final Lives lives;
  private final Kept kept;
  private final Set<Object> hooks = ConcurrentHashMap.newKeySet();
  private final AtomicBoolean closed = new AtomicBoolean();

  Live(Lives lives, Kept kept, Duration deadline) {
    this.lives = lives;
    this.kept = kept;
    try {
      kept.settle(deadline);
    } catch (RuntimeException error) {
      close();
      throw error;
    }
  }

  /**
   * The name in the broker's catalogue.
   *
   * @return the name
   */
  public String name() {
    return kept.name;
  }

  /**
   * The version to use now. It is shared and not to be closed. After the last handle of a secret was closed it has no
   * fields.
   *
   * @return the version
   */
  public Secret current() {
    return kept.current;
  }

  /**
   * The version before, while it overlaps the current one.
   *
   * @return empty when there is none, or its time is over
   */
  public Optional<Secret.Previous> previous() {
    return current().previous();
  }

  /**
   * Why the broker does not serve the version that is held: it must not be used any more, or none can be given now.
   *
   * @return empty while it is served
   */
  public Optional<SecretBrokerException> standing() {
    return kept.standing();
  }

  /**
   * Has a hook called with each new version from now on.
   *
   * @param hook the hook
   * @return ends that when it is closed
   */
  public Subscription onChangeAsync(Hook hook) {
    Object key = new Object();
    hooks.add(key);
    kept.subscribe(key, hook);
    return () -> kept.unsubscribe(key);
  }

  /**
   * Has a hook called with new versions from now on, one after the other and in a thread of its own. It has taken a
   * version over when it returns. One that is slow may skip versions in between.
   *
   * @param hook the hook
   * @return ends that when it is closed
   */
  public Subscription onChange(Consumer<Secret> hook) {
    return onChangeAsync(new Turns(hook, kept.threads()));
  }

  /**
   * Waits for a later version than this.
   *
   * @param generation the generation that the caller has
   * @param within how long to wait
   * @return false when none came in time, the thread was interrupted, or the handle is closed
   */
  public boolean awaitAfter(long generation, Duration within) {
    return kept.awaitAfter(generation, within);
  }

  /**
   * Tells the broker that the target refused a version, so that it fetches a fresh one, and waits for that until the
   * client's deadline.
   *
   * @param secret the version
   * @param detail what the target said; must not contain a value
   * @return whether there is a later one
   */
  public boolean refused(Secret secret, String detail) {
    try {
      kept.client.report(secret, Outcome.refused(detail));
    } catch (SecretBrokerException error) {
      return current().generation() > secret.generation();
    }
    return awaitAfter(secret.generation(), kept.client.deadline());
  }

  /**
   * Runs what pools do in the background; ends with the handle.
   *
   * @return an executor of few threads
   */
  public ScheduledExecutorService background() {
    return kept.background();
  }

  /** Lets go of the secret; its value is wiped once nobody holds it. */
  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      // First: when it was the last handle, hooks that are taken away have not taken over what they were at.
      lives.release(kept);
      hooks.forEach(kept::unsubscribe);
    }
  }

  @Override
  public String toString() {
    return "Live(" + current() + ")";
  }

  /** A hook that can be taken away again. */
  @FunctionalInterface
  public interface Subscription extends AutoCloseable {
    /** Takes the hook away. */
    @Override
    void close();
  }
}
