package io.secretbroker.client;

import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.secretbroker.client.internal.proto.WatchSecretsRequest;
import io.secretbroker.client.internal.proto.WatchSecretsResponse;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * The changes of secrets, without an end: it reconnects and resumes from what it has seen.
 *
 * <p>Each version is told once, and none is missed but such as were replaced while the reader slept. Attempts are spread
 * by full jitter over a bound that doubles from 0.1 to 5 seconds, or wait as long as the broker asks. One thread reads;
 * any may close it.
 */
public final class Watch implements Iterator<Event>, AutoCloseable {
  private final Client client;
  private final List<String> names;
  private final Ledger seen = new Ledger();
  private final Queue<Event> ready = new ArrayDeque<>();
  private final CountDownLatch closed = new CountDownLatch(1);
  private final Context.CancellableContext context = Context.ROOT.withCancellation();
  private Iterator<WatchSecretsResponse> messages = Collections.emptyIterator();
  private final Backoff backoff = new Backoff();
  private boolean open;
  private volatile SecretBrokerException failure;

  Watch(Client client, List<String> names) {
    this.client = client;
    this.names = names;
  }

  /**
   * Versions that the caller holds already: the watch starts after them.
   *
   * @param secrets the versions
   * @return this
   */
  public Watch holding(Secret... secrets) {
    for (Secret secret : secrets) {
      seen.note(secret);
    }
    return this;
  }

  /**
   * Waits for the next event.
   *
   * @return false once the watch was closed, or the thread was interrupted
   * @throws SecretBrokerException when trying again can't help
   */
  @Override
  public boolean hasNext() {
    while (ready.isEmpty()) {
      if (closed.getCount() == 0 || Thread.currentThread().isInterrupted()) {
        return false;
      }
      advance();
    }
    return true;
  }

  @Override
  public Event next() {
    if (!hasNext()) {
      throw new NoSuchElementException("the watch was closed");
    }
    return ready.remove();
  }

  /** Ends the watch; a thread that waits for its next event goes on. */
  @Override
  public void close() {
    closed.countDown();
    context.cancel(null);
  }

  /** Why nothing was heard at the last attempt; empty when something was. */
  Optional<SecretBrokerException> failure() {
    return Optional.ofNullable(failure);
  }

  /** Takes nothing for seen any more: what is current is told again. */
  void forget() {
    seen.clear();
  }

  private void advance() {
    RuntimeException error = null;
    try {
      if (!open) {
        messages = context.call(this::open);
        open = true;
      }
      if (messages.hasNext()) {
        backoff.reset();
        failure = null;
        ready.addAll(seen.take(messages.next()));
        return;
      }
    } catch (StatusRuntimeException broken) {
      error = client.explain(broken);
    } catch (Exception impossible) {
      throw new IllegalStateException(impossible);
    }
    open = false;
    survive(error);
    pause(backoff.after(error));
  }

  private Iterator<WatchSecretsResponse> open() {
    WatchSecretsRequest request = WatchSecretsRequest.newBuilder()
        .addAllNames(names).putAllSeenGenerations(seen.generations()).build();
    return ClientCalls.blockingServerStreamingCall(
        client.connection().fresh(), Calls.WATCH, CallOptions.DEFAULT, request);
  }

  /** Throws what trying again can't help; being closed, interrupted or cut off by the other side is none of it. */
  private void survive(RuntimeException error) {
    if (error instanceof SecretBrokerException explained) {
      failure = explained;
      if (!explained.isTransient()) {
        throw explained;
      }
    }
  }

  /** Waits before the next attempt. */
  void pause(Duration wait) {
    try {
      closed.await(wait.toNanos(), TimeUnit.NANOSECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
